"""Score what the edits of one sequence look like at its checkpoints, and the health of the model there."""

from aftershock.experiments.sequences.plan import Plan
from aftershock.metrics.abilities.edits import made_at, sequence_health, sequence_scores
from aftershock.stage import stage
from aftershock.tables.abilities import SEQUENCE_HEALTH, SEQUENCE_SCORES
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_OBSERVATIONS, SEQUENCE_TELEMETRY

with stage(snakemake) as run:
    given, made = snakemake.input, snakemake.output
    plan = Plan.from_config(snakemake.params.plan)
    ranges = {checkpoint: plan.made_at(checkpoint) for checkpoint in plan.checkpoints}
    turns = {turn.checkpoint: turn.number for turn in plan.turns if turn.is_fresh and turn.checkpoint}
    what = made_at(ranges, turns if plan.mode == "single" else {})
    telemetry = SEQUENCE_TELEMETRY.read(given.telemetry)
    observations = SEQUENCE_OBSERVATIONS.read(given.unedited, *given.observations)
    scores = sequence_scores(SEQUENCE_EDITS.read(given.edits), telemetry, observations, what)
    SEQUENCE_SCORES.write(scores, made.scores, run.provenance)
    health = sequence_health(telemetry, what, {0, *observations["checkpoint"]})
    SEQUENCE_HEALTH.write(health, made.health, run.provenance)
