"""Write the generated world as N-Triples."""

from pathlib import Path

import yaml

from aftershock.kg.world import generate_world, write_world
from aftershock.stage import stage

with stage(snakemake) as run:
    spec = yaml.safe_load(Path(snakemake.input[0]).read_text(encoding="utf-8"))
    write_world(generate_world(spec, snakemake.params.seed), snakemake.output[0])
