"""Find the entities for which one logic rule holds."""

from aftershock.kg.cache import cache_folder
from aftershock.kg.combinations import find_combinations
from aftershock.kg.logic import LogicRule
from aftershock.kg.source import connect
from aftershock.stage import stage
from aftershock.tables.graph import COMBINATIONS

with stage(snakemake) as run:
    params = snakemake.params
    with connect(params.source, snakemake.input.store, cache_folder(snakemake.wildcards.kg)) as source:
        found, odd = find_combinations(
            source, LogicRule.parse(params.rule), params.max_combinations, params.seed, params.head_holds
        )
    COMBINATIONS.write(found, snakemake.output[0], {**run.provenance, "left_out": odd})
