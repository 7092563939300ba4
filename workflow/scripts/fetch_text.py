"""Fetch the files of a data set."""

from pathlib import Path

from aftershock.lm.files.fetch_text import fetch_text
from aftershock.offline import online
from aftershock.stage import stage

with stage(snakemake), online():
    fetch_text(snakemake.params.source, Path(snakemake.output[0]))
