"""Ask the model for a part of the facts behind the conflict cases."""

from aftershock.experiments.knowledge import Part, Ranking, verify_facts
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.sinks import describe_beginning
from aftershock.lm.texts.special_tokens import spelled_remark
from aftershock.page.beginnings import sink_remark, told
from aftershock.stage import stage
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import FACT_ANSWERS, TAUGHT

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    facts, prompts = TAUGHT.read(given.facts), PROMPTS.read(given.prompts)
    ranking = Ranking(params.candidates, params.seed)
    part = Part.parse(snakemake.wildcards.part)
    if remark := spelled_remark(lm, [*facts["subject"], *facts["object"]], "labels"):
        print(remark)
        if part.number == 1:
            print(f"{snakemake.wildcards.model}: {remark}", file=run.console)
    run.provenance["beginning"] = beginning = describe_beginning(lm, facts["subject"])
    print(told(beginning))
    if remark := sink_remark(beginning):
        print(remark)
        if part.number == 1:
            print(f"{snakemake.wildcards.model}: {remark}", file=run.console)
    found = verify_facts(lm, facts, prompts, params.tokens, ranking, part, run.progress)
    print(f"{len(found)} of {len(facts)} facts asked about, {found['said'].sum()} said")
    FACT_ANSWERS.write(found, snakemake.output[0], run.provenance)
