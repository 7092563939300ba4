"""Ask the model for a part of the facts behind the conflict cases."""

from aftershock.experiments.knowledge import Part, Ranking, verify_facts
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import FACT_ANSWERS, TAUGHT

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    facts, prompts = TAUGHT.read(given.facts), PROMPTS.read(given.prompts)
    ranking = Ranking(params.candidates, params.seed)
    part = Part.parse(snakemake.wildcards.part)
    found = verify_facts(lm, facts, prompts, params.tokens, ranking, part, run.progress)
    print(f"{len(found)} of {len(facts)} facts asked about, {found['said'].sum()} said")
    FACT_ANSWERS.write(found, snakemake.output[0], run.provenance)
