"""Find the layers that hold a model's facts, by causal tracing and by editing dev cases at each layer."""

from pathlib import Path

import pandas as pd

from aftershock.experiments.sweep import layers_with, sweep
from aftershock.experiments.tracing import known_facts, trace
from aftershock.experiments.tuning import Development
from aftershock.figures import save
from aftershock.layers import draw, findings, tracing_rows
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import add_up
from aftershock.lm.statistics.null_space import decompose
from aftershock.lm.texts.documents import sample_documents, text_files
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import LAYERS

with stage(snakemake) as run:
    given, params, settings = snakemake.input, snakemake.params, snakemake.params.settings
    lm = LanguageModel.load(given.weights, run.device, **params.engine)
    layers = settings["layers"] or list(range(lm.n_layers))
    prompts, cases = PROMPTS.read(given.prompts), CASES.read(given.cases)
    dev = cases[cases["split"] == "dev"].sort_values("case_id")
    edits, probes = (
        table.read(path).loc[lambda rows: rows["case_id"].isin(dev["case_id"])]
        for table, path in ((EDITS, given.edits), (PROBES, given.probes))
    )

    facts = known_facts(lm, probes, prompts, settings["facts"])
    how = {name: settings[name] for name in ("samples", "noise", "window", "seed")}
    traces = trace(lm, [fact for _, fact in facts], **how, progress=run.progress)
    print(f"p(object): {traces.clean.mean():.3f} clean, {traces.corrupted.mean():.3f} with noise")
    effects = {name: values.numpy() for name, values in traces.indirect_effects().items()}
    clusters = dev.set_index("case_id")["cluster"][[case for case, _ in facts]].reset_index(drop=True)
    traced = tracing_rows(effects, traces.windows, clusters, settings["seed"], params.level)

    some = dev["case_id"].head(settings["cases"])
    chosen = (rows[rows["case_id"].isin(some)] for rows in (edits, probes))
    development = Development.read(lm, *chosen, prompts)
    artifacts = {}
    if layers_with("moments", params.editors, layers):
        column, limit, enough, seed = (
            params.sample[name] for name in ("column", "documents", "vectors_per_dimension", "seed")
        )
        documents = sample_documents(text_files(given.text), column, limit, seed)
        for name, part in (("moments", "mlp"), ("attention_moments", "attention")):
            if needed := layers_with(name, params.editors, layers):
                sums = add_up(lm, documents, needed, enough, progress=run.progress, part=part)
                artifacts[name] = sums.moments()
    if needed := layers_with("null_space", params.editors, layers):
        moments = {layer: artifacts["moments"][layer] for layer in needed}
        artifacts["null_space"] = decompose(moments, lm.device)
    swept = sweep(development, params.editors, layers, artifacts, settings["seed"])

    table = pd.concat([traced, swept], ignore_index=True)
    print(table.to_string(index=False))
    for line in findings(table):
        print(line)
        print(f"{snakemake.wildcards.model}: {line}", file=run.console)
    LAYERS.write(table, snakemake.output.table, run.provenance)
    save(draw(table, snakemake.wildcards.model), Path(snakemake.output.table).parent, "layers")
