"""Train MEND's hypernetwork for a model, on edits and texts of the train split."""

from pathlib import Path

from aftershock.datasets.training_data import training_data
from aftershock.editors.mend import MendTraining
from aftershock.editors.mend.data import train_hypernetwork
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import save_hypernetwork
from aftershock.lm.statistics.moments import sha256_of_weights
from aftershock.stage import stage
from aftershock.tables.runs import MEND_CURVE

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    edits, local = training_data(given, snakemake.wildcards.kind, params.source, params.cases_seed)
    print(edits.groupby("split").size().to_string(), local.groupby("split").size().to_string(), sep="\n")
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    checkpoint = Path(made.hypernetwork).with_name("checkpoint.safetensors")
    net, curve = train_hypernetwork(
        lm,
        edits,
        local,
        params.layers,
        MendTraining(**params.settings),
        params.seed,
        hashed,
        checkpoint,
        run.progress,
    )
    MEND_CURVE.write(curve, made.curve, run.provenance)
    save_hypernetwork(net, made.hypernetwork, hashed, run.provenance)
    checkpoint.unlink(missing_ok=True)
