"""Let another model judge the answers that a model generated to a task."""

from pathlib import Path

from aftershock.stage import stage
from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS, TASK_VERDICTS
from aftershock.tasks.judge import Judge, judge_outputs

with stage(snakemake) as run:
    given = snakemake.input
    judge = Judge.from_config(snakemake.params.judge, Path("results/judge"))
    items, outputs = TASK_ITEMS.read(given.asked), TASK_OUTPUTS.read(given.outputs)
    verdicts = judge_outputs(judge, items, outputs, run.progress)
    print(f"{judge.answers.asked} answers judged now, {judge.answers.cached} before")
    TASK_VERDICTS.write(verdicts, snakemake.output[0], run.provenance)
