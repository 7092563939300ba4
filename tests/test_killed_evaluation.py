"""An evaluation along a log that is killed in the middle and run again gives the same table."""

import pandas as pd
import pytest

from aftershock.experiments.sequences.checkpoint import at_checkpoint
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.run import run_sequence
from aftershock.experiments.sequences.writing import writing
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS
from aftershock.tasks.engines import find_engine
from saved_models import saved
from sequenced import Faulty, edits, plan
from small_workflow import LAUNCH, ROOT, kill_in_last, launch, start
from test_task_engines import CHOICES, PROMPTS, items, task

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
