"""Facts dropped from a mined graph, counted by reason, and the sheets that say what is kept."""

from pathlib import Path

import pandas as pd
import pytest

from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.filters import Names, filter_facts, filter_instances, filter_objects, label_fault
from aftershock.kg.graph import GRAPHS, find_graph
from aftershock.kg.labels import Redirections, find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.queries import names
from aftershock.kg.rules import Thresholds, mine_rules
from aftershock.kg.sheets import (
    kept_rules,
    list_prompts,
    one_to_many_relations,
    read_paraphrases,
    read_relations,
    read_rules,
)
from aftershock.kg.summary import summarize
from aftershock.prompts import fill, names_in_examples
from aftershock.tables.graph import FACTS, INSTANCES, LABELS, OBJECTS, PROMPTS
from graphs import LABEL, SAME_AS, WORLD, as_instances, as_sample, as_sheet, client_of, rows_of, triple

RESOURCES = Path(__file__).parents[1] / "resources"
CONFLICT_RELATIONS = {"P22", "P25", "P26", "P40", "P3373", "P27", "P39", "P1001", "P184", "P185"}
CONFLICT_RELATIONS |= {"P170", "P407", "P800"}
ROUND_RELATIONS = {"P69", "P136", "P166", "P276", "P279", "P366", "P403", "P674", "P800", "P1411"}
PAPER_RULES = (
    *("P22>P40", "P185>P184", "P25>P40", "P800>P170"),
    *("P22&P40>P3373", "P22&P26>P25", "P800&P407>P1412", "P40&P25>P26", "P25&P26>P22", "P40&P22>P26"),
    "P39&P1001>P27",
)


# --- labels and filters ---------------------------------------------------------------------------------
NAMED = {
    "E1": '"Ada"@en',
    "E2": '"Berta"@mul',
    "E3": '"Dora"@de',
    "E5": '"E77"@en',
    "E6": '"1900"@en',
    "E7": '"two\\nlines"@en',
    "E8": '"Ada"@en',
    "E9": '"{} \\"quoted\\" <b>"@en',
    "E11": '"Edith"@en',
}


@pytest.fixture(scope="module")
def labels() -> pd.DataFrame:
    """Labels of E1 to E11; E4 has none, E10 redirects to E11, E1 has more than one."""
    named = [*NAMED.items(), ("E1", '"Ada M."@mul'), ("E1", '"Adah"@de')]
    lines = [triple(entity, LABEL, label) for entity, label in named]
    lines += [triple("E10", SAME_AS, "E11"), triple("E1", SAME_AS, "<http://dbpedia.org/resource/Ada>")]
    with client_of(lines) as client:
        return find_labels(EndpointSource(client), [f"E{number}" for number in range(1, 11)])


def test_labels_are_english_or_for_all_languages_and_redirects_are_followed(labels: pd.DataFrame) -> None:
    LABELS.check(labels)
    rows = {row[0]: tuple(row[1:]) for row in labels.astype(object).where(labels.notna(), None).to_numpy()}
    assert set(rows) == {f"E{number}" for number in range(1, 12)}
    assert rows["E1"] == ("Ada", "en", None)
    assert rows["E2"] == ("Berta", "mul", None)
    assert rows["E3"] == rows["E4"] == (None, None, None)
    assert rows["E10"] == (None, None, "E11")
    assert rows["E11"] == ("Edith", "en", None)
    assert "WHERE { VALUES ?e { wd:E1 wd:E2 } OPTIONAL" in names(["E1", "E2"], WORLD.entities)  # one query


FAULTS = {
    None: ["Ada", "{} <b>&\"'$(x)", "\u05de\u05d2\u05d3\u05dc", "\u4e2d"],
    "label equals an id": ["E12"],
    "label without a letter": ["80/81", "$", ""],
    "label with control characters, line breaks or spaces around it": ["a\tb", "a\u2028b", " a"],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_labels_that_no_prompt_can_say(fault: str | None) -> None:
    assert {label_fault(label, WORLD) for label in FAULTS[fault]} == {fault}


def test_facts_are_kept_or_dropped_with_a_reason(labels: pd.DataFrame) -> None:
    expected = {
        ("E1", "R1", "E2"): None,
        ("E1", "R1", "E9"): None,
        ("E2", "R1", "E1"): None,
        ("E2", "R1", "E8"): "duplicate label among the true objects",
        ("E2", "R2", "E8"): None,
        ("E1", "R2", "E1"): "identical subject and object",
        ("E1", "R2", "E8"): "two entities with the same label",
        ("E1", "R3", "E3"): "missing label",
        ("E4", "R3", "E1"): "missing label",
        ("E1", "R3", "E5"): "label equals an id",
        ("E1", "R3", "E6"): "label without a letter",
        ("E7", "R3", "E1"): "label with control characters, line breaks or spaces around it",
        ("E1", "R3", "E10"): "redirect",
    }
    found = filter_facts(as_sample(set(expected)), Names(labels, WORLD))
    FACTS.check(found)
    reasons = {row[:3]: row.reason for row in found.itertuples(index=False)}
    assert reasons == expected
    assert (found["kept"] == found["reason"].isna()).all()
    assert found.set_index("object_id").loc["E9", "object"] == '{} "quoted" <b>'


def test_no_example_of_a_prompt_tells_about_the_subject(labels: pd.DataFrame) -> None:
    sample = as_sample({("E1", "R1", "E2"), ("E2", "R1", "E9"), ("E1", "R2", "E2"), ("E1", "R2", "E9")})
    names_ = Names(labels, WORLD)
    prompts = {"R1": "Ada is a friend of Cleo. The friend of {} is", "R2": "Adamant. The friend Ada of {} is"}
    found = filter_facts(sample, names_, prompts)
    told = "an example sentence of the prompt names the subject"
    reasons = {(row.subject_id, row.relation_id): row.reason for row in found.itertuples()}
    assert reasons == {("E1", "R1"): told, ("E2", "R1"): None, ("E1", "R2"): None}
    objects = as_sample({(s, r, o) for s in ("E1",) for r in ("R1", "R2") for o in ("E2", "E9")})
    kept, dropped = filter_objects(objects, names_, prompts)
    assert set(kept["relation_id"]) == {"R2"}
    assert dropped[told] == 2


@pytest.mark.parametrize(
    ("template", "named", "others"),
    [
        ("Paris is in France. {} is in", ["Paris", "France"], ["Par"]),
        ("Is Paris in France? Yes! {} is in", ["Yes"], []),
        ("{} is in. Paris is in", [], ["Paris"]),
        ("Of all friends of Paris, {} is", [], ["Paris"]),
        ("C++ is a language. {} is a", ["C++"], []),
        ("Niger is a country. {} is a", [], ["Nigeria"]),
        ("Nigeria is a country. {} is a", [], ["Niger"]),
    ],
)
def test_examples_are_the_sentences_before_the_slot(template: str, named: list, others: list) -> None:
    assert [word for word in (*named, *others) if names_in_examples(template, word)] == named


def test_instances_fall_with_their_entities_and_facts(labels: pd.DataFrame) -> None:
    rows = [
        ("R1>R2", "E1", "E2", "E1", None),
        ("R1>R2", "E1", "E8", "E1", "two entities with the same label"),
        ("R1>R2", "E1", "E5", "E1", "label equals an id"),
        ("R1&R2>R3", "E2", "E9", "E1", None),
        ("R1&R2>R3", "E2", "E9", "E3", "missing label"),
        ("R1&R2>R3", "E2", "E9", "E8", "duplicate label among the true objects"),
    ]
    combinations = as_instances(*(row[:4] for row in rows))
    names_ = Names(labels, WORLD)
    known = {("E9", "R2", "E1"), ("E2", "R3", "E1"), ("E2", "R3", "E8"), ("E2", "R1", "E9")}
    judged = filter_facts(as_sample(known), names_)
    found = filter_instances(combinations, judged, names_)
    INSTANCES.check(found)
    assert found["reason"].tolist() == [row[4] for row in rows]
    assert filter_instances(combinations[:0], judged, names_).empty


def test_one_to_many_keys_need_two_distinct_labels(labels: pd.DataFrame) -> None:
    own = {"E9": ("E1", "E2", "E8", "E3"), "E2": ("E1", "E8"), "E11": ("E1", "E6", "E9"), "E4": ("E1", "E2")}
    objects = as_sample((subject, "R1", o) for subject in own for o in own[subject])
    names_ = Names(labels, WORLD)  # E8 has the label of E1, E3 and E4 have none
    kept, dropped = filter_objects(objects, names_)
    OBJECTS.check(kept)
    pairs = ("E9", "E1"), ("E9", "E2"), ("E11", "E1"), ("E11", "E9")
    assert rows_of(kept) == {(subject, "R1", object_) for subject, object_ in pairs}
    assert dropped == {
        "duplicate label among the true objects": 2,
        "missing label": 3,
        "label without a letter": 1,
        "the only object left of its key": 1,
    }


def test_a_key_that_redirects_fill_makes_no_round_case() -> None:
    named = [(f"E{i}", f"Name {i}", "en", "E1" if i == 2 else None) for i in range(1, 30)]
    table = pd.DataFrame(named, columns=["entity_id", "label", "language", "redirect"])
    firsts = {"E1": 3, "E2": 9, "E3": 9}  # of six objects each
    rows = [(s, "R1", f"E{o}") for s, first in firsts.items() for o in range(first, first + 6)]
    moved = Redirections(table).follow(as_sample(rows))
    kept, dropped = filter_objects(moved, Names(table, WORLD))
    assert set(kept["subject_id"]) == {"E3"}
    assert dropped == {"more than ten objects of its key, since redirects were followed": 12}


def test_the_summary_counts_what_there_is_what_has_labels_and_what_is_kept(labels: pd.DataFrame) -> None:
    names_ = Names(labels, WORLD)
    pairs = ("E1", "E2"), ("E1", "E5"), ("E3", "E2")
    combinations = as_instances(*(("R1>R2", x, y, x) for x, y in pairs))
    judged = filter_instances(combinations, FACTS.empty(), names_)
    objects = as_sample({*(("E9", "R3", o) for o in ("E1", "E6")), *(("E2", "R3", o) for o in ("E1", "E3"))})
    kept, _ = filter_objects(objects, names_)
    sheet = as_sheet(("R1>R2", "keep", "a"), ("R2>R1", "keep", "b"), ("R1>R1", "drop", "c"))
    sample = as_sample({("E1", "R1", "E2"), ("E2", "R2", "E1")})
    rules, relations = mine_rules(sample, ["R1", "R2", "R3", "R4"], sheet, Thresholds())
    everything = {"R3": objects, "R4": objects[:0]}
    left_out = {"R2>R1": {"not in the sample": 7, "literal": 1}}
    summary = summarize(rules, relations, judged, everything, kept, names_, left_out).set_index("rule")
    counts = summary[["instances", "instances_labelled", "kept"]]
    assert counts.loc["R1>R2"].tolist() == [3, 2, 1]
    assert counts.loc["R2>R1"].tolist() == [7, 0, 0]
    assert summary["sampled"].tolist() == [3, 0, 2, 0]
    assert counts.loc["1-N@R3"].tolist() == [2, 1, 0]
    assert counts.loc["1-N@R4"].tolist() == [0, 0, 0]
    assert "R1>R1" not in summary.index
    assert summary.loc["R1>R2", ["support", "head_coverage"]].tolist() == [1, 1.0]
    assert summary.loc[["1-N@R3"], "support"].isna().all()


def test_entities_without_a_row_of_labels_are_named(labels: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no label was looked up for 'E99'; delete the labels and run again"):
        filter_facts(as_sample({("E99", "R1", "E1")}), Names(labels, WORLD))


# --- sheets ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("namespace", sorted(GRAPHS))
def test_every_relation_has_eleven_prompts(namespace: str) -> None:
    relations = read_relations(RESOURCES / "relations.tsv", namespace)
    prompts = list_prompts(relations, read_paraphrases(RESOURCES / "paraphrases.tsv", namespace))
    PROMPTS.check(prompts)
    assert all(ids == list(range(11)) for ids in prompts.groupby("relation_id")["prompt_id"].agg(list))
    first = prompts[prompts["prompt_id"] == 0].set_index("relation_id")["template"]
    assert first.to_dict() == relations.set_index("relation_id")["prompt"].to_dict()
    assert all("{}" not in fill(template, "x") for template in prompts["template"])


def test_the_relations_and_rules_of_the_paper_are_listed() -> None:
    relations = read_relations(RESOURCES / "relations.tsv", "wikidata")
    relations_listed = set(relations["relation_id"])
    assert CONFLICT_RELATIONS | ROUND_RELATIONS | {"P1412"} <= relations_listed
    assert set(one_to_many_relations(RESOURCES, "wikidata")) == ROUND_RELATIONS
    kept = kept_rules(RESOURCES, "wikidata")
    assert set(PAPER_RULES) <= set(kept)
    used = {r for rule in PAPER_RULES for r in LogicRule.parse(rule).relations}
    assert used == CONFLICT_RELATIONS | {"P1412"}
    assert len(relations_listed - used - ROUND_RELATIONS) >= 25
    assert {rule.split(">")[1] for rule in kept} <= relations_listed


def test_wrong_rows_are_named_all_at_once(tmp_path) -> None:
    sheet = tmp_path / "rules.tsv"
    sheet.write_text("namespace\trule\tstatus\treason\nworld\tR1>R2\tkept\tx\nworld\tR1>>R2\tkeep\tx\n")
    with pytest.raises(ValueError, match="(?s)rules.tsv row 2: status: 'kept'.*keep.*rules.tsv row 3: rule"):
        read_rules(sheet, "world")
    sheet = tmp_path / "paraphrases.tsv"
    columns = "namespace\trelation_id\ttemplate\tstatus\tsource"
    sheet.write_text(f"{columns}\nworld\tR1\tno slot\tkeep\tx\nworld\tR1\t{{}} and {{}}\tkeep\tx\n")
    with pytest.raises(ValueError, match="(?s)paraphrases.tsv row 2: template.*paraphrases.tsv row 3"):
        read_paraphrases(sheet, "world")


def test_unknown_namespaces_are_named() -> None:
    with pytest.raises(ValueError, match="namespace 'wikidta'; known namespaces: atlas, wikidata, world"):
        find_graph("wikidta")
