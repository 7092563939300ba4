"""Turn the observations of one run into probabilities, scores and what breakdowns of them need."""

from pathlib import Path

from aftershock.metrics.observed import LEAN, lean
from aftershock.metrics.run import score_cases
from aftershock.second_edit import second_rows
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import FACTS
from aftershock.tables.models import OBJECT_SCORES
from aftershock.tables.runs import (
    FACETS,
    HEALTH,
    HOLES,
    OBSERVATIONS,
    PROBABILITIES,
    SCORES,
    TELEMETRY,
    VARIANTS,
)

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    edits = EDITS.read(given.edits)
    scored = score_cases(
        CASES.read(given.cases),
        PROBES.read(given.probes),
        lean(OBSERVATIONS.read_arrow(given.unedited, LEAN)),
        {Path(path).stem: lean(OBSERVATIONS.read_arrow(path, LEAN)) for path in given.observations},
        TELEMETRY.read(*given.telemetry),
        snakemake.wildcards.dataset,
        params.ranges,
        OBJECT_SCORES.read(given.objects),
        params.ignore_margin,
        second_rows(edits, params.second_edit, params.labels),
        params.incomplete,
    )
    graph = FACTS.read(given.facts, columns=["subject_id", "object_id"]) if given.facts else None
    PROBABILITIES.write(scored.facts.table, made.probabilities, run.provenance)
    SCORES.write(scored.scores, made.scores, run.provenance)
    VARIANTS.write(scored.variants(), made.variants, run.provenance)
    FACETS.write(scored.facets(edits, graph), made.facets, run.provenance)
    HOLES.write(scored.holes, made.holes, run.provenance)
    HEALTH.write(HEALTH.read(*given.health), made.health, run.provenance)
