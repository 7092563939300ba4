"""Choose an editor's settings on dev cases of coverage."""

from aftershock.editors.artifacts import load_artifacts
from aftershock.experiments.tuning import tune
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import TRIALS
from aftershock.verdicts import unwritten

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    hashed = sha256_of_weights(given.weights)
    artifacts = load_artifacts(params.editor["artifacts"], given.artifacts, lm, None, hashed)
    cases = CASES.read(given.cases)
    dev = cases.loc[cases["split"] == "dev", "case_id"].sort_values().head(params.cases)
    edits, probes = (table.read(path) for table, path in ((EDITS, given.edits), (PROBES, given.probes)))
    trials = tune(
        lm,
        params.editor["method"],
        params.editor["settings"],
        params.search,
        params.trials,
        edits[edits["case_id"].isin(dev)],
        probes[probes["case_id"].isin(dev)],
        PROMPTS.read(given.prompts),
        artifacts,
        params.seed,
        run.progress,
        params.editor.get("regularisers", ()),
    )
    print(trials.to_string(index=False, float_format="%.3f"))
    for line in unwritten(snakemake.wildcards.model, snakemake.wildcards.editor, trials):
        print(line)
        print(f"{snakemake.rule}: {line}", file=run.console)
    TRIALS.write(trials, snakemake.output[0], run.provenance)
