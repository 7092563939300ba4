"""Turn published second moments of a model into those that editors read."""

from pathlib import Path

import pandas as pd

from aftershock.lm.files.hashes import sha256_of, sha256_of_weights
from aftershock.lm.statistics.moments import Sums, describe, save_moments
from aftershock.lm.statistics.published_moments import key_width, read_published
from aftershock.page.moments import remarks
from aftershock.stage import stage
from aftershock.tables.models import MOMENTS

with stage(snakemake) as run:
    given, made = snakemake.input, snakemake.output
    files = {layer: Path(given.published, f"{layer}.npz") for layer in snakemake.params.layers}
    width, moments, tables, hashes = key_width(given.weights), {}, [], []
    for layer, path in files.items():
        found = read_published(path, width)
        sums = Sums({layer: found.total}, found.tokens, found.documents)
        moments |= sums.moments()
        tables.append(describe(sums))
        hashes.append(sha256_of(path))
    table = pd.concat(tables, ignore_index=True)
    print(table.to_string(index=False))
    for remark in remarks(table):
        print(f"{snakemake.rule}: {remark}")
        print(f"{snakemake.rule}: {remark}", file=run.console)
    save_moments(moments, made.moments, sha256_of_weights(given.weights), ",".join(hashes), table)
    MOMENTS.write(table, made.table, run.provenance)
