"""Make the items of a task from the edits of a plan."""

from importlib import import_module

from aftershock.stage import stage
from aftershock.tables.sequences import SEQUENCE_EDITS, TASK_ITEMS
from aftershock.tasks.definition import make_task
from aftershock.tasks.prepare import prepare_items

with stage(snakemake) as run:
    task = make_task(snakemake.wildcards.task, snakemake.params.task)
    module, _, name = task.prepare.partition(":")
    rows = getattr(import_module(module), name)(SEQUENCE_EDITS.read(snakemake.input.edits))
    prepared = prepare_items(task, rows, [], None, snakemake.params.seed)
    TASK_ITEMS.write(prepared.items, snakemake.output[0], {**run.provenance, "items": prepared.counts})
