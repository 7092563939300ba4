"""Countries, cities, continents and borders of an atlas."""

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

from aftershock.kg.atlas.draft import (
    DISAGREE,
    NOT_TOLD,
    ONE_ONLY,
    REVIEWED,
    SEVERAL,
    UNKNOWN,
    Atlas,
    Entity,
    folded,
)

NAMESAKE = "another country's city bears its name"
OF_COUNTRY = "a country bears its name"
TWICE = "a larger city of the country bears its name"
ELSEWHERE = "its time zone is another continent's"
SAME_NAME = "a region with the name of its continent"
NO_CITY = "no city with a clear name"

City = Mapping[str, Any]
"""A city as GeoNames has it."""


def add_aliases(atlas: Atlas) -> None:
    """Add the other names of countries."""
    for code, country in atlas.countries.items():
        info = atlas.sources.infos.get(code, {})
        names = [atlas.sources.territories.get(code), info.get("name"), *(info.get("altSpellings") or ())]
        atlas.aliases[country] |= {name for name in names if name and not (name.isupper() and len(name) <= 3)}


def add_cities(atlas: Atlas) -> None:
    """Add the largest cities of each country, its capital among them where there is a single one."""
    listed: dict[str, list[City]] = {code: [] for code in atlas.sources.countries}
    for city in sorted(atlas.sources.cities, key=lambda city: (-city["population"], city["geonameid"])):
        listed[city["countrycode"]].append(city)
    clear = _clear_cities(atlas, listed)
    least, most = atlas.spec["cities"]["least_population"], atlas.spec["cities"]["per_country"]
    for code, country in atlas.countries.items():
        capital = _capital(atlas, code, listed[code])
        if capital is not None and capital not in clear[code]:
            atlas.leave_out("capital", NO_CITY)
            capital = None
        large = [city for city in clear[code] if city["population"] >= least and city is not capital]
        taken = large[:most] if capital is None else [capital, *large[: most - 1]]
        for city in taken:
            entity = atlas.entity("city", str(city["geonameid"]), city["name"])
            atlas.aliases[entity] |= set(filter(_is_latin, city["alternatenames"]))
            atlas.state(entity, "country of a city", country)
            atlas.state(country, "city", entity)
            if city is capital:
                atlas.state(country, "capital", entity)
                atlas.state(entity, "capital of", country)


def _clear_cities(atlas: Atlas, listed: Mapping[str, list[City]]) -> dict[str, list[City]]:
    """The cities of each country whose names are unambiguous; the others are counted by reason."""
    inhabitants: dict[str, dict[str, int]] = defaultdict(dict)  # of the largest city of a name, by country
    for code, cities in listed.items():
        for city in cities:
            inhabitants[folded(city["name"])].setdefault(code, city["population"])
    countries = {folded(atlas.labels[country]) for country in atlas.countries.values()}
    countries |= {folded(country["name"]) for country in atlas.sources.countries.values()}
    clear: dict[str, list[City]] = {}
    for code in atlas.countries:
        reviewed = atlas.spec["left_out"].get("city", {}).get(code, ())
        clear[code], seen = [], set[str]()
        for city in listed[code]:
            name = folded(city["name"])
            others = [number for other, number in inhabitants[name].items() if other != code]
            reason = None
            if reviewed == "all" or city["name"] in reviewed or any(char.isdigit() for char in name):
                reason = REVIEWED
            elif name in countries:
                reason = OF_COUNTRY
            elif name in seen:
                reason = TWICE
            elif not atlas.dominates(city["population"], others):
                reason = NAMESAKE
            seen.add(name)
            if reason is None:
                clear[code].append(city)
            elif city["population"] >= atlas.spec["cities"]["least_population"]:
                atlas.leave_out("country of a city", reason)
    return clear


def _capital(atlas: Atlas, code: str, cities: list[City]) -> City | None:
    """The city that both GeoNames and countryinfo name as a country's only capital."""
    if atlas.is_reviewed("capital", code):
        return None
    told = atlas.sources.countries[code]["capital"], atlas.sources.infos.get(code, {}).get("capital")
    names = [name if isinstance(name, list) else [name] for name in told if name]
    if len(names) < 2:
        atlas.leave_out("capital", ONE_ONLY if names else NOT_TOLD)
    elif max(map(len, names)) > 1:
        atlas.leave_out("capital", SEVERAL)
    else:
        one, other = (_city_called(name, cities) for (name,) in names)
        if one is not None and one is other:
            return one
        atlas.leave_out("capital", DISAGREE if folded(names[0][0]) != folded(names[1][0]) else NO_CITY)
    return None


def _city_called(name: str, cities: list[City]) -> City | None:
    """The first city with a name, or else with such an alias."""
    wanted = folded(name)
    by_name = (city for city in cities if folded(city["name"]) == wanted)
    by_alias = (city for city in cities if wanted in map(folded, city["alternatenames"]))
    return next(by_name, None) or next(by_alias, None)


def add_continents(atlas: Atlas) -> None:
    """Add the continents of countries, regions and cities, and the regions of countries."""
    sources, areas = atlas.sources, atlas.spec["regions"]
    regions = {folded(name): (code, name) for code, name in sources.territories.items() if code.isdigit()}
    found: dict[Entity, Entity] = {}
    members: dict[Entity, set[Entity | None]] = defaultdict(set)
    for code, country in atlas.countries.items():
        info, continent = sources.infos.get(code, {}), sources.countries[code]["continentcode"]
        told = areas.get(info.get("region"))
        if told and continent in told:
            found[country] = atlas.entity("continent", continent, sources.continents[continent])
        else:
            atlas.leave_out("continent", DISAGREE if told else ONE_ONLY)
        name = info.get("intermediateregion") or info.get("subregion")
        if name and folded(name) in regions:
            region = atlas.entity("region", *regions[folded(name)])
            members[region].add(found.get(country))
            atlas.state(country, "region", region)
        else:
            atlas.leave_out("region", UNKNOWN if name else NOT_TOLD)
    for region, continents in members.items():
        only = next(iter(continents)) if len(continents) == 1 else None
        if only is None:
            atlas.leave_out("continent", SEVERAL)
        elif atlas.labels[only] == atlas.labels[region]:
            atlas.leave_out("continent", SAME_NAME)
        else:
            atlas.state(region, "continent", only)
    for country, of in found.items():
        atlas.state(country, "continent", of)
    _add_continents_of_cities(atlas, found)


def _add_continents_of_cities(atlas: Atlas, continents: Mapping[Entity, Entity]) -> None:
    """Add the continents of cities: their countries', where their time zones agree."""
    zones = {str(city["geonameid"]): city["timezone"].partition("/")[0] for city in atlas.sources.cities}
    for city, country in atlas.cities:
        if country not in continents:
            continue
        if continents[country].code in atlas.spec["zones"].get(zones[city.code], ()):
            atlas.state(city, "continent", continents[country])
        else:
            atlas.leave_out("continent", ELSEWHERE)


def add_neighbours(atlas: Atlas) -> None:
    """Add the land borders that both GeoNames and countryinfo draw, from both sides."""
    by_three = {found["iso3"]: code for code, found in atlas.sources.countries.items()}
    drawn: Counter[tuple[str, str]] = Counter()
    for code in atlas.countries:
        theirs = set(atlas.sources.countries[code]["neighbours"].split(","))
        borders = atlas.sources.infos.get(code, {}).get("borders") or ()
        ours = {by_three[name] for name in borders if name in by_three}
        for others in (ours, theirs):
            drawn.update((min(code, other), max(code, other)) for other in others & set(atlas.countries))
    for (one, other), times in sorted(drawn.items()):
        if times == 4:
            atlas.state(atlas.countries[one], "neighbour", atlas.countries[other])
            atlas.state(atlas.countries[other], "neighbour", atlas.countries[one])
        else:
            atlas.leave_out("neighbour", DISAGREE)


def _is_latin(name: str) -> bool:
    return all("LATIN" in unicodedata.name(char, "") for char in name if char.isalpha())
