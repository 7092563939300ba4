"""Ask the items of a task of the unedited model."""

from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS
from aftershock.tasks.definition import make_task
from aftershock.tasks.engines import find_engine, remarks

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    task = make_task(snakemake.wildcards.task, params.task)
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    items = TASK_ITEMS.read(given.asked)
    outputs = find_engine(params.asked_by)(lm, task, items, progress=run.progress)
    for remark in remarks(outputs):
        print(remark)
        print(f"{task.name}: {remark}", file=run.console)
    TASK_OUTPUTS.write(outputs.assign(checkpoint=0), snakemake.output[0], run.provenance)
