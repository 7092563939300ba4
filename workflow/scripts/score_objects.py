"""Score a part of the true objects of every one-to-many key."""

from aftershock.experiments.knowledge import Part, Ranking, score_objects
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.label_encoder import ModelEncoder, SentenceEncoder
from aftershock.lm.texts.special_tokens import spelled_remark
from aftershock.stage import stage
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import OBJECT_ANSWERS, TAUGHT

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    folder = given.get("encoder")
    encoder = SentenceEncoder(folder, run.device) if folder else None
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    objects, prompts = TAUGHT.read(given.objects), PROMPTS.read(given.prompts)
    ranking = Ranking(params.candidates, params.seed)
    part = Part.parse(snakemake.wildcards.part)
    if remark := spelled_remark(lm, [*objects["subject"], *objects["object"]], "labels"):
        print(remark)
        if part.number == 1:
            print(f"{snakemake.wildcards.model}: {remark}", file=run.console)
    found = score_objects(lm, objects, prompts, encoder or ModelEncoder(lm), ranking, part, run.progress)
    print(f"{len(found)} of {len(objects)} objects asked about")
    OBJECT_ANSWERS.write(found, snakemake.output[0], run.provenance)
