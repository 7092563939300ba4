"""Look up which of the entities that were found are living people."""

import logging

import pandas as pd

from aftershock.kg.cache import cache_folder
from aftershock.kg.source import connect
from aftershock.stage import stage
from aftershock.tables.graph import LABELS, LIVING

with stage(snakemake) as run:
    given = snakemake.input
    labels = LABELS.read(given.labels)
    people = labels.loc[labels["label"].notna() & labels["redirect"].isna(), "entity_id"]
    with connect(snakemake.params.source, given.store, cache_folder(snakemake.wildcards.kg)) as source:
        living = sorted(source.living(people))
    logging.info("%d of %d entities are people without a date of death", len(living), len(people))
    LIVING.write(pd.DataFrame({"entity_id": living}, dtype="str"), snakemake.output[0], run.provenance)
