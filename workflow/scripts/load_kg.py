"""Load an RDF file into a store that mining jobs open."""

import logging

from aftershock.kg.store import load_triples
from aftershock.output import whole_folder
from aftershock.stage import stage

with stage(snakemake):
    with whole_folder(snakemake.output[0]) as folder:
        triples = load_triples(snakemake.input[0], folder)
    logging.info("%d triples from %s", triples, snakemake.input[0])
