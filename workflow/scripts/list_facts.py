"""List what a model is asked about before cases are built."""

from aftershock.datasets.asked import facts_of_instances, with_labels
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, INSTANCES, OBJECTS
from aftershock.tables.models import TAUGHT

with stage(snakemake) as run:
    facts = FACTS.read(snakemake.input.facts)
    taught = TAUGHT.read(snakemake.input.taught) if snakemake.input.taught else None
    asked = facts_of_instances(INSTANCES.read(snakemake.input.instances))
    objects = OBJECTS.read(snakemake.input.objects)
    TAUGHT.write(with_labels(asked, facts, taught), snakemake.output.facts, run.provenance)
    TAUGHT.write(with_labels(objects, facts, taught), snakemake.output.objects, run.provenance)
