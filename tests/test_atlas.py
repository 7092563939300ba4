"""The atlas: what is taken from the data of three packages, and what is left out."""

import gzip
import random
from dataclasses import replace
from pathlib import Path

import pytest

from aftershock.kg.atlas import build_atlas
from aftershock.kg.atlas.draft import folded
from aftershock.kg.triples import write_triples
from atlases import SPEC, city, country, info, made, of, sources, spec


# --- capitals and cities ----------------------------------------------------------------------------------
def test_a_capital_is_one_city_under_two_names() -> None:
    cities = [city(1, "AA", "St. Ann", alternatenames=["Annaburg"]), city(2, "AA", "Other")]
    facts, _ = made(
        sources([country("AA", "Aland", capital="Saint Ann")], cities, {"AA": info(capital="Annaburg")})
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
        sources([country("AA", "Aland", capital=geonames)], cities, {"AA": info(capital=other)})
    )
    assert not of(facts, "capital", "capital of")
    assert left_out["capital"] == {reason: 1}


def test_what_people_left_out_stays_out() -> None:
    given = sources(
        [country("AA", "Aland", capital="Ann")],
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
    facts, _ = made(sources([country("AA", "Aland"), country("BB", "Beland")], cities), city={"AA": "all"})
    assert of(facts, "country of a city") == {("Port", "country of a city", "Beland")}


def test_a_name_of_cities_in_two_countries_means_none_of_them_unless_one_is_far_larger() -> None:
    countries = [country("AA", "Aland", capital="Tripoli"), country("BB", "Beland")]
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
    countries = [country("AA", "Aland"), country("BB", "Beland", population=10)]
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
        [country("AA", "Aland", capital="Ann")],
        [*cities, city(9, "AA", "Ann", 900)],
        {"AA": info(capital="Ann")},
    )
    listed = {found for _, _, found in of(made(given)[0], "city")}
    assert "Ann" in listed
    assert len(listed) == SPEC["cities"]["per_country"]


# --- continents and borders ---------------------------------------------------------------------------------
def test_continents_are_told_where_the_packages_and_the_time_zone_agree() -> None:
    asian = country("BB", "Beland", continentcode="AS")
    countries = [country("AA", "Aland"), asian, country("CC", "The Seas")]
    cities = [city(1, "AA", "Ann"), city(2, "AA", "Far", timezone="Asia/Far")]
    infos = {"AA": info(), "BB": info(), "CC": info(subregion="Atlantis")}
    facts, left_out = made(sources(countries, cities, infos))
    assert of(facts, "continent") == {
        ("Aland", "continent", "Europe"),
        ("Seas", "continent", "Europe"),
        ("Ann", "continent", "Europe"),
    }
    assert of(facts, "region") == {(name, "region", "Southern Europe") for name in ("Aland", "Beland")}
    assert left_out["continent"] == {
        "its time zone is another continent's": 1,
        "more than one answer": 1,  # the region's, of which one country has an unclear one
        "the packages disagree": 1,
    }
    assert left_out["region"] == {"no package explains its code or name": 1}


def test_a_border_is_drawn_by_both_packages_from_both_sides() -> None:
    countries = [
        country("AA", "Aland", neighbours="BB,CC"),
        country("BB", "Beland", neighbours="AA"),
        country("CC", "Celand", neighbours="AA"),
    ]
    infos = {"AA": info(borders=["BBBB", "CCCC"]), "BB": info(borders=["AAAA"]), "CC": info()}
    facts, left_out = made(sources(countries, infos=infos))
    assert of(facts, "neighbour") == {("Aland", "neighbour", "Beland"), ("Beland", "neighbour", "Aland")}
    assert left_out["neighbour"] == {"the packages disagree": 1}


# --- languages, currencies, demonyms ------------------------------------------------------------------------
def test_languages_are_those_of_both_packages_and_of_cities_where_there_is_one() -> None:
    countries = [country("AA", "Aland"), country("BB", "Beland"), country("NN", "Norland")]
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
    back = {(o, "official language", s) for s, _, o in of(facts, "official in")}
    assert back == of(facts, "official language")
    assert left_out["official language"] == {"only one package tells it": 1}
    assert left_out["language of a city"] == {"more than one answer": 1}


def test_a_currency_is_the_only_legal_tender() -> None:
    countries = [country("AA", "Aland"), country("BB", "Beland"), country("DD", "Deland")]
    countries.append(country("CC", "Celand", currencycode="FRC"))
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
    countries = [
        country("AA", "Aland", population=100_000_000),
        country("BB", "Beland", population=400_000),
        *(country(code, name) for code, name in (("CC", "Celand"), ("DD", "Deland"), ("EE", "Eland"))),
    ]
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
    given = sources([country("AA", "Aland"), country("BB", "Beland")], infos={"AA": info(), "BB": info()})
    facts, left_out = made(replace(given, dissolved=frozenset({"BB"})))
    assert {subject for subject, _, _ in facts} == {"Aland", "euro", "Southern Europe"}
    assert left_out["countries"] == {"no more": 1}


def test_bytes_do_not_depend_on_the_order_of_the_data(tmp_path: Path) -> None:
    codes = ["AA", "BB", "CC"]
    about = {"neighbours": "AA,BB,CC", "capital": "Ann"}
    countries = {code: country(code, f'{code} "land"', **about) for code in codes}
    cities = [
        city(n, codes[n % 3], f"Town {'abcdefghi'[n]}", alternatenames=["Ab", "Ба", "Cd"]) for n in range(9)
    ]
    infos = {code: info(languages=["aa", "bb"], demonym=code.title() + "ic") for code in codes}
    rng, written = random.Random(0), set()
    for number in range(4):
        rng.shuffle(codes)
        rng.shuffle(cities)
        shuffled = sources([countries[c] for c in codes], cities, {c: infos[c] for c in reversed(codes)})
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
