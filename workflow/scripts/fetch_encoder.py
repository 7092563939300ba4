"""Fetch the files of a sentence encoder."""

from pathlib import Path

from aftershock.lm.files.fetch_encoder import fetch_encoder
from aftershock.lm.networks.label_encoder import require_library
from aftershock.offline import online
from aftershock.stage import stage

with stage(snakemake), online():
    require_library()
    fetch_encoder(snakemake.params.source, Path(snakemake.output[0]))
