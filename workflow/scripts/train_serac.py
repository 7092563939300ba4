"""Train SERAC's scope classifier and counterfactual model for a model, on edits of the train split."""

from aftershock.datasets.asked import only_taught
from aftershock.datasets.graph_facts import FactIndex
from aftershock.datasets.mend import graph_locality, training_edits
from aftershock.datasets.split import splits_of
from aftershock.editors.serac import SeracTraining
from aftershock.editors.serac.training import train_models
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope_models import save_models
from aftershock.stage import stage
from aftershock.tables.graph import FACTS, INSTANCES, PROMPTS, SPLIT
from aftershock.tables.models import OBJECT_SCORES, TAUGHT, VERIFIED
from aftershock.tables.runs import SERAC_CURVE

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    facts = FACTS.read(given.facts)
    if given.taught:
        facts = only_taught(facts, TAUGHT.read(given.taught))
    graph = (INSTANCES.read(given.instances), OBJECT_SCORES.read(given.objects), PROMPTS.read(given.prompts))
    index = FactIndex.from_frames(facts, VERIFIED.empty())
    splits = splits_of(SPLIT.read(given.split))
    edits = training_edits("all", *graph, index, splits, params.cases_seed)
    others = graph_locality(*graph, index, splits)
    print(edits.groupby("split").size().to_string(), others.groupby("split").size().to_string(), sep="\n")
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    settings = SeracTraining(**params.settings)
    weights, shape, curve = train_models(lm, edits, others, settings, params.seed, run.progress)
    SERAC_CURVE.write(curve, made.curve, run.provenance)
    save_models(weights, shape, made.models, sha256_of_weights(given.weights), run.provenance)
