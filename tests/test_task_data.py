"""Shipped tasks on real items, where the benchmarks' files lie beside this checkout."""

from functools import cache
from pathlib import Path

import pytest

from aftershock.tables.sequences import TASK_ITEMS
from aftershock.tasks.agreement import plain_words
from aftershock.tasks.definition import list_tasks, read_task
from aftershock.tasks.prepare import Prepared, prepare_items
from aftershock.tasks.sources import files_of, parts_of, read_rows, source_errors, source_of

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "resources" / "tasks"
DATA = ROOT.parent / "shared" / "data" / "benchmarks"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="no benchmarks beside this checkout (shared/data)")

NOT_HERE = {"mrpc_alphaedit", "cola_alphaedit", "ifeval", "arc_challenge_chat"}
TASKS = {name: read_task(name, SHIPPED) for name in list_tasks(SHIPPED)}
FILES = sorted(name for name, task in TASKS.items() if task.source == "files" and name not in NOT_HERE)


@cache
def prepared(name: str, n_items: int | None = None, seed: int = 0) -> Prepared:
    task = TASKS[name]
    rows = {part: read_rows(files_of(source_of(task, part, DATA))) for part in parts_of(task)}
    return prepare_items(task, rows["items"], rows.get("examples", []), n_items, seed)


@pytest.mark.parametrize("name", FILES)
def test_all_items_prepare(name):
    task, found = TASKS[name], prepared(name)
    items = found.items
    TASK_ITEMS.check(items)
    assert found.counts["fewer_examples"] == 0
    assert len(items) >= 200
    assert items["question"].str.strip().all()
    assert not items["prompt"].str.endswith(" ").any()  # the space belongs to what follows
    if task.kind == "choice":
        assert items["gold"].fillna(-1).between(0, items["choices"].map(len) - 1).all()
        assert all(choice.startswith(" ") for choices in items["choices"] for choice in choices)
    elif "conll" not in name:
        assert all(len(answers) and answers[0].strip() for answers in items["answers"])
    if task.two_way:
        assert len({tuple(choices) for choices in items["choices"]}) == 1
        assert items["gold"].dropna().nunique() in (0, 2)


@pytest.mark.parametrize("name", FILES)
def test_prompts_end_with_the_question_and_examples_do_not_hold_it(name):
    task = TASKS[name]
    for item in prepared(name).items.itertuples():
        assert item.prompt.endswith(item.question)
        if task.shots:
            before = item.prompt.removesuffix(item.question)
            assert before
            assert item.question.strip() not in before


@pytest.mark.parametrize("name", ["gsm8k", "triviaqa"])
def test_strict_prompts_do_not_give_the_answer(name):
    """Answers that are neither read from a text nor listed stand in the question rarely, by chance."""
    items = prepared(name).items
    holds = [
        f" {plain_words(answers[0])} " in f" {plain_words(question)} "
        for question, answers in zip(items["question"], items["answers"], strict=True)
    ]
    assert sum(holds) / len(holds) < 0.12


def test_the_released_prompt_of_gsm8k_ends_with_the_result_and_the_strict_one_has_no_reasoning():
    released, strict = prepared("gsm8k_released").items, prepared("gsm8k").items
    assert released["item_id"].tolist() == strict["item_id"].tolist()
    given = [a[0] in q for q, a in zip(released["question"], released["answers"], strict=True)]
    assert sum(given) / len(given) > 0.95
    assert not strict["prompt"].str.contains("<<").any()
    assert (strict["prompt"].str.count("The answer is") == 8).all()


def test_chosen_items_of_protocols_are_the_same():
    pairs = [("boolq", "boolq_released"), ("sst2", "sst2_released"), ("mutual", "mutual_released")]
    for strict, released in pairs:
        assert list(prepared(strict, 50).items["item_id"]) == list(prepared(released, 50).items["item_id"])


def test_labels_are_counted_as_the_data_has_them():
    """The balance that the data's own description names."""
    counts = {name: prepared(name).items["gold"].value_counts().to_dict() for name in FILES}
    assert counts["mmlu"] == {0: 99, 1: 94, 2: 108, 3: 98}
    assert counts["commonsense_qa"] == {0: 79, 1: 76, 2: 85, 3: 76, 4: 84}
    assert counts["boolq"] == {1: 243, 0: 157}
    assert counts["rte"] == {1: 146, 0: 131}  # entailment is True, the second choice
    assert counts["sst2"] == {1: 219, 0: 181}
    assert counts["mutual"] == {0: 86, 1: 93, 2: 101, 3: 120}
    assert counts["toxigen"] == {1: 146, 0: 254}
    assert counts["truthfulqa_mc1"] == {0: 400}
    entities = prepared("conll2003").items["answers"].explode().dropna().str.partition(":")[0].value_counts()
    assert entities.to_dict() == {"LOC": 216, "ORG": 182, "PER": 166, "MISC": 58}


def test_what_the_folder_lacks_is_said():
    lacking = source_errors([TASKS[name] for name in sorted(NOT_HERE)], DATA)
    assert [line.split(":")[0] for line in lacking] == [f"task {name}" for name in sorted(NOT_HERE)]
    assert source_errors([TASKS[name] for name in FILES], DATA) == []
