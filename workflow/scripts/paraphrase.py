"""List the prompts of a graph's relations."""

from aftershock.kg.sheets import list_prompts, read_paraphrases, read_relations
from aftershock.stage import stage
from aftershock.tables import PROMPTS

with stage(snakemake) as run:
    given, namespace = snakemake.input, snakemake.params.source["namespace"]
    prompts = list_prompts(
        read_relations(given.relations, namespace), read_paraphrases(given.paraphrases, namespace)
    )
    PROMPTS.write(prompts, snakemake.output[0], run.provenance)
