"""Write the generated world as N-Triples."""

from aftershock.kg.triples import write_triples
from aftershock.kg.world import generate_world
from aftershock.stage import stage
from aftershock.text_files import read_yaml

with stage(snakemake) as run:
    spec = read_yaml(snakemake.input[0])
    write_triples(generate_world(spec, snakemake.params.seed), snakemake.output[0])
