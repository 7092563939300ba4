"""Ask the prompts of the edits made so far at some checkpoints of a sequence."""

from aftershock.editors.artifacts import load_artifacts
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.plan import Plan
from aftershock.experiments.sequences.probes import probe_checkpoints
from aftershock.experiments.sequences.run import edits_in_order
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_OBSERVATIONS, SEQUENCE_PROBES

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    plan = Plan(**params.plan)
    edits = edits_in_order(SEQUENCE_EDITS.read(given.edits), plan, int(snakemake.wildcards.order))
    made_at = {n: [edits[i - 1].edit_id for i in plan.made_at(n)] for n in params.checkpoints}
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    referred = load_artifacts(params.referred, given.referred, lm, None, hashed)  # held while states use them
    log = EditLog.open(given.log, hashed)
    found = probe_checkpoints(lm, log, SEQUENCE_PROBES.read(given.probes), made_at.items(), run.progress)
    SEQUENCE_OBSERVATIONS.write(found, snakemake.output[0], run.provenance)
