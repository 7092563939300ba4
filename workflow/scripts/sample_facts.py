"""Take the facts of the listed relations from a graph, or a sample of them."""

from aftershock.kg.cache import cache_folder
from aftershock.kg.sample import sample_facts
from aftershock.kg.sheets import read_relations
from aftershock.kg.source import connect
from aftershock.stage import stage
from aftershock.tables.graph import SAMPLE

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    relations = read_relations(given.relations, params.source["namespace"])
    with connect(params.source, given.store, cache_folder(snakemake.wildcards.kg)) as source:
        facts, odd = sample_facts(source, relations["relation_id"].tolist(), params.max_facts, params.seed)
    SAMPLE.write(facts, snakemake.output[0], {**run.provenance, "left_out": odd})
