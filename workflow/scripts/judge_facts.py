"""Decide which facts the model knows, and count them by relation and rule."""

from aftershock.datasets.known import count_facts, judge_facts, shortages
from aftershock.output import write_text
from aftershock.shards import gather
from aftershock.stage import stage
from aftershock.tables.graph import INSTANCES
from aftershock.tables.models import FACT_ANSWERS, TAUGHT, VERIFIED

with stage(snakemake) as run:
    given, settings = snakemake.input, snakemake.params.settings
    answers = gather(FACT_ANSWERS, given.answers, TAUGHT.read(given.facts))
    verified = judge_facts(answers, settings)
    instances = INSTANCES.read(given.instances) if given.instances else None
    counts = count_facts(verified, settings, instances)
    print(f"known by {settings['criterion']}:", counts.to_string(index=False), sep="\n")
    for text in shortages(counts, snakemake.params.quotas):
        print(text)
        print(f"{snakemake.wildcards.model}: {text}", file=run.console)
    VERIFIED.write(verified, snakemake.output.verified, run.provenance)
    write_text(snakemake.output.counts, counts.to_csv(index=False))
