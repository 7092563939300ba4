"""Edit the test cases of one shard and score every probe in every state."""

import json

from aftershock.datasets.table import State
from aftershock.editors.artifacts import load_artifacts
from aftershock.editors.contract import layers_of
from aftershock.editors.methods import make_editor, settings_of
from aftershock.experiments.cases import Continuations, run_cases
from aftershock.experiments.health import Health
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import HEALTH, OBSERVATIONS, TELEMETRY, TRIALS

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    trials = TRIALS.read(given.trials) if given.trials else TRIALS.empty()
    chosen = [json.loads(values) for values in trials.loc[trials["chosen"], "settings"]]
    method = params.editor["method"]
    settings = settings_of(method, params.editor["settings"], *chosen)
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    loaders = params.editor["artifacts"]
    artifacts = load_artifacts(loaders, given.artifacts, lm, layers_of(settings), hashed)
    regularisers = params.editor.get("regularisers", ())
    editor = make_editor(method, settings, lm, artifacts, params.seed, regularisers)

    first, last = map(int, snakemake.wildcards.shard.split("-"))
    cases = CASES.read(given.cases)
    mine = cases.loc[(cases["split"] == "test") & cases["case_id"].between(first, last), "case_id"]
    edits, probes = (table.read(path) for table, path in ((EDITS, given.edits), (PROBES, given.probes)))
    health = Health(lm, params.health)
    observations, telemetry = run_cases(
        lm,
        editor,
        edits[edits["case_id"].isin(mine)],
        probes[probes["case_id"].isin(mine)],
        PROMPTS.read(given.prompts),
        [State(**values) for values in params.states],
        params.editor["second_edit"],
        params.seed,
        params.editor["labels"],
        Continuations(**params.continuations),
        run.progress,
        health,
    )
    made_with = run.provenance
    if editor.measured:
        print("measured settings, by layer:", editor.measured)
        made_with = {**made_with, "measured": editor.measured}
    OBSERVATIONS.write(observations, made.observations, run.provenance)
    TELEMETRY.write(telemetry, made.telemetry, made_with)
    HEALTH.write(health.table(), made.health, {**run.provenance, "texts": health.texts})
