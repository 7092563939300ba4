"""List the prompts of a graph's relations."""

from aftershock.kg.sheets import list_prompts, read_paraphrases, read_relations
from aftershock.stage import stage
from aftershock.tables.graph import PARAPHRASES, PROMPTS

with stage(snakemake) as run:
    given, namespace = snakemake.input, snakemake.params.source["namespace"]
    prompts = list_prompts(
        read_relations(given.relations, namespace),
        read_paraphrases(given.paraphrases, namespace),
        PARAPHRASES.read(given.generated) if given.generated else None,
        snakemake.params.origin,
    )
    PROMPTS.write(prompts, snakemake.output[0], run.provenance)
