"""Sequences of edits, and evaluations along them, that are killed or wait for no checkpoint, and go on."""

import itertools
import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aftershock.experiments.sequences import writing as written
from aftershock.experiments.sequences.checkpoint import at_checkpoint
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.plan import Plan
from aftershock.experiments.sequences.run import run_sequence
from aftershock.experiments.sequences.writing import writing
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS
from aftershock.tasks.engines import find_engine
from editing import identical, same_memory
from saved_models import saved
from sequenced import IDENTITY, Faulty, edits, interrupted, plan, run, same
from small_workflow import DEADLINE, LAUNCH, ROOT, kill_in_last, launch, start
from test_task_engines import CHOICES, PROMPTS, items, task
from tiny import tiny

PLAN = plan(0, 2, 3, 5)
FORK = multiprocessing.get_context("fork")  # whose processes have imported everything


KILLED = {
    "sound": (plan(0, 2, 5), {}),
    "broken between checkpoints": (plan(0, 2, 5, 6), {3: float("inf")}),
    "broken at a checkpoint": (plan(0, 2, 5, 6), {5: float("inf")}),
    "one of several models is broken": (plan(0, 3, 5, 6, mode="single"), {5: float("inf")}),
    "two at a time": (plan(0, 4, 6, batch=2), {6: float("inf")}),
}
"""Plans, and edits that break the model."""


class Counted(Faulty):
    """Draws its change by the number of edits that the model has had, so that a resumed one goes on alike."""

    def edit(self, cases, state=(), memory=None):
        self.calls = NUMBERS[cases[0][-1]] - 1
        return super().edit(cases, state, memory)


NUMBERS = {edit.request: number for number, edit in enumerate(edits(6), start=1)}


def stopped_at(step: int, made: Plan, faults: dict, folder: Path) -> None:
    """Make a sequence and be killed right before its file number `step` gets its name."""
    moves, move = itertools.count(), os.replace

    def replace(*given, **options):
        if next(moves) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return move(*given, **options)

    os.replace = replace
    run(Counted(tiny(), faults), made, folder)


@pytest.mark.parametrize("name", KILLED)
def test_a_sequence_may_be_killed_before_any_file_is_there(name, tmp_path):
    """A resumed log says the same as one that was never killed, and holds nothing more."""
    made, faults = KILLED[name]
    wanted = run(Counted(tiny(), faults), made, tmp_path / "wanted")
    assert bool(wanted.absent) == bool(faults)
    columns = [column for column in wanted.telemetry() if column != "seconds"]
    for step in itertools.count():
        folder = tmp_path / str(step)
        process = FORK.Process(target=stopped_at, args=(step, made, faults, folder))
        process.start()
        process.join(DEADLINE)
        found = run(Counted(tiny(), faults), made, folder)
        assert {path.name for path in folder.iterdir()} == {path.name for path in wanted.path.iterdir()}
        assert found.absent == wanted.absent
        pd.testing.assert_frame_equal(found.telemetry()[columns], wanted.telemetry()[columns])
        for n in found.reached(made.checkpoints):
            assert identical(found.state(n), wanted.state(n))
            assert same_memory(found.memory(n), wanted.memory(n))
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert step >= 5  # files: the manifest as begun, then chunk and manifest again and again


class Random(Faulty):
    """Draws its changes from the global generators."""

    def edit(self, cases, state=(), memory=None):
        seed = int(torch.randint(1000, (1,))) + random.randrange(1000) + int(np.random.randint(1000))
        self.calls = seed + round(1000 * float(np.random.randn()) + 1000 * random.gauss(0, 1))
        self.calls = abs(self.calls)
        return super().edit(cases, state, memory)


def test_random_generators_go_on_as_if_nothing_had_happened(tmp_path):
    def seeded():
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        return Random(tiny(), {})

    lm_first = seeded()
    torch.manual_seed(0)
    wanted = run(lm_first, PLAN, tmp_path / "log")
    again = seeded()
    torch.manual_seed(0)
    with writing(tmp_path / "resumed", IDENTITY, {}) as writer, pytest.raises(KeyboardInterrupt):
        run_sequence(again, edits(5), PLAN.turns, interrupted(writer, 4), 0)
    assert same(run(Random(tiny(), {}), PLAN, tmp_path / "resumed"), wanted)


def test_turns_do_not_wait_for_a_checkpoint_when_they_are_many_bytes(tmp_path, monkeypatch):
    wanted = run(Faulty(tiny(), {}), plan(5), tmp_path / "log")
    one = sum(t.numel() * t.element_size() for t in Faulty(tiny(), {}).edit([[]]).delta[0].tensors().values())
    monkeypatch.setattr(written, "CHUNK_BYTES", 2 * one - 1)
    log = run(Faulty(tiny(), {}), plan(5), tmp_path / "other")
    assert [entry.ends for entry in log.manifest.chunks] == [[1, 2], [3, 4], [5]]
    assert same(log, wanted)


# --- evaluations -------------------------------------------------------------------------------------------
CONTENT = {"kind": "choice"}
SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(ROOT / "workflow")!r})
from aftershock.process import name_run
name_run()
rule all:
    input: "results/trial.parquet"
rule first:
    output: "results/first.txt"
    log: "results/logs/first.log"
    script: "first.py"
rule run_task:
    input: first="results/first.txt", weights="weights", asked="items.parquet", edit_log="log", referred=[]
    output: "results/{{task}}.parquet"
    log: "results/logs/{{task}}.log"
    params: engine={{}}, task={CONTENT}, asked_by="builtin", referred={{}}, checkpoints=[2, 3, 5]
    script: "work.py"
"""
FIRST = """
from aftershock.stage import stage
from aftershock.output import write_text
with stage(snakemake) as run:
    write_text(snakemake.output[0], "")
    print("written", file=run.console, flush=True)
"""
WORK = f"""
import os, signal
from contextlib import contextmanager
from aftershock.experiments.sequences import checkpoint
whole = checkpoint.at_checkpoint

@contextmanager
def stopping(lm, log, n):
    with whole(lm, log, n) as state:
        yield state
    if os.environ.get("STOP_AT") == str(n):
        print("written", file=run.console, flush=True)
        signal.pause()

checkpoint.at_checkpoint = stopping
path = {str(ROOT / "workflow/scripts/run_task.py")!r}
exec(compile(open(path).read(), path, "exec"))
"""


@pytest.fixture
def evaluation(tmp_path):
    """A folder with a model, a log of edits, items and the rule that asks them at three checkpoints."""
    saved(tmp_path / "weights")
    lm = LanguageModel.load(tmp_path / "weights")
    identity = {"weights_sha256": sha256_of_weights(tmp_path / "weights")}
    made = plan(2, 3, 5)
    with writing(tmp_path / "log", identity, {}) as writer:
        run_sequence(Faulty(lm, {}), edits(5), made.turns, writer, 0)
    TASK_ITEMS.write(items(PROMPTS, CHOICES), tmp_path / "items.parquet", {})
    for name, text in (("Snakefile", SNAKEFILE), ("first.py", FIRST), ("work.py", WORK)):
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.thorough  # a killed run, and a checkpoint that is scored again, are tried by themselves
def test_a_killed_evaluation_is_made_again_with_equal_results(evaluation):
    kill_in_last(start(evaluation, *LAUNCH, STOP_AT="3"))
    assert not (evaluation / "results" / "trial.parquet").exists()
    resumed = launch(evaluation)
    assert not resumed.returncode, resumed.stderr
    found = TASK_OUTPUTS.read(evaluation / "results" / "trial.parquet")
    lm = LanguageModel.load(evaluation / "weights")
    log, ask = (
        EditLog.open(evaluation / "log", sha256_of_weights(evaluation / "weights")),
        find_engine("builtin"),
    )
    parts = []
    for n in (2, 3, 5):
        with at_checkpoint(lm, log, n) as state:
            parts.append(ask(lm, task(**CONTENT), items(PROMPTS, CHOICES), state, None).assign(checkpoint=n))
    wanted = pd.concat(parts, ignore_index=True)[list(TASK_OUTPUTS.columns)]
    assert found["checkpoint"].tolist() == wanted["checkpoint"].tolist()
    assert [list(row) for row in found["logprobs"]] == [list(row) for row in wanted["logprobs"]]
    assert found["logprobs"].map(tuple).nunique() > len(PROMPTS)  # checkpoints differ
