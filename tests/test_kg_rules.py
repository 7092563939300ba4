"""Logic rules: measures as AMIE defines them, suggestions, and which instances become cases."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from aftershock.datasets.graph_facts import FactIndex
from aftershock.kg.client import Client
from aftershock.kg.combinations import NOT_SAMPLED, REPEATED, find_combinations, find_objects
from aftershock.kg.endpoint_source import EndpointSource
from aftershock.kg.filters import (
    SEVERAL_ANSWERS,
    SUBJECT_OFTEN,
    TIED_OFTEN,
    Limits,
    Names,
    complete,
    filter_facts,
    filter_instances,
    sample_keys,
)
from aftershock.kg.logic import BodyRule, LogicRule
from aftershock.kg.rules import Thresholds, mine_rules, suggest
from aftershock.kg.sampling import iri_hash
from aftershock.kg.sheets import kept_rules, read_relations, read_rules
from aftershock.tables.graph import FACTS, RELATIONS, RULES
from aftershock.tables.models import VERIFIED
from graphs import WORLD, Fact, as_instances, as_labels, as_sample, as_sheet, client_of, rows_of, triple

RESOURCES = Path(__file__).parents[1] / "resources"
FACT = ["subject_id", "relation_id", "object_id"]
USED = ["R1", "R2", "R3"]
EVERYTHING = Thresholds(min_support=1, min_head_coverage=0.0, min_pca_confidence=0.0)

# x R1 y, y R2 z, x R3 z: five entities, one of them its own neighbour.
SMALL: set[Fact] = {
    *(("E1", "R1", "E2"), ("E1", "R1", "E1"), ("E3", "R1", "E2"), ("E4", "R1", "E2")),
    *(("E2", "R2", "E1"), ("E2", "R2", "E5"), ("E1", "R2", "E5")),
    *(("E1", "R3", "E1"), ("E1", "R3", "E5"), ("E3", "R3", "E4"), ("E5", "R3", "E2")),
}


def mined(*judged, thresholds=EVERYTHING, taken=None):
    """The rules of the small graph, by name, with these rows in the sheet."""
    rules, _ = mine_rules(as_sample(SMALL), USED, as_sheet(*judged), thresholds, taken)
    return rules.set_index("rule", drop=False)


def skewed_facts(seed: int) -> set[Fact]:
    """A skewed choice: a few hubs, as in real graphs, and facts of entities about themselves."""
    rng = random.Random(seed)
    entities = [f"E{n}" for n in range(12)]
    some = [rng.choice(entities[: rng.choice((2, 12))]) for _ in range(400)]
    return {(some[i], rng.choice(USED), some[i + 1]) for i in range(0, 140, 2)}


def naive(facts: set[Fact]) -> dict[str, tuple[float, ...]]:
    """The measures of every inverse rule and chain with support, by looking at all triples of entities."""
    entities = sorted({e for s, _, o in facts for e in (s, o)})
    pairs = {r: {(s, o) for s, relation, o in facts if relation == r} for r in USED}
    bodies = {r: {(o, s) for s, o in pairs[r]} for r in USED}
    for r, r1 in itertools.product(USED, repeat=2):
        bodies[f"{r}&{r1}"] = {
            (x, z)
            for x, y, z in itertools.product(entities, repeat=3)
            if (x, y) in pairs[r] and (y, z) in pairs[r1]
        }
    found = {}
    for (body, predicted), head in itertools.product(bodies.items(), USED):
        true = predicted & pairs[head]
        if true:
            subjects, objects = {x for x, _ in pairs[head]}, {z for _, z in pairs[head]}
            by_subject = len(subjects) >= len(objects)  # the more functional direction decides
            judged = {p for p in predicted if (p[0] in subjects if by_subject else p[1] in objects)}
            shares = len(true) / len(pairs[head]), len(true) / len(predicted), len(true) / len(judged)
            found[f"{body}>{head}"] = (len(true), *shares)
    return found


def measures(rules: pd.DataFrame) -> dict[str, tuple[float, ...]]:
    columns = ["support", "head_coverage", "std_confidence", "pca_confidence"]
    return {row.rule: tuple(getattr(row, name) for name in columns) for row in rules.itertuples()}


@pytest.mark.parametrize("seed", range(2))
def test_all_rules_and_measures_equal_a_naive_reference(seed: int) -> None:
    facts = skewed_facts(seed)
    rules, relations = mine_rules(as_sample(facts), USED, as_sheet(), EVERYTHING)
    RULES.check(rules)
    RELATIONS.check(relations)
    expected = naive(facts)
    assert measures(rules).keys() == expected.keys()
    assert len(expected) > 20
    for rule, values in measures(rules).items():
        assert values == pytest.approx(expected[rule]), rule


def test_thresholds_and_the_sheet_decide_which_rules_are_listed() -> None:
    sheet = as_sheet(
        ("R1&R1>R3", "keep", "by hand"), ("R9>R1", "keep", "no facts"), ("R2>R2", "drop", "nonsense")
    )
    strict = Thresholds(min_support=5, min_head_coverage=0.2, min_pca_confidence=0.4)
    rules, _ = mine_rules(as_sample(skewed_facts(0)), [*USED, "R9"], sheet, strict)
    RULES.check(rules)
    every = naive(skewed_facts(0))
    enough = {rule for rule, (n, head, _, pca) in every.items() if n >= 5 and head >= 0.2 and pca >= 0.4}
    assert 3 < len(enough) < len(every) - 3
    assert min(every[rule][0] for rule in enough) == 5
    assert set(rules["rule"]) == enough | set(sheet["rule"])
    by_rule = rules.set_index("rule")
    assert by_rule.loc[sheet["rule"], "status"].tolist() == ["keep", "keep", "drop"]
    assert set(rules.loc[~rules["rule"].isin(sheet["rule"]), "status"]) == {"review"}
    assert by_rule.loc["R9>R1", "support"] == 0
    assert by_rule.loc["R9>R1", "reason"] == (
        "no facts; support 0 is below 5; head_coverage 0 is below 0.2; pca_confidence 0 is below 0.4"
    )


def test_rules_about_unlisted_relations_are_named() -> None:
    with pytest.raises(ValueError, match="rules.tsv: rule R1&R8>R1 names R8, not in relations.tsv"):
        mined(("R1&R8>R1", "keep", "?"), thresholds=Thresholds())


JUDGED = ("R1>R2", "keep", "known"), ("R1&R2>R3", "keep", "fine")


def test_small_heads_are_not_suggested_but_stay_judged() -> None:
    rules = mined(JUDGED[0], thresholds=Thresholds(1, 0.0, 0.0, min_head_size=4))
    assert set(rules.loc[rules["status"] == "review", "head"]) == {"R1", "R3"}
    assert rules.loc["R1>R2", "status"] == "keep"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (
            {"thresholds": Thresholds(1, 0.0, 0.0, min_functionality=0.7)},  # R1 3/4, R2 2/3, R3 3/4
            "functionality 0.667 of its head is below 0.7",
        ),
        ({"taken": ["R1&R2>R3"]}, "this run does not take it"),
    ],
)
def test_kept_rules_are_dropped_with_the_reason(options: dict, reason: str) -> None:
    rules = mined(*JUDGED, **options)
    assert rules.loc[["R1>R2", "R1&R2>R3"], "status"].tolist() == ["drop", "keep"]
    assert rules.loc["R1>R2", "reason"] == f"known; {reason}"
    assert rules.loc[["R1>R2", "R1&R2>R3"], "judged"].tolist() == ["keep", "keep"]
    nothing = FACTS.empty(), VERIFIED.empty()
    assert FactIndex.from_frames(*nothing, rules).rules == {"R1>R2", "R1&R2>R3"}
    if "thresholds" in options:  # which suggestions have to keep as well
        assert set(rules.loc[rules["status"] == "review", "head"]) == {"R1", "R3"}


def test_relations_without_facts_are_named(caplog) -> None:
    _, relations = mine_rules(as_sample(SMALL), [*USED, "R8", "R9"], as_sheet(), EVERYTHING)
    assert "no fact of R8, R9 in this graph: check their ids in relations.tsv" in caplog.text
    by_id = relations.set_index("relation_id")
    assert by_id.loc["R8", "facts"] == 0
    assert by_id.loc["R1", ["functionality", "inverse_functionality"]].tolist() == [3 / 4, 2 / 4]


@pytest.mark.parametrize("text", ["R1", "R1>", ">R1", "R1&R2&R3>R4", "R1&>R2", "R1 > R2", "R1>R2>R3"])
def test_rules_that_are_not_written_as_rules(text: str) -> None:
    with pytest.raises(ValueError, match="is neither of the form R1>R2 nor R1&R2>R3"):
        LogicRule.parse(text)


def test_suggestions_are_sorted_by_the_stated_score_and_fit_the_sheet(tmp_path: Path) -> None:
    rules, relations = mine_rules(as_sample(SMALL), USED, as_sheet(JUDGED[0]), EVERYTHING)
    found = suggest(rules, relations, "world")
    assert "R1>R2" not in set(found["rule"])
    assert len(found) == len(rules) - 1
    assert found["score"].is_monotonic_decreasing
    row = found.set_index("rule").loc["R1&R2>R3"]
    assert row["score"] == pytest.approx(2 / 6 * 3 / 4 * 2 / 12)
    columns = list(read_rules(RESOURCES / "rules.tsv", "world").columns)
    assert list(found.columns)[: len(columns)] == columns
    pasted = found[columns].assign(status="keep")
    pasted.to_csv(tmp_path / "rules.tsv", sep="\t", index=False)
    assert read_rules(tmp_path / "rules.tsv", "world")["rule"].tolist() == found["rule"].tolist()


# --- what a run takes -----------------------------------------------------------------------------------
def test_rules_are_chosen_by_name_and_by_functional_heads() -> None:
    every = kept_rules(RESOURCES, "wikidata")
    assert kept_rules(RESOURCES, "wikidata", ["P26>P26", "P22>P40"]) == ["P22>P40", "P26>P26"]
    assert kept_rules(RESOURCES, "wikidata", ["R1>R1"]) == every  # a graph that none is about
    relations = read_relations(RESOURCES / "relations.tsv", "wikidata").set_index("relation_id")
    functional = kept_rules(RESOURCES, "wikidata", functional_heads=True)
    heads = [LogicRule.parse(rule).head for rule in functional]
    assert set(relations.loc[heads, "functional"]) == {"yes"}
    assert {"P22&P26>P25", "P26>P26"} <= set(functional) < set(every)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    lines = [triple(*fact) for fact in sorted(SMALL)]
    with client_of([*lines, triple("E1", "R1", '"1900"')]) as found:
        yield found


@pytest.mark.parametrize("text", ["R1&R2>R3", "R1>R2", "R2&R3>R1"])
def test_without_the_head_the_body_is_enough(client: Client, text: str) -> None:
    rule = LogicRule.parse(text)
    found, left = find_combinations(EndpointSource(client), rule, 100, 0, head_holds=False)
    pairs = {r: {(s, o) for s, relation, o in SMALL if relation == r} for r in USED}
    body = pairs[rule.body[0]]
    if len(rule.body) == 2:
        body = {(x, y, z) for x, y in body for other, z in pairs[rule.body[1]] if other == y}
    expected = {row for row in body if len(set(row)) == len(row)}
    assert rows_of(found, *["x_id", "y_id", "z_id"][: len(rule.body) + 1]) == expected
    assert left[REPEATED] == len(body) - len(expected) > 0
    with_head, _ = find_combinations(EndpointSource(client), rule, 100, 0)
    assert len(with_head) < len(found)


def test_what_a_sample_leaves_out_is_counted(client: Client) -> None:
    rule = LogicRule.parse("R1&R2>R3")
    every, none = find_combinations(EndpointSource(client), rule, 100, 3, head_holds=False)
    some, left = find_combinations(EndpointSource(client), rule, 2, 3, head_holds=False)
    assert NOT_SAMPLED not in none
    assert left == none + Counter({NOT_SAMPLED: len(every) - 2})
    assert rows_of(some) < rows_of(every)
    assert BodyRule(rule.body, rule.head).facts == rule.facts[:-1]


def test_keys_are_sampled_by_hash_and_the_others_counted(client: Client) -> None:
    every, _ = find_objects(EndpointSource(client), "R2", least=1, most=4)
    some, left = find_objects(EndpointSource(client), "R2", least=1, most=4, max_keys=1, seed=5)
    first = min(every["subject_id"], key=lambda s: iri_hash(5, WORLD.iri(s)))
    assert some["subject_id"].unique().tolist() == [first]
    assert left == {NOT_SAMPLED: every["subject_id"].nunique() - 1}
    assert len(some) == (every["subject_id"] == first).sum()
    enough, none = find_objects(EndpointSource(client), "R2", least=1, most=4, max_keys=9, seed=5)
    assert enough.equals(every)
    assert not none


# --- which instances are kept ---------------------------------------------------------------------------
def labelled(entities: list[str]) -> Names:
    return Names(as_labels((entity, f"the {entity.lower()}", "en", None) for entity in entities), WORLD)


def test_no_subject_and_no_tied_fact_serves_a_rule_too_often() -> None:
    rng = random.Random(1)
    entities = [f"E{n}" for n in range(9)]
    rows = sorted({(rule, *rng.sample(entities, 3)) for rule in ("R1&R2>R3", "R2&R2>R3") for _ in range(160)})
    combinations = as_instances(*rows)
    facts = filter_facts(as_sample(set()), labelled(entities))
    limits = Limits(max_per_subject=6, max_per_tied_fact=2, seed=7)
    found = filter_instances(combinations, facts, labelled(entities), limits)

    def rank(row: tuple, columns: list[int]) -> int:
        """Return the number of instances of the same rule and entities with a smaller hash."""
        same = [other for other in rows if all(other[c] == row[c] for c in (0, *columns))]
        return sorted(same, key=lambda r: iri_hash(7, *map(WORLD.iri, r[1:]))).index(row)

    for row, kept, reason in zip(rows, found["kept"], found["reason"], strict=True):
        often = rank(row, [1]) >= 6 or rank(row, [2]) >= 6
        tied = rank(row, [1, 2]) >= 2
        assert kept == (not often and not tied)
        assert (None if pd.isna(reason) else reason) == (
            SUBJECT_OFTEN if often else TIED_OFTEN if tied else None
        )
    kept = found[found["kept"]]
    assert kept.groupby(["rule", "x_id", "y_id"]).size().max() == 2
    assert {SUBJECT_OFTEN, TIED_OFTEN} <= set(found["reason"])


def test_heads_with_several_answers_fall_where_answers_have_to_be_unique() -> None:
    facts = {("E1", "R1", "E2"), ("E2", "R2", "E1"), ("E2", "R2", "E3")}
    facts |= {("E3", "R1", "E4"), ("E4", "R2", "E3")}
    names = labelled([f"E{n}" for n in range(1, 5)])
    combinations = as_instances(("R1>R2", "E1", "E2", "E1"), ("R1>R2", "E3", "E4", "E3"))
    judged = filter_facts(as_sample(facts), names)
    assert filter_instances(combinations, judged, names)["kept"].all()
    found = filter_instances(combinations, judged, names, Limits(unique_answers=True))
    assert found["reason"].tolist() == [SEVERAL_ANSWERS, None]
    fell = filter_instances(combinations, judged, names, kept_rules=["R2>R1"])
    assert fell["reason"].tolist() == ["the rule was dropped after it was measured"] * 2


def test_facts_of_instances_and_keys_join_those_of_the_sample() -> None:
    combinations = as_instances(("R1>R2", "E1", "E2", "E1"), ("R1&R2>R3", "E1", "E2", "E5"))
    objects = as_sample({("E9", "R4", "E7"), ("E9", "R4", "E8")})
    sample = as_sample({("E1", "R1", "E2")})
    whole = complete(sample, combinations, objects, head_holds=True)
    heads = {("E2", "R2", "E1"), ("E1", "R3", "E5")}
    assert rows_of(whole) == rows_of(sample) | rows_of(objects) | heads | {("E2", "R2", "E5")}
    assert whole.equals(whole.sort_values(FACT, ignore_index=True))
    known = complete(sample, combinations, objects, head_holds=False)
    assert rows_of(whole) - rows_of(known) == heads


def test_so_many_keys_are_taken_of_all_relations_together() -> None:
    objects = as_sample({(f"E{s}", r, f"E{o}") for s in range(6) for r in ("R1", "R2") for o in (7, 8)})
    assert sample_keys(objects, None, 0, WORLD).equals(objects)
    assert sample_keys(objects, 12, 0, WORLD).equals(objects)
    some = sample_keys(objects, 5, 3, WORLD)
    keys, every = (rows_of(table, *FACT[:2]) for table in (some, objects))
    assert len(keys) == 5
    assert len(some) == 10
    assert keys == set(sorted(every, key=lambda key: iri_hash(3, WORLD.iri(key[0]), key[1]))[:5])
