"""Fetch a model's files."""

from aftershock.lm.fetch import fetch
from aftershock.output import whole_folder
from aftershock.stage import stage

with stage(snakemake), whole_folder(snakemake.output[0]) as folder:
    fetch(snakemake.params.source, folder)
