"""The atlas: facts about countries, cities, languages and currencies from the data of three Python packages.

A fact is kept where it is a single clear one: where two packages tell it, they must agree; resources/atlas.yaml
lists what people have looked at and left out, and why. A name that cities of several countries bear is left
out unless one of them is by far the largest, so that a city's name says which city is meant. Everything that
is left out is counted with its reason.
"""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from aftershock.kg.atlas_sources import Sources
from aftershock.kg.graph import find_graph
from aftershock.kg.triples import LABEL, WIKIBASE, iri, literal

ALIAS = "http://www.w3.org/2004/02/skos/core#altLabel"

DISAGREE = "the packages disagree"
ONE_ONLY = "only one package tells it"
UNKNOWN = "a code or name that no package explains"
REVIEWED = "looked at and left out"
SEVERAL = "more than one answer"
NOT_TOLD = "not told"
NAMESAKE = "a name that another country's city bears"
OF_COUNTRY = "the name of a country"
ELSEWHERE = "a time zone of another continent"
TWICE = "a name that occurs twice in the country"
NO_CITY = "no city with a clear name"


class Entity(NamedTuple):
    """An entity before it gets its id: its kind, and its code within the kind."""

    kind: str
    code: str


def folded(name: str) -> str:
    """Return a name without case, accents and signs, as `Saint` where it begins with `St`."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    words = "".join(c if c.isalnum() else " " for c in plain if not unicodedata.combining(c)).split()
    return "".join("saint" if word == "st" else word for word in words)


class Atlas:
    """A graph that is being made of `sources` by `spec`, the contents of resources/atlas.yaml."""

    def __init__(self, sources: Sources, spec: Mapping[str, Any]) -> None:
        self.sources, self.spec = sources, spec
        self.facts: set[tuple[Entity, str, Entity]] = set()
        self.labels: dict[Entity, str] = {}
        self.aliases: dict[Entity, set[str]] = defaultdict(set)
        self.left_out: Counter[tuple[str, str]] = Counter()

    def entity(self, kind: str, code: str, label: str) -> Entity:
        """Return an entity, called `label` from now on."""
        found = Entity(kind, code)
        self.labels[found] = label.strip().removeprefix("The ")
        return found

    def state(self, subject: Entity, relation: str, found: Entity) -> None:
        """State a fact."""
        self.facts.add((subject, relation, found))

    def leave_out(self, relation: str, reason: str, number: int = 1) -> None:
        """Count facts of a relation that are left out."""
        self.left_out[relation, reason] += number

    def reviewed(self, relation: str, code: str) -> bool:
        """Return True, and count it, where a person has left out a country's fact."""
        found = code in self.spec["left_out"].get(relation, {})
        if found:
            self.leave_out(relation, REVIEWED)
        return found

    def of(self, relation: str, subject: Entity) -> list[Entity]:
        """Return the objects of a subject so far, sorted."""
        return sorted(found for s, r, found in self.facts if (s, r) == (subject, relation))

    @cached_property
    def countries(self) -> dict[str, Entity]:
        """The countries and territories of today, by ISO code."""
        now = {c: v for c, v in self.sources.countries.items() if c not in self.sources.dissolved}
        return {code: self.entity("country", code, found["name"]) for code, found in sorted(now.items())}

    @cached_property
    def cities_of(self) -> dict[str, list[Mapping[str, Any]]]:
        """GeoNames' cities of each country, the largest first."""
        found: dict[str, list[Mapping[str, Any]]] = {code: [] for code in self.countries}
        for city in self.sources.cities:
            if city["countrycode"] in found:
                found[city["countrycode"]].append(city)
        for cities in found.values():
            cities.sort(key=lambda city: (-city["population"], city["geonameid"]))
        return found


def add_places(atlas: Atlas) -> None:
    """Add the largest cities of each country and its capital, with the country and continent of each."""
    clear = _clear_cities(atlas)
    limits = atlas.spec["cities"]
    for code, country in atlas.countries.items():
        capital = _capital(atlas, code)
        taken = [c for c in clear[code] if c["population"] >= limits["least_population"]]
        taken = taken[: limits["per_country"]]
        if capital and capital["geonameid"] not in {city["geonameid"] for city in taken}:
            if capital["geonameid"] in {city["geonameid"] for city in clear[code]}:
                taken = [*taken[: limits["per_country"] - 1], capital]
            else:
                atlas.leave_out("capital", NO_CITY)
                capital = None
        for city in taken:
            entity = atlas.entity("city", str(city["geonameid"]), city["name"])
            atlas.aliases[entity] |= set(filter(_is_latin, city["alternatenames"]))
            atlas.state(entity, "country of a city", country)
            atlas.state(country, "city", entity)
            if capital and city["geonameid"] == capital["geonameid"]:
                atlas.state(country, "capital", entity)
                atlas.state(entity, "capital of", country)


def _clear_cities(atlas: Atlas) -> dict[str, list[Mapping[str, Any]]]:
    """The cities of each country, the largest first, whose names say which city is meant."""
    named: dict[str, dict[str, int]] = defaultdict(
        dict
    )  # the inhabitants of the largest city of a name, by country
    for code, cities in atlas.cities_of.items():
        for city in cities:
            named[folded(city["name"])].setdefault(code, city["population"])
    countries = {folded(atlas.labels[country]) for country in atlas.countries.values()}
    clear: dict[str, list[Mapping[str, Any]]] = {}
    for code, cities in atlas.cities_of.items():
        left_out = set(atlas.spec["left_out"].get("city", {}).get(code, ()))
        clear[code], seen = [], set()
        for city in cities:
            name = folded(city["name"])
            others = [population for other, population in named[name].items() if other != code]
            reason = None
            if city["name"] in left_out or any(char.isdigit() for char in name):
                reason = REVIEWED
            elif name in countries:
                reason = OF_COUNTRY
            elif name in seen:
                reason = TWICE
            elif city["population"] < atlas.spec["cities"]["dominance"] * max(others, default=0):
                reason = NAMESAKE
            seen.add(name)
            if reason is None:
                clear[code].append(city)
            elif city["population"] >= atlas.spec["cities"]["least_population"]:
                atlas.leave_out("country of a city", reason)
    return clear


def _capital(atlas: Atlas, code: str) -> Mapping[str, Any] | None:
    """The city that GeoNames and countryinfo both name as a country's only capital."""
    names = atlas.sources.countries[code]["capital"], atlas.sources.infos.get(code, {}).get("capital")
    if atlas.reviewed("capital", code):
        return None
    if any(isinstance(name, list) and len(name) > 1 for name in names):
        atlas.leave_out("capital", SEVERAL)
        return None
    one, other = (name[0] if isinstance(name, list) and name else name for name in names)
    if not one or not other:
        atlas.leave_out("capital", ONE_ONLY if one or other else NOT_TOLD)
        return None
    cities = _city_called(atlas, code, one), _city_called(atlas, code, other)
    if cities[0] is None or cities[0] is not cities[1]:
        atlas.leave_out("capital", DISAGREE if folded(one) != folded(other) else NO_CITY)
        return None
    return cities[0]


def _city_called(atlas: Atlas, code: str, name: str) -> Mapping[str, Any] | None:
    """The largest city of a country with a name, or else with such an alias."""
    wanted, cities = folded(name), atlas.cities_of[code]
    by_name = (city for city in cities if folded(city["name"]) == wanted)
    by_alias = (city for city in cities if wanted in map(folded, city["alternatenames"]))
    return next(by_name, None) or next(by_alias, None)


def add_continents(atlas: Atlas) -> None:
    """Add the continent and region of countries, of regions and of cities."""
    sources, spec = atlas.sources, atlas.spec
    regions = {folded(name): (code, name) for code, name in sources.territories.items() if code.isdigit()}
    members: dict[Entity, set[Entity | None]] = defaultdict(set)
    for code, country in atlas.countries.items():
        info, continent = sources.infos.get(code, {}), sources.countries[code]["continentcode"]
        told, found = spec["regions"].get(info.get("region")), None
        if told and continent in told:
            found = atlas.entity("continent", continent, sources.continents[continent])
            atlas.state(country, "continent", found)
        else:
            atlas.leave_out("continent", DISAGREE if told else ONE_ONLY)
        name = info.get("intermediateregion") or info.get("subregion")
        if name and folded(name) in regions:
            region = atlas.entity("region", *regions[folded(name)])
            members[region].add(found)
            atlas.state(country, "region", region)
        else:
            atlas.leave_out("region", UNKNOWN if name else NOT_TOLD)
    for region, continents in members.items():
        if len(continents) == 1 and (only := min(continents, default=None)):
            atlas.state(region, "continent", only)
        else:
            atlas.leave_out("continent", SEVERAL)
    areas = {str(city["geonameid"]): city["timezone"].partition("/")[0] for city in sources.cities}
    for city, country in _cities(atlas):
        for continent in atlas.of("continent", country):
            if continent.code in spec["zones"].get(areas[city.code], ()):
                atlas.state(city, "continent", continent)
            else:
                atlas.leave_out("continent", ELSEWHERE)


def add_languages(atlas: Atlas) -> None:
    """Add official languages, where they are official, and the language of cities of countries with one."""
    same, names = atlas.spec["same_language"], atlas.sources.languages
    cities = defaultdict(list)
    for city, country in _cities(atlas):
        cities[country].append(city)

    def known(codes: Iterable[str]) -> set[str]:
        plain = {code.partition("_")[0] for code in codes}
        return {same.get(code, code) for code in plain}

    for code, country in atlas.countries.items():
        ours = known(atlas.sources.infos.get(code, {}).get("languages") or ())
        theirs = known(atlas.sources.official.get(code, ()))
        atlas.leave_out("official language", ONE_ONLY, len(ours ^ theirs))
        languages = [
            atlas.entity("language", found, names[found]) for found in sorted(ours & theirs) if found in names
        ]
        for language in languages:
            atlas.state(country, "official language", language)
            atlas.state(language, "official in", country)
        if len(ours | theirs) == 1:
            for language in languages:
                for city in cities[country]:
                    atlas.state(city, "language of a city", language)
        else:
            atlas.leave_out("language of a city", SEVERAL, len(cities[country]))


def add_currencies(atlas: Atlas) -> None:
    """Add the currency of each country and of its cities, and the countries of each currency.

    countryinfo's currencies are out of date, so that CLDR's have to agree with GeoNames'.
    """
    cities = defaultdict(list)
    for city, country in _cities(atlas):
        cities[country].append(city)
    for code, country in atlas.countries.items():
        named, tender = (
            atlas.sources.countries[code]["currencycode"],
            atlas.sources.tender.get(code, frozenset()),
        )
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
            for place in (country, *cities[country]):
                atlas.state(place, "currency", currency)


def add_neighbours(atlas: Atlas) -> None:
    """Add the land borders that both GeoNames and countryinfo draw, from both sides."""
    by_three = {found["iso3"]: code for code, found in atlas.sources.countries.items()}
    drawn: Counter[tuple[str, str]] = Counter()
    for code in atlas.countries:
        theirs = set(atlas.sources.countries[code]["neighbours"].split(","))
        ours = {by_three.get(name) for name in atlas.sources.infos.get(code, {}).get("borders") or ()}
        for found in (ours, theirs):
            for other in found & set(atlas.countries):
                drawn[min(code, other), max(code, other)] += 1
    for (one, other), times in sorted(drawn.items()):
        if times == 4:
            atlas.state(atlas.countries[one], "neighbour", atlas.countries[other])
            atlas.state(atlas.countries[other], "neighbour", atlas.countries[one])
        else:
            atlas.leave_out("neighbour", DISAGREE)


def add_demonyms(atlas: Atlas) -> None:
    """Add what the people of a country are called, where the word means one country."""
    inhabitants: dict[str, dict[str, int]] = defaultdict(dict)
    for code in atlas.countries:
        if word := atlas.sources.infos.get(code, {}).get("demonym"):
            inhabitants[word][code] = atlas.sources.countries[code]["population"]
    for word, found in sorted(inhabitants.items()):
        for code, population in found.items():
            others = [number for other, number in found.items() if other != code]
            if atlas.reviewed("demonym", code):
                continue
            if folded(word) == folded(atlas.labels[atlas.countries[code]]):
                atlas.leave_out("demonym", OF_COUNTRY)
                continue
            if "," in word or population < atlas.spec["cities"]["dominance"] * max(others, default=0):
                atlas.leave_out("demonym", SEVERAL)
                continue
            entity = atlas.entity("demonym", code, word)
            atlas.state(atlas.countries[code], "demonym", entity)
            atlas.state(entity, "country of a demonym", atlas.countries[code])


def add_aliases(atlas: Atlas) -> None:
    """Add the other names of countries."""
    for code, country in atlas.countries.items():
        info = atlas.sources.infos.get(code, {})
        names = [atlas.sources.territories.get(code), info.get("name"), *(info.get("altSpellings") or ())]
        atlas.aliases[country] |= {name for name in names if name and not (name.isupper() and len(name) <= 3)}


def build_atlas(sources: Sources, spec: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the sorted N-Triples lines of an atlas, and where they are from: an account for its datasheet."""
    atlas = Atlas(sources, spec)
    for add in (
        add_places,
        add_continents,
        add_languages,
        add_currencies,
        add_neighbours,
        add_demonyms,
        add_aliases,
    ):
        add(atlas)
    kept = Counter(relation for _, relation, _ in atlas.facts)
    account = {
        "packages": dict(sources.packages),
        "kept": {relation: kept[relation] for relation in spec["relations"]},
        "left_out": {
            relation: {
                reason: n for (of, reason), n in sorted(atlas.left_out.items()) if of == relation and n
            }
            for relation in spec["relations"]
        },
    }
    return _lines(atlas), account


def _lines(atlas: Atlas) -> list[str]:
    """The facts and names of an atlas as sorted N-Triples; ids follow the order of kinds and codes."""
    graph, relations = find_graph("atlas"), atlas.spec["relations"]
    used = {entity for subject, _, found in atlas.facts for entity in (subject, found)}
    iris = {entity: iri(graph.iri(f"A{number}")) for number, entity in enumerate(sorted(used), 1)}
    triples = {(iris[s], iri(graph.properties + relations[r]), iris[o]) for s, r, o in atlas.facts}
    for name, relation_id in relations.items():
        subject = iri(graph.iri(relation_id))
        triples.add((subject, iri(f"{WIKIBASE}directClaim"), iri(graph.properties + relation_id)))
        triples.add((subject, iri(LABEL), literal(name, "en")))
    for entity, subject in iris.items():
        label = atlas.labels[entity]
        triples.add((subject, iri(LABEL), literal(label, "en")))
        triples |= {(subject, iri(ALIAS), literal(name)) for name in atlas.aliases[entity] if name != label}
    return [" ".join(triple) + " .\n" for triple in sorted(triples)]


def _cities(atlas: Atlas) -> list[tuple[Entity, Entity]]:
    """The cities of an atlas with their countries, sorted."""
    return sorted(
        (city, country) for city, relation, country in atlas.facts if relation == "country of a city"
    )


def _is_latin(name: str) -> bool:
    return all("LATIN" in unicodedata.name(char, "") for char in name if char.isalpha())
