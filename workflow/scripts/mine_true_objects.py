"""Find all true objects of the facts that cases may edit, where the sample has not all of them."""

import pandas as pd

from aftershock.kg.cache import cache_folder
from aftershock.kg.source import connect
from aftershock.kg.true_objects import find_true_objects, keys_of_cases
from aftershock.stage import stage
from aftershock.tables.graph import COMBINATIONS, OBJECTS, SAMPLE, TRUE_OBJECTS

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    sample, objects = SAMPLE.read(given.sample), OBJECTS.read(*given.objects)
    keys = keys_of_cases(sample, COMBINATIONS.read(*given.combinations), objects)
    with connect(params.source, given.store, cache_folder(snakemake.wildcards.kg)) as source:
        found, odd = find_true_objects(source, keys, pd.concat([sample, objects]))
    TRUE_OBJECTS.write(found, snakemake.output[0], {**run.provenance, "left_out": odd})
