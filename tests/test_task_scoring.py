"""Outputs of engines as scores, items that ask about edited facts, and templates of tasks."""

import pandas as pd
import pytest

from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS, TASK_SCORES
from aftershock.tasks.definition import make_task
from aftershock.tasks.scoring import asks_about, combine, edits_asked_about, score_items
from aftershock.tasks.templates import evaluate, render, texts


def items(*rows) -> pd.DataFrame:
    blank = {"prompt": "", "question": "", "choices": [], "gold": None, "answers": [], "about": []}
    made = [{"item_id": str(number), "group": None, **blank, **row} for number, row in enumerate(rows)]
    frame = pd.DataFrame(made, columns=list(TASK_ITEMS.columns)).astype({"gold": "Int64"})
    TASK_ITEMS.check(frame)
    return frame


def outputs(checkpoint, *rows) -> pd.DataFrame:
    blank = {"logprobs": [], "n_tokens": [], "greedy": [], "text": None, "finished": None, "truncated": 0}
    made = [{"item_id": str(number), **blank, **row} for number, row in enumerate(rows)]
    frame = pd.DataFrame(made).assign(checkpoint=checkpoint)[list(TASK_OUTPUTS.columns)]
    return frame.astype({"text": "string", "finished": "boolean"})


def read_back(frame: pd.DataFrame, table, folder) -> pd.DataFrame:
    """The rows as a stage reads them, lists as arrays."""
    table.write(frame, folder / "table.parquet")
    return table.read(folder / "table.parquet")


CHOICE = make_task("choice", {"kind": "choice", "metrics": ["acc", "mrr"]})
THREE = [{"choices": [" a", " b", " c"], "gold": gold, "group": f"g{gold}"} for gold in (2, 0)]


def chosen(*logprobs):
    return {"logprobs": list(logprobs), "n_tokens": [1.0] * len(logprobs)}


def test_each_checkpoint_item_and_metric_has_a_score(tmp_path):
    later = outputs(10, chosen(-3.0, -2.0, -1.0), chosen(-3.0, -2.0, -1.0))
    first = outputs(0, chosen(-1.0, -3.0, -2.0), chosen(-1.0, -2.0, -3.0))
    said = read_back(pd.concat([later, first]), TASK_OUTPUTS, tmp_path)
    found = score_items(CHOICE, read_back(items(*THREE), TASK_ITEMS, tmp_path), said)
    found = read_back(found, TASK_SCORES, tmp_path)
    values = found.set_index(["checkpoint", "metric", "item_id"])["value"]
    assert values.to_dict() == {
        **{(0, "acc", "0"): 0, (0, "acc", "1"): 1, (0, "mrr", "0"): 1 / 2, (0, "mrr", "1"): 1},
        **{(10, "acc", "0"): 1, (10, "acc", "1"): 0, (10, "mrr", "0"): 1, (10, "mrr", "1"): 1 / 3},
    }
    one = found[(found["checkpoint"] == 10) & (found["metric"] == "mrr")]
    assert combine("mrr", one) == pytest.approx(2 / 3)
    assert one["prediction"].tolist() == ["c", "c"]
    assert one["gold"].tolist() == ["c", "a"]
    assert one["group"].tolist() == ["g2", "g0"]
    pd.testing.assert_frame_equal(found, score_items(CHOICE, items(*THREE), said[::-1]), check_dtype=False)


def test_generated_texts_are_scored_from_what_is_parsed(tmp_path):
    task = make_task("t", {"metrics": ["exact_match"], "parse": {"words": ["yes", "no"]}})
    asked = items({"answers": ["yes"]}, {"answers": ["no"]}, {"answers": ["no"]})
    said = outputs(0, {"text": " Yes!"}, {"text": " perhaps"}, {"text": None})
    found = score_items(task, asked, read_back(said, TASK_OUTPUTS, tmp_path))
    assert found["value"].tolist() == [1, 0, 0]
    assert found["parsed"].tolist() == [True, False, False]


def test_outputs_have_to_be_of_all_items_and_no_others():
    said = outputs(3, chosen(-3.0, -2.0, -1.0), chosen(-3.0, -2.0, -1.0))
    with pytest.raises(ValueError, match="task choice: 1 items have no output after 3 edits, the first is 1"):
        score_items(CHOICE, items(*THREE), said[:1])
    with pytest.raises(ValueError, match="task choice: outputs of unknown items: 1"):
        score_items(CHOICE, items(*THREE[:1]), said)


# --- items about edited facts -------------------------------------------------------------------------------
EDITS = pd.DataFrame(
    [(3, "Ann Lee", "Oslo", "Rome"), (5, "France", "Paris", "Bern"), (8, "", "x", "")],
    columns=["edit_id", "subject", "target_true", "target_new"],
)


@pytest.mark.parametrize(
    ("item", "edits"),
    [
        ({"question": "Where was Ann Lee born?", "answers": ["Oslo"]}, [3]),
        ({"question": "where was ANN  LEE born?", "choices": [" Rome", " Bonn"]}, [3]),  # the new object
        ({"question": "Where was Ann Leeds born?", "answers": ["Oslo"]}, []),  # another name
        ({"question": "What did Ann Lee write?", "answers": ["Poems"]}, []),  # another fact
        ({"question": "Who was born there?", "answers": ["Oslo"]}, []),
        ({"question": "The capital of France?\nA. Paris\nB. Lyon", "choices": [" A", " B"]}, [5]),
        ({"question": "The capital of France?\nA. Parisian\nB. Lyon", "choices": [" A", " B"]}, []),
        ({"question": "Ann Lee lives in France, in Paris or Oslo?", "answers": ["Paris"]}, [3, 5]),
        ({"question": "Anything", "about": ["france"]}, [5]),
        ({"question": "", "answers": [""]}, []),
    ],
)
def test_items_that_ask_about_an_edit(item, edits):
    assert edits_asked_about(items(item), EDITS)[0] == edits
    assert asks_about(items(item), EDITS).tolist() == [bool(edits)]
    assert asks_about(items(item), EDITS[:0]).tolist() == [False]


def test_templates_are_filled_with_what_fields_hold_literally():
    fields = {"text": "{{ 7 * 7 }} {% raw %} <b>&", "row": {}}
    assert render("say: {{ text }}\n", fields) == "say: {{ 7 * 7 }} {% raw %} <b>&\n"


def test_templates_cannot_reach_out_of_their_fields():
    with pytest.raises(ValueError, match="unsafe"):
        render("{{ text.__class__.__mro__ }}", {"text": "a"})
    with pytest.raises(ValueError, match="immutable|unsafe|not callable"):
        render("{{ names.append('b') }}", {"names": ["a"]})


def test_a_field_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="'colour' is undefined"):
        render("{{ colour }}", {"color": "red"})
    with pytest.raises(ValueError, match="'colour' is undefined"):
        evaluate("colour", {"color": "red"})
    with pytest.raises(ValueError, match="found 'red'; expected a list"):
        texts("color", {"color": "red"})
    with pytest.raises(ValueError, match="'color' is null"):
        texts("[color]", {"color": None})


NULLS = (
    *("{{ q }}", "{{ q | trim }}", "{{ q | replace('a', 'b') }}", "{{ q | lower }}", "{{ 'x ' ~ q }}"),
    *("{{ [q, 'b'] | join(';') }}", "{{ q | sub('a') }}", "{{ q | part('(a)') }}", "{{ options(q) }}"),
    *("{{ row.names[0].first | trim }}", "{{ row.names[1] | string }}", "{{ row.names | join(' ') }}"),
)


@pytest.mark.parametrize("template", NULLS)
def test_a_field_that_is_null_counts_as_lacking(template):
    fields = {"q": None, "row": {"names": [{"first": None}, None]}}
    with pytest.raises(ValueError, match="is null"):
        render(template, fields)
    with pytest.raises(ValueError, match="is null"):
        evaluate(template.strip("{} "), fields)
    assert render("{{ q if q is defined else 'b' }}", fields) == "b"
    assert evaluate("q is defined", fields) is False


def test_filters_of_templates():
    assert texts("names | spaced", {"names": ["a", "b"]}) == [" a", " b"]
    assert texts("names | marked([0, 1, 1])", {"names": ["a", "b", "c"]}) == ["b", "c"]
    assert render("{{ t | sub('<<.*?>>') }}", {"t": "2+3=<<2+3=5>>5"}) == "2+3=5"
    assert render("{{ t | part('#### *(.*)') }}", {"t": "so\n#### 18"}) == "18"
    with pytest.raises(ValueError, match="nothing fits"):
        render("{{ t | part('#### (.*)') }}", {"t": "so"})
    listed = "Q?\nOptions:\n(A) one\n(B) two (C) no"
    assert evaluate("options(t)", {"t": listed}) == ["(A)", "(B)"]
    ships = "Q?\nOptions:\n(A) some ship\n(B)  (old) ship "
    assert evaluate("option_texts(t)", {"t": ships}) == ["some ship", "(old) ship"]
    assert evaluate("options(t)", {"t": "Q?\nOptions:\n- Yes\n- No"}) == ["Yes", "No"]
