"""Score every probe of a dataset's test cases in the unedited model."""

from aftershock.experiments.cases import Continuations, score_unedited
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.sinks import describe_beginning
from aftershock.page.beginnings import sink_remark, told
from aftershock.prompts import TEXT
from aftershock.stage import stage
from aftershock.tables.cases import CASES, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import OBSERVATIONS

with stage(snakemake) as run:
    given = snakemake.input
    lm = LanguageModel.load(given.weights, run.device, **snakemake.params.engine)
    cases, probes = CASES.read(given.cases), PROBES.read(given.probes)
    test = set(cases.loc[cases["split"] == "test", "case_id"])
    asked = probes[probes["case_id"].isin(test)]
    subjects = asked.loc[asked["relation_id"] != TEXT, "subject"]
    run.provenance["beginning"] = beginning = describe_beginning(lm, subjects)
    print(told(beginning))
    if remark := sink_remark(beginning):
        print(remark)
    continuations = Continuations(**snakemake.params.continuations)
    observations = score_unedited(lm, asked, PROMPTS.read(given.prompts), continuations, run.progress)
    OBSERVATIONS.write(observations, snakemake.output[0], run.provenance)
