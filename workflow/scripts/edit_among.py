"""Edit the cases of one shard with edits of a plan before, between or after theirs, and score every probe."""

import json

from aftershock.editors.artifacts import load_artifacts
from aftershock.editors.contract import layers_of
from aftershock.editors.methods import make_editor, settings_of
from aftershock.experiments.sequences.among import Unrelated, run_among
from aftershock.experiments.sequences.log import EditLog
from aftershock.experiments.sequences.plan import Plan
from aftershock.experiments.sequences.run import edits_in_order
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import TRIALS
from aftershock.tables.sequences import AMONG_OBSERVATIONS, AMONG_TELEMETRY, SEQUENCE_EDITS

with stage(snakemake) as run:
    given, made, params = snakemake.input, snakemake.output, snakemake.params
    trials = TRIALS.read(given.trials) if given.trials else TRIALS.empty()
    chosen = [json.loads(values) for values in trials.loc[trials["chosen"], "settings"]]
    settings = settings_of(params.editor["method"], params.editor["settings"], *chosen)
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    artifacts = load_artifacts(params.loaders, given.artifacts, lm, layers_of(settings), hashed)
    regularisers = params.editor.get("regularisers", ())
    editor = make_editor(params.editor["method"], settings, lm, artifacts, params.seed, regularisers)

    plan = Plan(**params.plan)
    sequence = edits_in_order(SEQUENCE_EDITS.read(given.sequence), plan, int(snakemake.wildcards.order))
    unrelated = Unrelated(
        snakemake.wildcards.place,
        params.numbers,
        EditLog.open(given.log, hashed) if given.log else None,
        [[sequence[i - 1].request for i in turn.positions] for turn in plan.turns],
    )
    first, last = map(int, snakemake.wildcards.shard.split("-"))
    cases = CASES.read(given.cases)
    mine = cases.loc[(cases["split"] == "test") & cases["case_id"].between(first, last), "case_id"]
    edits, probes = (table.read(path) for table, path in ((EDITS, given.edits), (PROBES, given.probes)))
    observations, telemetry = run_among(
        editor,
        edits[edits["case_id"].isin(mine)],
        probes[probes["case_id"].isin(mine)],
        PROMPTS.read(given.prompts),
        unrelated,
        run.progress,
    )
    AMONG_OBSERVATIONS.write(observations, made.observations, run.provenance)
    AMONG_TELEMETRY.write(telemetry, made.telemetry, run.provenance)
