"""Labels that have the form of an id of their own graph, and those that only look like one."""

import pandas as pd
import pytest

from aftershock.datasets.invariants import label_faults
from aftershock.kg.filters import ID_LIKE, label_fault
from aftershock.kg.graph import find_graph


@pytest.mark.parametrize(
    ("namespace", "entity_id", "ids", "others"),
    [
        (
            "wikidata",
            "Q7",
            ["Q12", "P22", "L42", "Q0"],
            ["V2", "E12", "R3", "M31", "Q01", "Q", "q12", "Q12a", "A4"],
        ),
        ("world", "E7", ["E12", "R3"], ["V2", "Q12", "P22", "L42", "E01", "e12"]),
    ],
)
def test_a_label_is_an_id_by_the_pattern_of_its_graph(namespace, entity_id, ids, others) -> None:
    graph, labels = find_graph(namespace), [*ids, *others]
    assert [label for label in labels if label_fault(label, graph) == ID_LIKE] == ids
    mentions = pd.DataFrame({"case_id": range(len(labels)), "entity_id": entity_id, "label": labels})
    found = label_faults(mentions)
    found = found[found["kind"] == "label is an id"]
    assert found["label"].tolist() == ids
    assert found["case_id"].tolist() == list(range(len(ids)))


def test_an_entity_of_no_known_graph_has_the_patterns_of_all() -> None:
    labels = ["V2", "Q12", "E12"]
    found = label_faults(pd.DataFrame({"case_id": 0, "entity_id": "http://x/1", "label": labels}))
    assert found["label"].tolist() == ["Q12", "E12"]
