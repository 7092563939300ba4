"""Divide the entities of a graph into train, dev and test."""

import gc

from aftershock.datasets.split import split_entities
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, INSTANCES, OBJECTS, SPLIT

with stage(snakemake) as run:
    gc.disable()  # looking for cycles among millions of facts that all stay takes a third of the time
    given, params = snakemake.input, snakemake.params
    tables = INSTANCES.read(given.instances), OBJECTS.read(given.objects), FACTS.read(given.facts)
    split = split_entities(*tables, params.shares, params.seed)
    print(split.groupby(["split", "assigned"]).size().to_string())
    SPLIT.write(split, snakemake.output[0], run.provenance)
