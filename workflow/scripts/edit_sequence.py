"""Make the edits of a plan in one order, and log them; after an interruption, from the last chunk on."""

import json
from dataclasses import asdict

from aftershock.editors.artifacts import load_artifacts
from aftershock.editors.contract import layers_of
from aftershock.editors.methods import make_editor, settings_of
from aftershock.experiments.sequences.plan import Plan
from aftershock.experiments.sequences.run import edits_in_order, identity_of, run_sequence
from aftershock.experiments.sequences.writing import publish, unfinished, writing
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.runs import TRIALS
from aftershock.tables.sequences import SEQUENCE_EDITS, SEQUENCE_TELEMETRY

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    trials = TRIALS.read(given.trials) if given.trials else TRIALS.empty()
    chosen = [json.loads(values) for values in trials.loc[trials["chosen"], "settings"]]
    settings = settings_of(params.editor["method"], params.editor["settings"], *chosen)
    plan, order = Plan(**params.plan), int(snakemake.wildcards.order)
    edits = edits_in_order(SEQUENCE_EDITS.read(given.edits), plan, order)
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    artifacts = load_artifacts(params.loaders, given.artifacts, lm, layers_of(settings), hashed)
    regularisers = params.editor.get("regularisers", ())
    editor = make_editor(params.editor["method"], settings, lm, artifacts, params.seed, regularisers)
    made_by = {name: params[name] for name in ("editor", "engine", "seed", "code")}
    made_by |= {"settings": asdict(settings)}
    identity = identity_of(hashed, plan, order, edits, given.artifacts, made_by)
    folder = unfinished(made.log, identity)
    with writing(folder, identity, run.provenance | {"measured": editor.measured}) as writer:
        run_sequence(editor, edits, plan.turns, writer, params.health, run.progress)
        log = writer.log
        for checkpoint, reason in log.absent.items():
            print(f"checkpoint {checkpoint} was not reached: {reason}")
        SEQUENCE_TELEMETRY.write(log.telemetry(), made.telemetry, run.provenance)
        publish(folder, made.log)
