"""Turn the observations of one run into probabilities and scores."""

from pathlib import Path

from aftershock.metrics.observed import COLUMNS
from aftershock.metrics.run import score_run
from aftershock.stage import stage
from aftershock.tables import CASES, OBJECT_SCORES, OBSERVATIONS, PROBABILITIES, PROBES, SCORES, TELEMETRY

with stage(snakemake) as run:
    given = snakemake.input
    objects = given.get("objects")
    probabilities, scores = score_run(
        CASES.read(given.cases),
        PROBES.read(given.probes),
        OBSERVATIONS.read(given.unedited, columns=COLUMNS),
        {Path(path).stem: OBSERVATIONS.read(path, columns=COLUMNS) for path in given.observations},
        TELEMETRY.read(*given.telemetry),
        snakemake.wildcards.dataset,
        snakemake.params.ranges,
        OBJECT_SCORES.read(objects) if objects else None,
    )
    PROBABILITIES.write(probabilities, snakemake.output.probabilities, run.provenance)
    SCORES.write(scores, snakemake.output.scores, run.provenance)
