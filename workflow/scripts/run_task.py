"""Ask the items of a task of a model at some checkpoints of a sequence of edits."""

import pandas as pd

from aftershock.editors.artifacts import load_artifacts
from aftershock.experiments.sequences.checkpoint import at_checkpoint
from aftershock.experiments.sequences.log import EditLog
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.sequences import TASK_ITEMS, TASK_OUTPUTS
from aftershock.tasks.definition import make_task
from aftershock.tasks.engines import find_engine, remarks

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    task = make_task(snakemake.wildcards.task, params.task)
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    loaded = load_artifacts(params.referred, given.referred, lm, None, hashed)  # for states
    log = EditLog.open(given.edit_log, hashed)
    items, ask = TASK_ITEMS.read(given.asked), find_engine(params.asked_by)
    found = [TASK_OUTPUTS.empty()]
    for checkpoint in log.reached(params.checkpoints):
        with at_checkpoint(lm, log, checkpoint) as state:
            outputs = ask(lm, task, items, state, run.progress)
        for remark in remarks(outputs):
            print(f"checkpoint {checkpoint}: {remark}")
        found.append(outputs.assign(checkpoint=checkpoint))
    for checkpoint in sorted(set(params.checkpoints) - set(log.reached(params.checkpoints))):
        print(f"checkpoint {checkpoint} was not reached: {log.absent[checkpoint]}")
    TASK_OUTPUTS.write(pd.concat(found[1:] or found), snakemake.output[0], run.provenance)
