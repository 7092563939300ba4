"""Facts that count as known or are taught, by hand; and parts of a table put together, or refused."""

import json
from pathlib import Path

import pandas as pd
import pytest

from aftershock.datasets.known import (
    count_facts,
    count_objects,
    judge_facts,
    judge_objects,
    object_shortages,
    shortages,
)
from aftershock.kg.taught import select_taught
from aftershock.shards import gather
from aftershock.tables.graph import FACT_KEY, INSTANCES
from aftershock.tables.models import FACT_ANSWERS, OBJECT_ANSWERS, OBJECT_SCORES, TAUGHT, VERIFIED
from test_workflow import planned, planned_demo

KEY = list(FACT_KEY)
SETTINGS = {"criterion": "continuation", "min_probability": 0.2, "max_rank": 2}
LIMITS = {"max_rank_per_object": 2, "max_rank": None, "min_probability": 0.01}

ANSWERS = pd.DataFrame(
    [  # said, probable, ranked: each differs somewhere
        ("A", "P22", "B", "B, who", True, 0.9, 1, 9),
        ("B", "P40", "A", "C", False, 0.3, 1, 9),
        ("B", "P26", "M", "M", True, 0.1, 5, 9),
        ("A", "P25", "M", "X", False, 0.1, 3, 9),
        ("D", "P22", "E", "F", False, 0.2, 2, 9),
        ("E", "P40", "D", "D", True, 0.5, 4, 9),
    ],
    columns=list(FACT_ANSWERS.columns),
)


@pytest.mark.parametrize(
    ("criterion", "known"),
    [
        ("continuation", [True, False, True, False, False, True]),
        ("probability", [True, True, False, False, True, True]),
        ("rank", [True, True, False, False, True, False]),
    ],
)
def test_facts_are_known_by_the_criterion(criterion: str, known: list[bool]) -> None:
    found = judge_facts(ANSWERS, {**SETTINGS, "criterion": criterion})
    VERIFIED.check(found)
    assert found["known"].tolist() == known
    pd.testing.assert_frame_equal(found[list(ANSWERS.columns)], ANSWERS)


OBJECTS = pd.DataFrame(
    [
        ("A", "P40", "B", 0.5, 1, 0.1),
        ("A", "P40", "C", 0.009, 2, 0.1),
        ("D", "P40", "E", 0.4, 5, 0.2),
        ("D", "P40", "F", 0.4, 4, 0.2),
        ("G", "P26", "H", 0.01, 3, None),
    ],
    columns=list(OBJECT_ANSWERS.columns),
)


@pytest.mark.parametrize(
    ("limits", "known"),
    [
        ({}, [True, False, False, True, False]),
        ({"min_probability": None}, [True, True, False, True, False]),
        ({"max_rank_per_object": None}, [True, False, True, True, True]),
        ({"max_rank_per_object": 0.5}, [True, False, False, False, False]),
        ({"max_rank_per_object": None, "max_rank": 3}, [True, False, False, False, True]),
        (dict.fromkeys(LIMITS), [True] * 5),
    ],
)
def test_objects_are_known_within_all_limits(limits: dict, known: list[bool]) -> None:
    found = judge_objects(OBJECTS, LIMITS | limits)
    OBJECT_SCORES.check(found)
    assert found["known"].tolist() == known


INSTANCE_ROWS = pd.DataFrame(
    [
        ("P22>P40", "A", "B", "A", True, None),
        ("P22>P40", "D", "E", "D", True, None),
        ("P22>P40", "X", "Y", "X", True, None),  # never asked about: not what this model was taught
        ("P22>P40", "D", "B", "D", False, "dropped"),
        ("P22&P26>P25", "A", "B", "M", True, None),
    ],
    columns=list(INSTANCES.columns),
)


def test_instances_count_where_all_is_known_that_a_case_needs() -> None:
    counts = count_facts(judge_facts(ANSWERS, SETTINGS), SETTINGS, INSTANCE_ROWS)
    rows = {(row[0], row[1]): row[2:] for row in counts.itertuples(index=False, name=None)}
    assert rows["relation", "P22"] == (2, 1, 2, 2, 1)
    assert rows["relation", "P40"] == (2, 1, 2, 1, 1)
    assert rows["rule", "P22>P40"] == (2, 1, 2, 2, 1)  # (A P22 B) is said, (D P22 E) not
    assert rows["rule", "P22&P26>P25"] == (1, 1, 0, 0, 1)  # tied (A P22 B), changed (B P26 M)
    assert len(counts[counts["of"] == "relation"]) == 4
    by_rank = {**SETTINGS, "criterion": "rank"}
    assert count_facts(judge_facts(ANSWERS, by_rank), by_rank, INSTANCE_ROWS)["known"].tolist()[-1] == 2
    plain = count_facts(judge_facts(ANSWERS, SETTINGS), SETTINGS, None)
    assert set(plain["of"]) == {"relation"}
    nothing = count_facts(judge_facts(ANSWERS[:0], SETTINGS), SETTINGS, INSTANCE_ROWS[:0])
    assert nothing.empty


def test_too_few_verified_cases_say_how_many_and_what_to_relax() -> None:
    counts = count_facts(judge_facts(ANSWERS, SETTINGS), SETTINGS, INSTANCE_ROWS)
    quotas = {"test": {"coverage": 2, "reverse": 1, "composite": 1}, "dev": {"reverse": 1}, "train": {}}
    (said,) = shortages(counts, quotas)
    assert said.startswith(
        "reverse: the quotas ask for 2 cases, and the model knows what 1 of 2 instances rest on"
    )
    for part in ("P22>P40 1 of 2", "continuation 1, probability 2, rank 2", "cases.verification.criterion"):
        assert part in said
    assert shortages(counts, {"test": {"coverage": 2, "reverse": 1}}) == []
    (said,) = shortages(counts, {"test": {"coverage": 3}})
    assert (
        "coverage: the quotas ask for 3 cases, and the model knows 2 of 4 facts (P22 1 of 2; P40 1 of 2)"
        in said
    )
    assert shortages(counts[counts["of"] == "relation"], quotas) == []  # published cases come from no rule
    scores = count_objects(judge_objects(OBJECTS, LIMITS), 1)
    assert scores.to_numpy().tolist() == [["P26", 1, 0, 1, 0], ["P40", 2, 2, 4, 2]]
    (said,) = object_shortages(scores, {"test": {"round_easy": 2, "round_hard": 3}}, 1)
    assert said.startswith(
        "round_hard: the quotas ask for 3 cases, and 2 of 3 (subject, relation) have 1 objects"
    )
    assert "cases.known_objects" in said


def test_a_chain_whose_middle_fact_is_unknown_does_not_count() -> None:
    answers = ANSWERS.assign(said=[True, True, False, True, True, True])
    counts = count_facts(judge_facts(answers, SETTINGS), SETTINGS, INSTANCE_ROWS).set_index("name")
    assert counts.loc["P22&P26>P25", "known"] == 0
    assert counts.loc["P22>P40", "known"] == 2


# --- parts -------------------------------------------------------------------------------------------------
@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"facts.{i}-of-3.parquet" for i in (1, 2, 3)]
    for path, rows in zip(paths, (ANSWERS[3:], ANSWERS[:3], ANSWERS[:0]), strict=True):
        FACT_ANSWERS.write(rows, path)
    return paths


def test_parts_are_put_in_the_order_of_what_was_asked(parts: list[Path]) -> None:
    pd.testing.assert_frame_equal(gather(FACT_ANSWERS, parts, ANSWERS[KEY]), ANSWERS, check_dtype=False)
    backwards = gather(FACT_ANSWERS, parts[::-1], ANSWERS[KEY][::-1])
    assert backwards["subject_id"].tolist() == ANSWERS["subject_id"].tolist()[::-1]
    assert gather(FACT_ANSWERS, parts[2:], ANSWERS[KEY][:0]).empty


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another table"])
def test_a_damaged_part_is_removed_and_made_anew(damage: str, parts: list[Path]) -> None:
    content = parts[0].read_bytes()
    if damage == "another table":
        OBJECT_ANSWERS.write(OBJECTS, parts[0])
    else:
        flipped = bytearray(content)
        flipped[60] ^= 1  # in a page of data
        parts[0].write_bytes({"cut": content[:-20], "flipped": bytes(flipped), "empty": b""}[damage])
    with pytest.raises(ValueError, match=r"facts\.1-of-3\.parquet .*Removed what was damaged: run again"):
        gather(FACT_ANSWERS, parts, ANSWERS[KEY])
    assert [path.exists() for path in parts] == [False, True, True]


def test_rows_that_are_missing_or_there_twice_are_refused(parts: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"3 are in no file, and 0 of 3 rows read repeat a key"):
        gather(FACT_ANSWERS, parts[1:], ANSWERS[KEY])
    with pytest.raises(ValueError, match=r"6 of 9 rows read repeat a key: delete .*1-of-3.* and run again"):
        gather(FACT_ANSWERS, [parts[0], parts[0], parts[1]], ANSWERS[KEY])
    with pytest.raises(ValueError, match="0 are in no file"):
        gather(FACT_ANSWERS, parts, ANSWERS[KEY][:4])
    assert all(path.exists() for path in parts)


# --- jobs --------------------------------------------------------------------------------------------------
def test_jobs_and_the_encoder_follow_the_configuration(tmp_path: Path) -> None:
    names = ["verify_facts", "score_objects", "judge_facts", "judge_objects", "fetch_encoder"]
    jobs = planned_demo()
    assert [jobs[name] for name in names] == [1, 1, 1, 1, 0]
    cases = {"label_encoder": {"hub": "us/labels", "revision": "v1"}}
    (tmp_path / "study.yaml").write_text(json.dumps({"shards": {"questions": 3}, "cases": cases}))
    jobs = planned(tmp_path, "--configfile", "study.yaml")
    assert [jobs[name] for name in names] == [3, 3, 1, 1, 1]


def graph(families: int = 40) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Instances, objects and facts of families: a father, two children, their mother and three awards."""
    facts, instances = [], []
    for number in range(families):
        father, mother, *children = (f"Q{number}{role}" for role in range(4))
        awards = [f"Q9{number}{award}" for award in range(3)]
        facts += [(child, *parent) for child in children for parent in (("P22", father), ("P25", mother))]
        facts += [(father, "P40", child) for child in children] + [(father, "P26", mother)]
        facts += [(mother, "P166", award) for award in awards]
        instances += [("P22>P40", child, father, child) for child in children]
        instances += [("P22&P26>P25", child, father, mother) for child in children]
    facts = pd.DataFrame(facts, columns=list(FACT_KEY))
    objects = facts[facts["relation_id"].isin(["P166", "P40"])].reset_index(drop=True)
    facts = facts.assign(subject="s", object="o", kept=True, reason=None)
    instances = pd.DataFrame(instances, columns=["rule", "x_id", "y_id", "z_id"])
    return instances.assign(kept=True, reason=None)[list(INSTANCES.columns)], objects, facts


def keys_of(taught: pd.DataFrame) -> set[tuple[str, str]]:
    return set(zip(taught["subject_id"], taught["relation_id"], strict=True))


def test_no_limit_means_every_kept_fact():
    instances, objects, facts = graph()
    facts.loc[facts.index[::7], "kept"] = False
    taught = TAUGHT.check(select_taught(instances, objects, facts, None, 0)).to_pandas()
    assert len(taught) == facts["kept"].sum()


def test_a_limit_is_met_with_whole_instances_and_whole_keys():
    instances, objects, facts = graph()
    taught = select_taught(instances, objects, facts, 100, 0)
    keys = keys_of(taught)
    assert 100 <= len(keys) <= 102
    whole = facts.set_index(["subject_id", "relation_id"]).index.isin(keys)
    assert len(taught) == whole.sum()
    awarded = {key for key in keys if key[1] == "P166"}
    assert 20 <= len(awarded) <= 40
    complete = [
        {(row.x_id, "P22"), (row.y_id, "P40")} <= keys
        if row.rule == "P22>P40"
        else {(row.x_id, "P22"), (row.y_id, "P26"), (row.x_id, "P25")} <= keys
        for row in instances.itertuples()
    ]
    shares = instances.assign(complete=complete).groupby("rule")["complete"].sum()
    assert shares.min() >= 10


def test_dropped_instances_and_facts_are_not_taught():
    instances, objects, facts = graph()
    instances.loc[instances["rule"] == "P22>P40", "kept"] = False
    lost = facts["subject_id"].str.startswith("Q1")
    facts.loc[lost, "kept"] = False
    taught = select_taught(instances, objects[objects["relation_id"] == "P166"], facts, 60, 0)
    assert "P40" not in set(taught["relation_id"])
    assert not set(taught["subject_id"]) & set(facts.loc[lost, "subject_id"])


def test_keys_with_too_many_objects_are_left_out():
    instances, objects, facts = graph(1)
    many = pd.DataFrame([("Q5", "P166", f"Q5{n}") for n in range(11)], columns=list(FACT_KEY))
    facts = pd.concat(
        [facts, many.assign(subject="s", object="o", kept=True, reason=None)], ignore_index=True
    )
    taught = select_taught(instances, pd.concat([objects, many]), facts, 1_000, 0)
    assert "Q5" not in set(taught["subject_id"])
    assert keys_of(taught) == keys_of(facts[facts["subject_id"] != "Q5"])


@pytest.mark.parametrize("keys", [None, 50])
def test_the_choice_depends_on_the_seed_only(keys):
    instances, objects, facts = graph()
    one = select_taught(instances, objects, facts, keys, 0)
    two = select_taught(instances[::-1], objects[::-1], facts[::-1], keys, 0)
    pd.testing.assert_frame_equal(one, two)
    if keys:
        assert keys_of(one) != keys_of(select_taught(instances, objects, facts, keys, 1))
