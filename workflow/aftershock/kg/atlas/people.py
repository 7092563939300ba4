"""Languages, currencies and names of peoples of an atlas."""

from collections import defaultdict
from collections.abc import Iterable

from aftershock.kg.atlas.draft import DISAGREE, NOT_TOLD, ONE_ONLY, SEVERAL, UNKNOWN, Atlas, folded

OF_COUNTRY = "the name of the country itself"


def add_languages(atlas: Atlas) -> None:
    """Add official languages, the countries where they are official, and the only ones to their cities.

    CLDR and countryinfo must agree; scripts make no language.
    """
    names, same = atlas.sources.languages, atlas.spec["same_language"]

    def known(codes: Iterable[str]) -> set[str]:
        plain = (code.partition("_")[0] for code in codes)
        return {same.get(code, code) for code in plain}

    for code, country in atlas.countries.items():
        ours = known(atlas.sources.infos.get(code, {}).get("languages") or ())
        theirs = known(atlas.sources.official.get(code, ()))
        atlas.leave_out("official language", ONE_ONLY, len(ours ^ theirs))
        atlas.leave_out("official language", UNKNOWN, len((ours & theirs) - set(names)))
        languages = [
            atlas.entity("language", found, names[found]) for found in sorted(ours & theirs & set(names))
        ]
        for language in languages:
            atlas.state(country, "official language", language)
            atlas.state(language, "official in", country)
        cities = atlas.cities_in(country)
        if len(languages) == len(ours | theirs) == 1:
            for city in cities:
                atlas.state(city, "language of a city", languages[0])
        else:
            atlas.leave_out("language of a city", SEVERAL, len(cities))


def add_currencies(atlas: Atlas) -> None:
    """Add the currency of each country and of its cities, and the countries of each currency.

    GeoNames and CLDR must agree on a single one; countryinfo's are out of date.
    """
    for code, country in atlas.countries.items():
        named = atlas.sources.countries[code]["currencycode"]
        tender = atlas.sources.tender.get(code, frozenset())
        if len(tender) > 1:
            atlas.leave_out("currency", SEVERAL)
        elif not named or not tender:
            atlas.leave_out("currency", ONE_ONLY if named or tender else NOT_TOLD)
        elif tender != {named}:
            atlas.leave_out("currency", DISAGREE)
        elif named not in atlas.sources.currencies:
            atlas.leave_out("currency", UNKNOWN)
        else:
            currency = atlas.entity("currency", named, atlas.sources.currencies[named])
            atlas.aliases[currency].add(named)
            atlas.state(currency, "used in", country)
            for place in (country, *atlas.cities_in(country)):
                atlas.state(place, "currency", currency)


def add_demonyms(atlas: Atlas) -> None:
    """Add the word for the people of a country, where it is one word and means one country."""
    inhabitants: dict[str, dict[str, int]] = defaultdict(dict)
    for code, found in atlas.sources.countries.items():
        if word := atlas.sources.infos.get(code, {}).get("demonym"):
            inhabitants[word][code] = found["population"]
    for code, country in atlas.countries.items():
        word = atlas.sources.infos.get(code, {}).get("demonym")
        if atlas.is_reviewed("demonym", code):
            continue
        if not word:
            atlas.leave_out("demonym", NOT_TOLD)
            continue
        others = [number for other, number in inhabitants[word].items() if other != code]
        if folded(word) == folded(atlas.labels[country]):
            atlas.leave_out("demonym", OF_COUNTRY)
        elif "," in word or not atlas.dominates(inhabitants[word][code], others):
            atlas.leave_out("demonym", SEVERAL)
        else:
            demonym = atlas.entity("demonym", code, word)
            atlas.state(country, "demonym", demonym)
            atlas.state(demonym, "country of a demonym", country)
