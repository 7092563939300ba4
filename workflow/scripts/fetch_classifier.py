"""Fetch the files of a text classifier."""

from pathlib import Path

from aftershock.lm.files.fetch import fetch
from aftershock.offline import online
from aftershock.stage import stage

with stage(snakemake), online():
    fetch(snakemake.params.source, Path(snakemake.output[0]))
