"""Look up the names of all entities that were found."""

from aftershock.kg.cache import cache_folder
from aftershock.kg.labels import find_labels
from aftershock.kg.source import connect
from aftershock.stage import stage
from aftershock.tables.graph import COMBINATIONS, LABELS, OBJECTS, SAMPLE, TRUE_OBJECTS

with stage(snakemake) as run:
    given = snakemake.input
    frames = (
        SAMPLE.read(given.sample),
        COMBINATIONS.read(*given.combinations),
        OBJECTS.read(*given.objects),
        TRUE_OBJECTS.read(given.true_objects),
    )
    columns = ("subject_id", "object_id", "x_id", "y_id", "z_id")
    seen = {entity for frame in frames for c in columns if c in frame for entity in frame[c].unique()}
    with connect(snakemake.params.source, given.store, cache_folder(snakemake.wildcards.kg)) as source:
        LABELS.write(find_labels(source, seen), snakemake.output[0], run.provenance)
