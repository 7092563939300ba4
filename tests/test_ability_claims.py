"""Reported results of studies of abilities beside a run, and what they claim."""

import csv
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
PLAN = {
    "mode": "sequential",
    "batch": 1,
    "checkpoints": [0, 1, 10, 50, 100],
    "edits": {"source": "counterfact"},
}
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


def run_of(
    hubs: dict | None = None, plan: dict | None = None, tasks: tuple = (MMLU, SST2, BOOLQ, TOXIGEN)
) -> Sequences:
    editors = {label: {"method": label} for label in ("rome", "memit", "mend")}
    return Sequences(hubs or {"m": GPT2}, editors, {"p": PLAN | (plan or {})}, tasks)


def verdict(
    claim: str, rows: list[dict], lost: pd.DataFrame | None = None, run: Sequences | None = None
) -> str:
    name = next(each for each in STATED if claim in each)
    table = ability_claims(
        abilities_of(rows), lost_at({}) if lost is None else lost, run or run_of(), [STATED[name]]
    )
    ABILITY_CLAIMS.check(table)
    return table.set_index("part").at[WHOLE, "verdict"]


METHODS = ("rome", "memit", "mend")


@pytest.mark.parametrize(
    ("kept", "expected"), [((0.1, 0.2, 1.0), SUPPORTED), ((0.1, 0.9, 1.0), REFUTED), ((0.1, 0.5, 0.5), OPEN)]
)
def test_most_methods_survive_only_dozens_of_edits(kept, expected):
    rows = [{"editor": e, "retained": k} for e, k in zip(METHODS, kept, strict=True)]
    assert verdict("4.1", rows) == expected


def test_two_methods_are_not_most_methods():
    rows = [{"editor": e, "retained": 0.0} for e in METHODS[:2]]
    assert verdict("4.1", rows) == OPEN


def test_a_sequence_that_ended_did_not_survive():
    rows = [{"editor": e, "retained": 1.0, "checkpoint": 50} for e in METHODS]
    assert verdict("4.1", rows) == OPEN  # nobody has looked at 100 edits
    assert verdict("4.1", rows, lost_at({(e, TOGETHER): None for e in METHODS}, ended=60)) == SUPPORTED


@pytest.mark.parametrize(
    ("tuned", "base", "expected"), [(0.9, 0.3, SUPPORTED), (0.3, 0.9, REFUTED), (0.5, 0.5, OPEN)]
)
def test_instruction_tuned_models_degrade_more_slowly(tuned, base, expected):
    rows = [{"model": "tuned", "retained": tuned}, {"model": "base", "retained": base}]
    hubs = {"tuned": "HuggingFaceTB/SmolLM2-135M-Instruct", "base": "HuggingFaceTB/SmolLM2-135M"}
    assert verdict("4.2", rows, run=run_of(hubs)) == expected


def test_larger_models_suffer_less():
    rows = [{"model": "large", "retained": 0.9}, {"model": "small", "retained": 0.2}]
    hubs = {"large": "EleutherAI/pythia-410m", "small": "EleutherAI/pythia-160m"}
    assert verdict("4.3", rows, run=run_of(hubs)) == SUPPORTED
    assert verdict("4.3", rows) == OPEN  # no pair of one family


@pytest.mark.parametrize(
    ("mmlu", "sst2", "expected"),
    [(10, 50, SUPPORTED), (1, 50, REFUTED), (10, None, REFUTED), (None, None, OPEN)],
)
def test_capabilities_fall_together_within_a_step(mmlu, sst2, expected):
    rows = [{"task": "mmlu"}, {"task": "sst2"}]
    assert verdict("4.4", rows, lost_at({("rome", "mmlu"): mmlu, ("rome", "sst2"): sst2})) == expected


def test_safety_has_to_be_there_before_it_can_be_hurt():
    assert verdict("4.5", [{"task": "toxigen", "retained": 0.4}]) == SUPPORTED
    assert verdict("4.5", [{"task": "toxigen", "retained": 1.0, "half": 0.01}]) == REFUTED
    nothing = dict.fromkeys(("retained", "retained_low", "retained_high"))
    weak = {"task": "toxigen", **nothing, "above_chance": False}
    assert verdict("4.5", [weak]) == OPEN
    assert verdict("4.5", [{"task": "mmlu", "retained": 0.0}]) == OPEN  # no task of safety


def test_a_single_edit_can_hurt():
    hurt = {"checkpoint": 1, "retained": 0.6, "significant": True, "p_adjusted": 0.001}
    whole = {"checkpoint": 1, "half": 0.02, "task": "sst2"}
    assert verdict("a single edit", [hurt, whole]) == SUPPORTED
    assert verdict("a single edit", [whole]) == REFUTED
    assert verdict("a single edit", [whole, {"checkpoint": 1, "half": 0.2}]) == OPEN
    assert verdict("a single edit", [{"checkpoint": 10, "retained": 0.0}]) == OPEN


def test_batches_and_sequences_are_asked_of_their_own_plans():
    rows = [{"retained": 0.2}]
    assert verdict("sequences of single", rows) == SUPPORTED
    assert verdict("sequences of batches", rows) == OPEN
    assert verdict("sequences of batches", rows, run=run_of(plan={"batch": 10})) == SUPPORTED
    assert verdict("batches hurt", rows, run=run_of(plan={"mode": "single", "batch": "all"})) == SUPPORTED


def test_sentiment_falls_before_closed_domain_questions():
    rows = [{"task": "sst2", "retained": 0.1}, {"task": "boolq", "retained": 0.8}]
    assert verdict("sentiment", rows) == SUPPORTED
    assert verdict("sentiment", [rows[0] | {"task": "boolq"}, rows[1] | {"task": "sst2"}]) == REFUTED


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
