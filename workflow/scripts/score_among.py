"""Score cases of one dataset among unrelated edits."""

from pathlib import Path

import pandas as pd

from aftershock.metrics.abilities.among import among_scores
from aftershock.stage import stage
from aftershock.tables.abilities import AMONG_SCORES
from aftershock.tables.cases import CASES, PROBES
from aftershock.tables.runs import OBSERVATIONS
from aftershock.tables.sequences import AMONG_OBSERVATIONS, AMONG_TELEMETRY

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    cases, probes = CASES.read(given.cases), PROBES.read(given.probes)
    unedited = OBSERVATIONS.read(given.unedited)
    parts = [AMONG_SCORES.empty()]
    for place in params.places:
        paths = [Path(path) for path in given.observations if Path(path).parent.name == place]
        told = [path for path in given.telemetry if Path(path).parent.name == place]
        shards = {path.stem: AMONG_OBSERVATIONS.read(path) for path in paths}
        telemetry = AMONG_TELEMETRY.read(*told)
        dataset = snakemake.wildcards.dataset
        parts.append(among_scores(cases, probes, unedited, shards, telemetry, dataset, place, params.ranges))
    AMONG_SCORES.write(pd.concat(parts, ignore_index=True), snakemake.output[0], run.provenance)
