"""Score candidate paraphrases by how likely true objects are after them."""

from aftershock.experiments.paraphrase_scores import score_wordings
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, PARAPHRASE_CANDIDATES, PARAPHRASE_SCORES

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    candidates = PARAPHRASE_CANDIDATES.read(given.candidates)
    scores = score_wordings(lm, candidates, FACTS.read(given.facts), params.facts, params.seed or 0)
    PARAPHRASE_SCORES.write(scores, snakemake.output[0], run.provenance)
