"""Train SERAC's scope classifier and counterfactual model for a model, on edits of the train split."""

from aftershock.datasets.training_data import training_data
from aftershock.editors.serac import SeracTraining
from aftershock.editors.serac.training import train_models
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.scope_models import save_models
from aftershock.stage import stage
from aftershock.tables.runs import SERAC_CURVE

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    edits, others = training_data(given, "all", params.source, params.cases_seed)
    print(edits.groupby("split").size().to_string(), others.groupby("split").size().to_string(), sep="\n")
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    settings = SeracTraining(**params.settings)
    weights, shape, curve = train_models(lm, edits, others, settings, params.seed, run.progress)
    SERAC_CURVE.write(curve, made.curve, run.provenance)
    save_models(weights, shape, made.models, sha256_of_weights(given.weights), run.provenance)
