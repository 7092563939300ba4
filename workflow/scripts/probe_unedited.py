"""Ask the prompts of a plan's edits of the unedited model."""

from aftershock.experiments.sequences.probes import probe
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_OBSERVATIONS, SEQUENCE_PROBES

with stage(snakemake) as run:
    given = snakemake.input
    lm = LanguageModel.load(given.weights, run.device, **snakemake.params.engine)
    edits, probes = SEQUENCE_EDITS.read(given.edits), SEQUENCE_PROBES.read(given.probes)
    kept = probes[probes["edit_id"].isin(edits.loc[edits["kept"], "edit_id"])]
    found = probe(lm, kept, progress=run.progress)
    SEQUENCE_OBSERVATIONS.write(found, snakemake.output[0], run.provenance)
