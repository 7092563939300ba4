"""Make the items of a task from the facts of a graph."""

from importlib import import_module

from aftershock.kg.sheets import read_relations
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, PROMPTS, RULES
from aftershock.tables.sequences import TASK_ITEMS
from aftershock.tasks.definition import make_task
from aftershock.tasks.prepare import account, prepare_items
from aftershock.tasks.world import World

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    task = make_task(snakemake.wildcards.task, params.task)
    relations = read_relations(given.relations, params.namespace)
    nouns = dict(zip(relations["relation_id"], relations["noun"], strict=True))
    facts, prompts, rules = FACTS.read(given.facts), PROMPTS.read(given.prompts), RULES.read(given.rules)
    world = World(facts, prompts, nouns, params.seed, rules)
    module, _, name = task.prepare.partition(":")
    rows = getattr(import_module(module), name)(world)
    prepared = prepare_items(task, rows, [], params.number, params.seed)
    for line in account(prepared):
        print(line)
    TASK_ITEMS.write(prepared.items, snakemake.output[0], {**run.provenance, "items": prepared.counts})
