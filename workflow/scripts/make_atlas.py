"""Write facts about countries, cities, languages and currencies as N-Triples, and where they are from."""

import json

from aftershock.kg.atlas import build_atlas
from aftershock.kg.atlas.sources import read_sources
from aftershock.kg.triples import write_triples
from aftershock.output import write_text
from aftershock.stage import stage
from aftershock.text_files import read_yaml

with stage(snakemake) as run:
    lines, account = build_atlas(read_sources(), read_yaml(snakemake.input[0]))
    write_triples(lines, snakemake.output.triples)
    write_text(snakemake.output.account, json.dumps(account, indent=1, ensure_ascii=False) + "\n")
