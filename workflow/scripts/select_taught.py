"""Choose the facts that a model is taught."""

from aftershock.kg.taught import select_taught
from aftershock.stage import stage
from aftershock.tables import FACTS, INSTANCES, OBJECTS, TAUGHT

with stage(snakemake) as run:
    given, wanted = snakemake.input, snakemake.params.facts
    taught = select_taught(
        INSTANCES.read(given.instances),
        OBJECTS.read(given.objects),
        FACTS.read(given.facts),
        None if wanted == "all" else wanted,
        snakemake.params.seed,
    )
    TAUGHT.write(taught, snakemake.output[0], run.provenance)
