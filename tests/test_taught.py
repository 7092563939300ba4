"""The choice of facts that a model is taught."""

import pandas as pd
import pytest

from aftershock.kg.taught import select_taught
from aftershock.tables.graph import FACT_KEY, INSTANCES
from aftershock.tables.models import TAUGHT


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
