"""Make the items of a task from the rows of a benchmark."""

from aftershock.stage import stage
from aftershock.tables.sequences import TASK_ITEMS
from aftershock.tasks.definition import make_task
from aftershock.tasks.prepare import account, prepare_items
from aftershock.tasks.sources import read_rows

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    task = make_task(snakemake.wildcards.task, params.task)
    rows, examples = read_rows(given.rows), read_rows(given.examples)
    prepared = prepare_items(task, rows, examples, params.number, params.seed)
    for line in account(prepared):
        print(line)
        print(f"{task.name}: {line}", file=run.console)
    TASK_ITEMS.write(prepared.items, snakemake.output[0], {**run.provenance, "items": prepared.counts})
