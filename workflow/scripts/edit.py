"""Edit the test cases of one shard and score every probe in every state."""

import json

from aftershock.editors.table import method_of, settings_of

from aftershock.datasets.table import CONFLICT
from aftershock.experiments.cases import CONFLICT_STATES, ROUND_STATES, Continuations, run_cases
from aftershock.lm.hypernetwork import load_hypernetwork
from aftershock.lm.model import LanguageModel
from aftershock.lm.moments import load_moments, sha256_of_weights
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import OBSERVATIONS, TELEMETRY, TRIALS

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    trials = TRIALS.read(given.trials) if given.trials else TRIALS.empty()
    chosen = [json.loads(values) for values in trials.loc[trials["chosen"], "settings"]]
    method = params.editor["method"]
    settings = settings_of(method, params.editor["settings"], *chosen)
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    moments = load_moments(given.moments, settings.layers, hashed) if given.moments else None
    trained = given.get("hypernetwork")
    made_for = {"hypernetwork": load_hypernetwork(trained, lm, hashed)} if trained else {}
    editor = method_of(method).load()(lm, settings, moments, params.seed, **made_for)

    first, last = map(int, snakemake.wildcards.shard.split("-"))
    cases = CASES.read(given.cases)
    mine = cases.loc[(cases["split"] == "test") & cases["case_id"].between(first, last), "case_id"]
    edits, probes = (table.read(path) for table, path in ((EDITS, given.edits), (PROBES, given.probes)))
    observations, telemetry = run_cases(
        lm,
        editor,
        edits[edits["case_id"].isin(mine)],
        probes[probes["case_id"].isin(mine)],
        PROMPTS.read(given.prompts),
        CONFLICT_STATES if params.dataset in CONFLICT else ROUND_STATES,
        params.editor["second_edit"],
        params.seed,
        params.editor["labels"],
        Continuations(**params.continuations),
        run.progress,
    )
    OBSERVATIONS.write(observations, made.observations, run.provenance)
    TELEMETRY.write(telemetry, made.telemetry, run.provenance)
