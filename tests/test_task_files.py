"""Tasks and suites as their files have them."""

import re
from pathlib import Path

import pytest
import yaml

from aftershock.tasks.definition import chosen_tasks, list_tasks, make_task, read_suites, read_task
from aftershock.tasks.metrics import METRICS, Outcome
from aftershock.tasks.overview import differences, suites_table, tasks_table
from aftershock.tasks.prepare import prepare_items

ROOT = Path(__file__).parents[1]
SHIPPED = ROOT / "resources" / "tasks"
BENCHMARKS = {
    *("MMLU", "BBH", "GSM8K", "CommonsenseQA", "TriviaQA", "TruthfulQA", "ToxiGen", "RTE", "NQ", "BoolQ"),
    *("MuTual", "SAMSum", "CoNLL03", "SST-2"),
}
COLOURS = """
title: Colours
kind: choice
metrics: [acc]
data: {items: {local: [colours.jsonl]}}
item: {question: "{{ name }} is", choices: [" red", " blue"], gold: label}
"""


def write(folder: Path, name: str, text: str) -> None:
    (folder / "suites").mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(text)


# --- one file -----------------------------------------------------------------------------------------------
def test_a_file_is_a_task_with_defaults(tmp_path):
    write(tmp_path, "colours", COLOURS)
    task = read_task("colours", tmp_path)
    assert (task.name, task.benchmark, task.headline) == ("colours", "Colours", "acc")
    assert (task.protocol, task.shots) == ("strict", 0)
    assert task.item["where"] == "true"
    assert task.data["revision"] == "main"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("metric: [acc]", "metric: unknown key; did you mean 'metrics'?"),
        ("kind: chioce", "kind: 'chioce' is unknown; did you mean 'choice'?"),
        ("metrics: [acc_per_tokens]", "metrics: 'acc_per_tokens' is none of kind choice; did you mean"),
        ("metrics: [exact_match]", "metrics: 'exact_match' is none of kind choice"),
        ("kind: generate", "item.answers: missing; a task of kind generate needs them"),
        ("shots: 2", "data.examples: missing for 2 shots; or set examples.part: items"),
        ("source: world", "prepare: missing; the source world has no rows for templates, name a function"),
        ("data: {items: {locl: [a]}}", "data.items.locl: unknown key; did you mean 'local'?"),
        ("data: {items: {files: [a]}}", "data.items.files: no data set is named; give data.hub"),
        ("data: {}", "data.items: missing; name local files, or files of a data set on the Hub"),
        ("extends: coluors", "extends: unknown task 'coluors'; did you mean 'colours'?"),
        ("extends: mine", "extends: mine extends mine"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, said):
    write(tmp_path, "colours", COLOURS)
    key = change.partition(":")[0]
    kept = [line for line in COLOURS.splitlines() if not line.startswith(f"{key}:")]
    write(tmp_path, "mine", "\n".join([*kept, change]))
    with pytest.raises(ValueError, match="(?m)^" + re.escape(f"resources/tasks/mine.yaml: {said}")):
        read_task("mine", tmp_path)


def test_a_task_takes_what_it_does_not_say_from_another(tmp_path):
    write(tmp_path, "colours", COLOURS)
    write(tmp_path, "mine", 'extends: colours\ntitle: Mine\nitem: {choices: [" no", " yes"]}\n')
    base, mine = read_task("colours", tmp_path), read_task("mine", tmp_path)
    assert mine.item == {**base.item, "choices": [" no", " yes"]}
    assert (mine.title, mine.data) == ("Mine", base.data)


def test_jobs_depend_on_what_their_stage_reads(tmp_path):
    write(tmp_path, "colours", COLOURS)
    write(tmp_path, "other", COLOURS.replace("Colours", "Paints").replace("[acc]", "[acc, mrr]"))
    one, other = read_task("colours", tmp_path), read_task("other", tmp_path)
    assert one.part("prepare") == other.part("prepare")
    assert one.part("run") == other.part("run") == {"kind": "choice"}
    assert one.part("score") != other.part("score")
    for stage in ("prepare", "run", "score"):
        again = make_task("colours", one.part(stage))
        assert again.part(stage) == one.part(stage)
    assert make_task("colours", one.part("prepare")).item == one.item


def test_an_unknown_task_is_named_with_the_closest(tmp_path):
    write(tmp_path, "colours", COLOURS)
    with pytest.raises(ValueError, match=r"coulors.yaml: no such file; did you mean 'colours'\?"):
        read_task("coulors", tmp_path)


# --- suites -------------------------------------------------------------------------------------------------
def test_suites_stand_for_their_tasks(tmp_path):
    write(tmp_path, "colours", COLOURS)
    write(tmp_path, "paints", COLOURS)
    write(tmp_path, "suites/all", "title: All\ntasks: [paints, colours]\n")
    assert chosen_tasks(["colours", "all"], tmp_path) == ["colours", "paints"]
    with pytest.raises(ValueError, match=r"unknown task or suite 'al'; did you mean 'all'\?"):
        chosen_tasks(["al"], tmp_path)


def test_what_is_wrong_with_suites_is_listed(tmp_path):
    write(tmp_path, "colours", COLOURS)
    write(tmp_path, "suites/colours", "title: C\ntasks: [colours]\n")
    write(tmp_path, "suites/more", "title: More\ntasks: [colour]\n")
    write(tmp_path, "suites/none", "title: None\n")
    with pytest.raises(ValueError, match="a task has this name too") as caught:
        read_suites(tmp_path)
    assert "more.yaml: unknown task 'colour'; did you mean 'colours'?" in str(caught.value)
    assert "none.yaml: tasks: missing" in str(caught.value)


# --- those that are shipped ---------------------------------------------------------------------------------
@pytest.mark.parametrize("name", list_tasks(SHIPPED))
def test_shipped_tasks_are_sound(name):
    task = read_task(name, SHIPPED)
    assert task.protocol == "strict" or task.differs
    assert all(re.compile(pattern) for pattern in [task.parse["pattern"]] if pattern)


@pytest.mark.parametrize(
    ("name", "gold", "right", "wrong"),
    [
        ("mmlu_generation", "B", " B| B.|(B)|**B**| The answer is B", " b|| E| C or B|B1"),
        ("bbh", "(A)", "So the answer is (A).|the answer is: (a)\n\nQ:", "(A)|the answer is (A) or (B)."),
        ("gsm8k", "-1,234", "The answer is -1234.|the answer is: $-1,234.00|The answer is −$1,234 now.", ""),
        ("gsm8k", "5", "The answer is $5.0.|The answer is 5,", "5|The answer is $|The answer is 15."),
        ("gsm8k", "0.5", "The answer is .5", "The answer is 5"),
        ("boolq_released", "yes", " yes|Yes|YES", " yesterday|yes.|\nyes|"),
        ("rte_released", "true", " True|true.| untrue", "| false|neither false nor true"),
        ("triviaqa", "The Hague", " Hague.| the hague!", " Hague, Holland| The|."),
    ],
    ids=["letter", "option", "thousands", "number", "fraction", "yes", "true", "name"],
)
def test_answers_are_read_as_the_protocol_says(name, gold, right, wrong):
    """Right and wrong texts, with a bar between each two."""
    task = read_task(name, SHIPPED)

    def matches(texts):
        said = [Outcome("", "", (), None, (gold,), (), (), text, True) for text in texts.split("|")]
        return {score.value for score in METRICS["exact_match"].score(said, task.parse)}

    assert (matches(right), matches(wrong)) == ({1.0}, {0.0})


@pytest.mark.parametrize("name", ["boolq_released", "rte_released", "sst2_released", "sst2"])
def test_a_hidden_label_is_no_answer(name):
    """GLUE's test sets have -1 for all."""
    task = read_task(name, SHIPPED)
    row = dict.fromkeys(("passage", "question", "sentence", "sentence1", "sentence2"), "a")
    assert prepare_items(task, [row | {"label": 1}], [], None, 0).items["prompt"].all()
    for label in (-1, "1", None):
        with pytest.raises(ValueError, match=f"task {name}, row 0: "):
            prepare_items(task, [row | {"label": label}], [], None, 0)


def test_true_choices_may_stand_in_any_order():
    targets = {"choices": ["no", "yes", "not at all", "indeed"], "labels": [0, 1, 0, 1]}
    task = read_task("truthfulqa_mc2", SHIPPED)
    item = prepare_items(task, [{"question": "Is it?", "mc2_targets": targets}], [], None, 0).items.iloc[0]
    assert list(item["answers"]) == [" yes", " indeed"]
    assert item["gold"] == 1


def test_every_benchmark_has_a_strict_protocol():
    tasks = [read_task(name, SHIPPED) for name in list_tasks(SHIPPED)]
    assert {task.benchmark for task in tasks if task.protocol == "strict"} >= BENCHMARKS
    released = {"GSM8K", "RTE", "NQ", "BoolQ", "MuTual", "SAMSum", "CoNLL03", "SST-2"}
    assert {task.benchmark for task in tasks if task.protocol == "released"} == released


def test_suites_hold_what_their_studies_ask():
    suites = read_suites(SHIPPED)
    studies = {"study-a", "study-b", "study-b-strict", "alphaedit", "crispedit-2026"}
    assert set(suites) >= {*studies, "wild", "laptop"}

    def of(name):
        return [read_task(task, SHIPPED) for task in suites[name].tasks]

    released, strict = of("study-b"), of("study-b-strict")
    assert {task.benchmark for task in released} == {task.benchmark for task in strict}
    assert {task.protocol for task in released} == {"released"}
    assert {task.protocol for task in strict} == {"strict"}
    assert {task.headline for task in of("alphaedit")} == {"weighted_f1"}
    assert all(task.chat and task.engine == "harness" for task in of("crispedit-2026"))


def test_the_document_has_the_tables_of_the_files():
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    tasks = [read_task(name, SHIPPED) for name in list_tasks(SHIPPED)]
    for lines in (tasks_table(tasks), suites_table(SHIPPED), differences(tasks)):
        block = "\n".join(lines)
        assert block in text, "print it anew: python -m aftershock.tasks.overview"


def test_the_example_of_the_document_is_a_task(tmp_path):
    text = (ROOT / "docs" / "tasks.md").read_text(encoding="utf-8")
    block = re.search(r"    # mine\.yaml, in resources/tasks/\n((?:    .*\n)+)", text)[1]
    content = yaml.safe_load(re.sub(r"^    ", "", block, flags=re.M))
    write(tmp_path, "colours", yaml.safe_dump(content))
    assert read_task("colours", tmp_path).two_way
