"""Reported results of studies of abilities beside a run, and what they claim."""

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from aftershock.metrics.abilities.collapse import TOGETHER
from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.paper.ability_claims import ability_claims, most, some
from aftershock.paper.claims import OPEN, REFUTED, SUPPORTED, WHOLE, Answer
from aftershock.paper.reported_abilities import Sequences, read_studies, reported_abilities
from aftershock.tables.abilities import ABILITIES, ABILITY_CLAIMS, COLLAPSES, REPORTED_ABILITIES
from aftershock.text_files import read_yaml

PAPER = Path(__file__).parents[1] / "resources" / "paper"
STATED = {claim["claim"]: claim for claim in read_yaml(PAPER / "ability_claims.yaml")}
MMLU = TaskInfo("mmlu", "generate", ("exact_match",), "MMLU", "MMLU", shots=5)
SST2 = TaskInfo("sst2", "generate", ("exact_match",), "SST-2", "SST-2", "released")
BOOLQ = TaskInfo("boolq", "generate", ("exact_match",), "BoolQ", "BoolQ", "released")
TOXIGEN = TaskInfo("toxigen", "choice", ("acc",), "ToxiGen", "ToxiGen", safety=True)
PLAN = {"mode": "sequential", "batch": 1, "checkpoints": [0, 1, 10, 50, 100]}
PLAN |= {"edits": {"source": "counterfact"}}
GPT2 = "openai-community/gpt2-xl"


def abilities_of(rows: list[dict]) -> pd.DataFrame:
    """ABILITIES of headline metrics; what is not given is as of a task of which half is retained."""
    made = []
    for row in rows:
        kept, half = row.get("retained") or 0.0, row.get("half", 0.05)
        kept = kept if "retained" in row else 1.0
        made.append({
            **dict.fromkeys(ABILITIES.columns),
            **{"model": "m", "plan": "p", "editor": "rome", "order": "all", "task": "mmlu"},
            **{"checkpoint": 100, "metric": "acc", "headline": True, "n": 100},
            **dict.fromkeys(("value", "low", "high"), kept),
            **{"above_chance": True, "difference": kept - 1, "p_adjusted": 1.0, "significant": False},
            **{"difference_low": kept - 1 - half, "difference_high": kept - 1 + half, "left_out": 0},
            **{"retained_low": kept - half, "retained_high": kept + half, "retained": kept},
            **{key: value for key, value in row.items() if key != "half"},
        })  # fmt: skip
    return pd.DataFrame(made, columns=list(ABILITIES.columns))


def lost_at(points: dict[tuple[str, str], int | None], ended: int | None = None) -> pd.DataFrame:
    """COLLAPSES from the checkpoint of each editor and task."""
    rows = [
        {**dict.fromkeys(COLLAPSES.columns), "model": "m", "plan": "p", "editor": editor, "order": "all",
         "task": task, "kind": "none" if at is None else "gradual", "checkpoint": at, "ended_at": ended,
         "reason": "weights" if ended else None}
        for (editor, task), at in points.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLLAPSES.columns))


def run_of(hubs=None, plan=None, tasks=(MMLU, SST2, BOOLQ, TOXIGEN)):
    editors = {label: {"method": label} for label in ("rome", "memit", "mend")}
    return Sequences(hubs or {"m": GPT2}, editors, {"p": PLAN | (plan or {})}, tasks)


def verdict(claim: str, rows: list[dict], lost: pd.DataFrame | None = None, run=None) -> str:
    name = next(each for each in STATED if claim in each)
    lost = lost_at({}) if lost is None else lost
    table = ability_claims(abilities_of(rows), lost, run or run_of(), [STATED[name]])
    ABILITY_CLAIMS.check(table)
    return table.set_index("part").at[WHOLE, "verdict"]


METHODS = ("rome", "memit", "mend")
NOTHING_LEFT = [{"editor": e, "retained": 0.0} for e in METHODS[:2]]
LATE = [{"editor": e, "retained": 1.0, "checkpoint": 50} for e in METHODS]
ENDED = lost_at({(e, TOGETHER): None for e in METHODS}, ended=60)
SMOL, PYTHIA = "HuggingFaceTB/SmolLM2-135M", "EleutherAI/pythia-"
TUNED = run_of({"tuned": f"{SMOL}-Instruct", "base": SMOL})
SIZES = run_of({"large": f"{PYTHIA}410m", "small": f"{PYTHIA}160m"})
SIZED = [{"model": "large", "retained": 0.9}, {"model": "small", "retained": 0.2}]
WEAK = dict.fromkeys(("retained", "retained_low", "retained_high")) | {"above_chance": False}
HURT = {"checkpoint": 1, "retained": 0.6, "significant": True, "p_adjusted": 0.001}
WHOLE_MODEL = {"checkpoint": 1, "half": 0.02, "task": "sst2"}
FALLS = [{"retained": 0.2}]
TWINS = [{"editor": e, "task": "twin", "retained": 3.0} for e in METHODS]


def kept(**values):
    """A row for each method, model or task with what it retains."""
    (kind,) = {
        "editor" if name in METHODS else "model" if name in ("tuned", "base") else "task" for name in values
    }
    return [{kind: name, "retained": value} for name, value in values.items()]


def together(mmlu, sst2):
    """The checkpoints at which both tasks are lost."""
    return lost_at({("rome", "mmlu"): mmlu, ("rome", "sst2"): sst2})


TWICE = run_of(tasks=(MMLU, replace(MMLU, name="twin", protocol="released")))
"""A run that asks a benchmark in both protocols, of which the released one never loses anything."""


@pytest.mark.parametrize(
    ("claim", "rows", "given", "expected"),
    [
        # Most methods survive only dozens of edits; two are not most, and one that ended did not survive.
        ("4.1", kept(rome=0.1, memit=0.2, mend=1.0), {}, SUPPORTED),
        ("4.1", kept(rome=0.1, memit=0.9, mend=1.0), {}, REFUTED),
        ("4.1", kept(rome=0.1, memit=0.5, mend=0.5), {}, OPEN),
        ("4.1", kept(rome=0.1, memit=0.1, mend=0.1) + TWINS, {"run": TWICE}, SUPPORTED),
        ("4.1", NOTHING_LEFT, {}, OPEN),
        ("4.1", LATE, {}, OPEN),  # nobody has looked at 100 edits
        ("4.1", LATE, {"lost": ENDED}, SUPPORTED),
        # Instruction-tuned models, and larger ones of a family, degrade more slowly.
        ("4.2", kept(tuned=0.9, base=0.3), {"run": TUNED}, SUPPORTED),
        ("4.2", kept(tuned=0.3, base=0.9), {"run": TUNED}, REFUTED),
        ("4.2", kept(tuned=0.5, base=0.5), {"run": TUNED}, OPEN),
        ("4.3", SIZED, {"run": SIZES}, SUPPORTED),
        ("4.3", SIZED, {}, OPEN),  # no pair of one family
        # Capabilities fall together within a step.
        ("4.4", [{"task": "mmlu"}, {"task": "sst2"}], {"lost": together(10, 50)}, SUPPORTED),
        ("4.4", [{"task": "mmlu"}, {"task": "sst2"}], {"lost": together(1, 50)}, REFUTED),
        ("4.4", [{"task": "mmlu"}, {"task": "sst2"}], {"lost": together(10, None)}, REFUTED),
        ("4.4", [{"task": "mmlu"}, {"task": "sst2"}], {"lost": together(None, None)}, OPEN),
        # Safety has to be there before it can be hurt.
        ("4.5", kept(toxigen=0.4), {}, SUPPORTED),
        ("4.5", [{"task": "toxigen", "retained": 1.0, "half": 0.01}], {}, REFUTED),
        ("4.5", [{"task": "toxigen", **WEAK}], {}, OPEN),
        ("4.5", kept(mmlu=0.0), {}, OPEN),  # no task of safety
        # A single edit can hurt.
        ("a single edit", [HURT, WHOLE_MODEL], {}, SUPPORTED),
        ("a single edit", [WHOLE_MODEL], {}, REFUTED),
        ("a single edit", [WHOLE_MODEL, {"checkpoint": 1, "half": 0.2}], {}, OPEN),
        ("a single edit", [{"checkpoint": 10, "retained": 0.0}], {}, OPEN),
        # Batches and sequences are asked of their own plans.
        ("sequences of single", FALLS, {}, SUPPORTED),
        ("sequences of batches", FALLS, {}, OPEN),
        ("sequences of batches", FALLS, {"run": run_of(plan={"batch": 10})}, SUPPORTED),
        ("batches hurt", FALLS, {"run": run_of(plan={"mode": "single", "batch": "all"})}, SUPPORTED),
        # Sentiment falls before closed-domain questions.
        ("sentiment", kept(sst2=0.1, boolq=0.8), {}, SUPPORTED),
        ("sentiment", kept(boolq=0.1, sst2=0.8), {}, REFUTED),
    ],
)
def test_a_claim_has_the_verdict_of_what_was_retained_and_lost(claim, rows, given, expected):
    assert verdict(claim, rows, **given) == expected


def test_most_and_some_leave_open_what_is_not_known():
    yes, no, unknown = (Answer("", each, "") for each in (SUPPORTED, REFUTED, OPEN))
    assert most([yes, yes, no], 1)[0] == SUPPORTED
    assert most([yes, no], 1)[0] == REFUTED
    assert most([yes, unknown], 1)[0] == OPEN
    assert most([], 1)[0] == OPEN
    assert some([no, yes], 1)[0] == SUPPORTED
    assert some([no, unknown], 1)[0] == OPEN


def test_every_claim_has_an_estimand_and_runs_on_nothing():
    table = ability_claims(ABILITIES.empty(), COLLAPSES.empty(), run_of(), list(STATED.values()))
    assert set(table["verdict"]) == {OPEN}
    assert table["estimand"].str.len().min() > 30


# --- reported results -------------------------------------------------------------------------------------
def compared(rows: list[dict], run: Sequences) -> pd.DataFrame:
    table = reported_abilities(abilities_of(rows), read_studies(PAPER), run)
    REPORTED_ABILITIES.check(table)
    return table


def test_a_reported_figure_stands_beside_the_same_model_method_task_and_edits():
    rows = [{"editor": "mend", "retained": 0.3, "value": 0.3}]
    table = compared(rows, run_of())
    (row,) = table[table["editor"] == "mend"].to_dict("records")
    assert (row["reported_method"], row["reported_task"], row["edits"]) == ("MEND", "MMLU", 100)
    assert (row["reported"], row["value"]) == (0.2098, 0.3)
    assert row["difference"] == pytest.approx(0.3 - 0.2098)


@pytest.mark.parametrize(
    "changed",
    [
        {"hubs": {"m": "somebody/gpt2-small"}},
        {"plan": {"batch": 10}},
        {"plan": {"mode": "single", "batch": "all"}},
        {"tasks": (TaskInfo("mmlu", "choice", ("acc",), "MMLU", "MMLU", shots=5),)},
        {"tasks": (TaskInfo("mmlu", "generate", ("exact_match",), "MMLU", "MMLU", shots=0),)},
    ],
)
def test_anything_else_stands_alone_and_says_why(changed):
    table = compared([{"editor": "mend"}], run_of(**changed))
    assert not (table["editor"] != "").any()
    assert len(table)
    assert table["note"].str.len().min() > 5


def test_a_protocol_as_released_is_no_strict_one():
    strict = TaskInfo("sst2", "generate", ("exact_match",), "SST-2", "SST-2", "strict")
    rows = [{"task": "sst2", "checkpoint": 10}]
    assert (compared(rows, run_of(tasks=(SST2,)))["editor"] == "rome").sum() == 1
    assert not (compared(rows, run_of(tasks=(strict,)))["editor"] == "rome").any()


def test_what_the_unedited_model_reaches_is_compared_once():
    rows = [{"editor": e, "checkpoint": 0} for e in METHODS]
    table = compared(rows, run_of())
    assert len(table[(table["task"] != "") & (table["edits"] == 0)]) == 1


def test_studies_about_other_things_are_not_listed():
    assert compared([{}], run_of({"m": None}, tasks=(TaskInfo("mine", benchmark="mine"),))).empty


def test_shipped_figures_are_known_tasks_models_and_methods():
    for study in read_studies(PAPER):
        for line in study.lines:
            assert line["model"] in study.models
            assert line["task"] in study.tasks
            assert line["method"] in {*study.methods, "none"}
            assert 0 <= float(line["value"]) <= 1


def test_anomalies_are_flagged():
    with (PAPER / "abilities_a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    flags = {row["flag"] for row in rows}
    said = ("Pythia-2.8B and Pythia-6.9B", "chat version", "misprint", "one class", "swapped", "cannot save")
    for words in said:
        assert any(words in flag for flag in flags), words
    (odd,) = [row for row in rows if float(row["value"]) > 0.8]
    assert "misprint" in odd["flag"]
