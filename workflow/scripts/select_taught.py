"""Choose the facts that a model is taught."""

from aftershock.kg.taught import select_taught
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, INSTANCES, OBJECTS
from aftershock.tables.models import TAUGHT

with stage(snakemake) as run:
    given = snakemake.input
    taught = select_taught(
        INSTANCES.read(given.instances),
        OBJECTS.read(given.objects),
        FACTS.read(given.facts),
        snakemake.params.facts,
        snakemake.params.seed,
    )
    TAUGHT.write(taught, snakemake.output[0], run.provenance)
