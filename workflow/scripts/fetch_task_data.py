"""Fetch the files of a benchmark."""

from pathlib import Path

from aftershock.offline import online
from aftershock.stage import stage
from aftershock.tasks.downloads import download

with stage(snakemake), online():
    download(snakemake.params.source, Path(snakemake.output[0]))
