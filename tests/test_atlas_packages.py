"""The atlas in a configuration, the sheets about it, and what the real packages tell."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest
import yaml
from pyoxigraph import RdfFormat, parse

from aftershock.budget.needs import most_asked
from aftershock.config import graphs
from aftershock.config.graphs import graph_errors
from aftershock.datasets.export import export
from aftershock.datasets.table import DATASETS
from aftershock.datasets.validate import findings, read_folder
from aftershock.kg.atlas import build_atlas
from aftershock.kg.atlas import sources as atlas_sources
from aftershock.kg.atlas.draft import folded
from aftershock.kg.atlas.sources import read_sources
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
from atlases import GRAPH, RESOURCES, SPEC, facts_of
from configured import ROOT
from worlds import ask, build_all, mine


# --- missing packages and configuration ---------------------------------------------------------------------
def config() -> dict:
    return {
        "kg": "atlas",
        "kgs": {"atlas": {"source": "atlas", "namespace": "atlas", "file": "resources/atlas.yaml"}},
    }


def test_a_missing_package_is_one_error_before_any_job(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(atlas_sources, "find_spec", lambda name: None if name == "babel" else name)
    remedy = "install them (pip install --group atlas -c constraints.txt)"
    expected = f"kgs.atlas: an atlas needs the packages babel: {remedy}"
    assert [*graph_errors(config(), {"atlas"}, ROOT)] == [expected]
    with pytest.raises(ValueError, match="an atlas needs the packages babel: install them"):
        read_sources()
    (tmp_path / "results/kg/atlas").mkdir(parents=True)
    (tmp_path / "results/kg/atlas/atlas.nt.gz").touch()  # made elsewhere: nothing is needed
    assert not [*graph_errors(config(), {"atlas"}, ROOT)]


def test_a_graph_that_is_not_used_needs_no_package(monkeypatch) -> None:
    monkeypatch.setattr(graphs, "missing_packages", lambda: ["babel"])
    other = config() | {"kg": "world"}
    other["kgs"]["world"] = {"source": "generated", "namespace": "world", "file": "resources/world.yaml"}
    assert not [*graph_errors(other, {"world"}, ROOT)]


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
    found = [*graph_errors(given, {"atlas"}, ROOT)]
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
    for template in prompts["template"]:
        before, _ = split(template)  # one slot
        assert before, f"{template!r} opens with its subject, an attention sink where nothing is in front"


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
