"""Find the subjects of one relation that have several objects."""

from aftershock.kg.cache import cache_folder
from aftershock.kg.combinations import find_objects
from aftershock.kg.source import connect
from aftershock.stage import stage
from aftershock.tables.graph import OBJECTS

with stage(snakemake) as run:
    params = snakemake.params
    with connect(params.source, snakemake.input.store, cache_folder(snakemake.wildcards.kg)) as source:
        found, odd = find_objects(
            source, snakemake.wildcards.relation, max_keys=params.max_keys, seed=params.seed
        )
    OBJECTS.write(found, snakemake.output[0], {**run.provenance, "left_out": odd})
