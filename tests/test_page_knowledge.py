"""The tables of what a model knew: labels of relations, shares, rules beside relations, and none without."""

import pandas as pd
import pytest

import pages
from aftershock.page.knowledge import knowledge
from aftershock.report import page
from pages import Page

FACTS = pd.DataFrame(
    [
        ("relation", "T1", 85, 44, 62, 83, 44),
        ("rule", "T1>T2", 30, 18, 22, 30, 18),
        ("relation", "T9", 0, 0, 0, 0, 0),
    ],
    columns=["of", "name", "asked", "continuation", "probability", "rank", "known"],
)
OBJECTS = pd.DataFrame(
    {"relation_id": ["T10"], "keys": [54], "usable_keys": [17], "objects": [252], "known": [72]}
)
LABELS = {"T1": "capital", "T10": "shares a border with"}


def column(table, name):
    (found,) = [each for each in table["columns"] if each["id"] == name]
    if found["kind"] == "text":
        return [found["words"][code] for code in found["codes"]]
    return found["values"]


def test_facts_are_counted_by_relation_and_rule():
    facts, objects = knowledge([("demo", FACTS), ("demo", OBJECTS)], LABELS)
    assert column(facts, "name") == ["capital", "T1>T2", "T9"]
    assert column(facts, "asked") == [85, 30, 0]
    assert column(facts, "share")[:2] == pytest.approx([44 / 85, 0.6], rel=1e-3)
    assert column(facts, "share")[2] is None
    assert facts["chosen"] == {"of": "relation"}
    assert column(objects, "relation") == ["shares a border with"]
    assert column(objects, "usable_keys") == [17]


def test_a_model_that_was_asked_nothing_has_no_table():
    assert knowledge([], LABELS) == []
    (facts,) = knowledge([("a", FACTS), ("b", FACTS)], {})
    assert column(facts, "model") == ["a"] * 3 + ["b"] * 3


def test_the_page_has_them():
    html = page(pages.material(known=[("demo", FACTS), ("demo", OBJECTS)], labels=LABELS))
    tables = Page(html).data("data")["tables"]
    assert {"known_facts", "known_objects"} <= set(tables)
    assert "known_facts" not in Page(page(pages.material())).data("data")["tables"]
