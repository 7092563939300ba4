"""Fetch published second moments of a model, one file for each layer that an editor needs."""

from pathlib import Path

from aftershock.lm.files.fetch_moments import fetch_moments
from aftershock.offline import online
from aftershock.stage import stage

with stage(snakemake), online():
    fetch_moments(snakemake.params.source, snakemake.params.layers, Path(snakemake.output[0]))
