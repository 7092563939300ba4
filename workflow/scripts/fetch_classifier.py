"""Fetch the files of a text classifier."""

from pathlib import Path

from aftershock.lm.fetch import fetch
from aftershock.stage import stage

with stage(snakemake):
    fetch(snakemake.params.source, Path(snakemake.output[0]))
