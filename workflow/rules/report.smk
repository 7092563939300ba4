"""Tables, figures and the report."""

from types import SimpleNamespace

from aftershock.editors.names import display_names
from aftershock.figure_names import KINDS


include: "common/report.smk"


localrules:
    tables,
    figures,
    report,


RUNS = [
    {"model": name, "dataset": dataset, "editor": editor, "seed": seed}
    for name in config["models"]
    for dataset in config["datasets"]
    for editor in editors_of(dataset)
    for seed in config["seeds"]
]


SETTINGS = list(dict.fromkeys((run["model"], run["dataset"]) for run in RUNS))
"""Every model and dataset of the run."""


TUNED = tuned()
HYPERNETWORKS = {
    artifact_file("hypernetwork", SimpleNamespace(kg=KG, **run)): run["model"]
    for run in RUNS
    if "hypernetwork" in artifacts_for(run["editor"], run["model"])
}
"""The model of every hypernetwork that this run edits with."""


WITH_MOMENTS = list(
    dict.fromkeys(
        run["model"] for run in RUNS if "moments" in with_sources(artifacts_for(run["editor"], run["model"]))
    )
)
"""Every model that this run edits with second moments."""


KNOWN = known_of_settings()
"""Every model with the files that say how much it knew."""


FETCHED_HERE = [name for name in config["models"] if name in FETCHED]
"""The models of this run whose weights say where they are from."""


SCORED = {
    name: f"results/{KG}/{name}/{config['datasets'][0]}/unedited.parquet"
    for name in config["models"]
    if KG in RELEASED and config["datasets"]
}
"""A table that each model was loaded for, whose provenance names the software; for published files only."""


rule tables:
    input:
        scores=results("scores.parquet"),
        facets=results("facets.parquet"),
        variants=results("variants.parquet"),
        health=results("health.parquet"),
        cases=[f"results/{KG}/{run['model']}/cases/{run['dataset']}.parquet" for run in RUNS],
        edits=[f"results/{KG}/{run['model']}/cases/{run['dataset']}.edits.parquet" for run in RUNS],
        recall=[f"results/models/{name}/recall.parquet" for name in TRAINED],
        precision=precisions(),
        relations=f"{RESOURCES}/relations.tsv",
        paper=[f"{RESOURCES}/paper/{name}" for name in ("reported.csv", "study.yaml", "claims.yaml")],
        published=published(),
        scored=list(SCORED.values()),
        task_answers=of_sequences_with_tasks("scored/answers.parquet"),
        task_scores=of_sequences_with_tasks("scored/scores.parquet"),
        sequence_scores=of_sequences("scored/edits.parquet"),
        sequence_health=of_sequences("scored/health.parquet"),
        scores_among=scores_among(),
        verdicts=judged_of_run(),
        ability_studies=sorted(Path(RESOURCES, "paper").glob("abilit*")) if SEQUENCES else [],
    output:
        summary=f"{REPORT}/summary.parquet",
        tables=report(
            directory(f"{REPORT}/tables"),
            patterns=["{table}.csv"],
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"results/logs/tables/{STUDY}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        runs=RUNS,
        recalled=TRAINED,
        kg=KG,
        namespace=config["kgs"][KG].get("namespace"),
        seed=config["statistics"]["seed"],
        statistics=config["statistics"],
        health={name: config["health"][name] for name in ("collapse", "disabling")},
        paper=circumstances(),
        scored=list(SCORED),
        sequences=sequence_circumstances(),
        collapse=config["abilities"]["collapse"] | {"perplexity": config["health"]["collapse"]},
        code=code_of("tables"),
    message:
        "Summarising the scores"
    script:
        "../scripts/tables.py"


rule figures:
    input:
        summary=f"{REPORT}/summary.parquet",
        tables=f"{REPORT}/tables",
        probabilities=results("probabilities.parquet"),
        scores=results("scores.parquet"),
        cases=[f"results/{KG}/{run['model']}/cases/{run['dataset']}.parquet" for run in RUNS],
        relations=f"{RESOURCES}/relations.tsv",
        curves=[str(Path(path).with_name("curve.parquet")) for path in HYPERNETWORKS],
    output:
        figures=report(
            directory(f"{REPORT}/figures"),
            patterns=["{model}.{dataset}.{kind}.svg"],
            caption="../report/figure.rst",
            category="Figures",
            subcategory="{model}",
            labels={"dataset": "{dataset}", "figure": "{kind}"},
        ),
    log:
        f"results/logs/figures/{STUDY}.log",
    conda:
        "../../envs/tables.yaml"
    threads: 2  # each of them a process
    resources:
        process_threads=1,
    params:
        runs=RUNS,
        round=[name for name in config["datasets"] if name in ROUND],
        trained=[(name, Path(path).parent.name) for path, name in HYPERNETWORKS.items()],
        namespace=config["kgs"][KG].get("namespace"),
        kg=KG,
        names=display_names(EDITOR_LABELS),
        examples=config["report"]["examples"],
        about={kind: words.about for kind, words in KINDS.items()},
        seed=config["cases"]["seed"],
        level=config["statistics"]["level"],
        sequences=sequence_circumstances(),
        code=code_of("figures"),
    message:
        "Drawing the figures"
    script:
        "../scripts/figures.py"


rule report:
    input:
        summary=f"{REPORT}/summary.parquet",
        tables=f"{REPORT}/tables",
        figures=f"{REPORT}/figures",
        probabilities=results("probabilities.parquet"),
        scores=results("scores.parquet"),
        holes=results("holes.parquet"),
        facets=facets_of_settings(),
        cases=of_settings("results/{kg}/{model}/cases/{dataset}.parquet"),
        edits=of_settings("results/{kg}/{model}/cases/{dataset}.edits.parquet"),
        probes=of_settings("results/{kg}/{model}/cases/{dataset}.probes.parquet"),
        counts=of_settings("results/{kg}/{model}/cases/{dataset}.counts.csv"),
        known=[path for _, path in KNOWN],
        unedited=of_settings("results/{kg}/{model}/{dataset}/unedited.parquet"),
        prompts=[prompts(SimpleNamespace(kg=KG, dataset=dataset)) for _, dataset in SETTINGS],
        relations=f"{RESOURCES}/relations.tsv",
        trials=[path for _, path in TUNED],
        curves=[str(Path(path).with_name("curve.parquet")) for path in HYPERNETWORKS],
        moments=[f"results/models/{name}/moments.parquet" for name in WITH_MOMENTS],
        weights=[f"results/models/{name}/weights" for name in FETCHED_HERE],
        findings=f"results/kg/{KG}/findings.csv" if KG in RELEASED else [],
        examples=of_sequences_with_tasks("scored/examples.parquet"),
        templates=sorted(Path(PROJECT).glob("workflow/aftershock/templates/*")),
    output:
        page=f"{REPORT}/index.html",
        cases=directory(f"{REPORT}/cases"),
    log:
        f"results/logs/report/{STUDY}.log",
    conda:
        "../../envs/tables.yaml"
    params:
        title=config["study"] or "The embedded default",
        names=display_names(EDITOR_LABELS),
        runs=RUNS,
        settings=SETTINGS,
        bars=config["report"]["bars"],
        variants=config["report"]["variants"],
        known_to=[name for name, _ in KNOWN],
        tuned=[label for label, _ in TUNED],
        trained=[(name, Path(path).parent.name) for path, name in HYPERNETWORKS.items()],
        with_moments=WITH_MOMENTS,
        fetched=FETCHED_HERE,
        kg=KG,
        namespace=config["kgs"][KG].get("namespace"),
        config=config,
        sequences=sequence_circumstances(),
        code=code_of("report"),
    message:
        "Writing the report"
    script:
        "../scripts/report.py"
