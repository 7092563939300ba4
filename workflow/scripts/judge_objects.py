"""Decide which true objects the model knows, and count them by relation."""

from aftershock.datasets.known import count_objects, judge_objects, object_shortages
from aftershock.output import write_text
from aftershock.shards import gather
from aftershock.stage import stage
from aftershock.tables.models import OBJECT_ANSWERS, OBJECT_SCORES, TAUGHT

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    scores = judge_objects(gather(OBJECT_ANSWERS, given.answers, TAUGHT.read(given.objects)), params.limits)
    counts = count_objects(scores, params.min_known)
    print(counts.to_string(index=False))
    for text in object_shortages(counts, params.quotas, params.min_known):
        print(text)
        print(f"{snakemake.wildcards.model}: {text}", file=run.console)
    OBJECT_SCORES.write(scores, snakemake.output.scores, run.provenance)
    write_text(snakemake.output.counts, counts.to_csv(index=False))
