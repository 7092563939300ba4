"""Write the page of a run."""

from pathlib import Path

import pandas as pd

from aftershock.figure_names import KINDS, SEQUENCE_KINDS, WHOLE, figure_name
from aftershock.jobs.record import finished_jobs
from aftershock.kg.sheets import read_relations
from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.output import whole_folder, write_text
from aftershock.page.explorer import Outcome, Setting, explore
from aftershock.page.figures import Picture
from aftershock.page.layouts import of_run
from aftershock.page.listed import read_tables
from aftershock.page.names import (
    bars_with_names,
    run_with_name,
    runs_with_names,
    variants_with_names,
    with_names,
)
from aftershock.page.sequences import SEQUENCE_TABLES, SequenceResults, over_orders
from aftershock.page.variants import comparing
from aftershock.page.weights import read_origin
from aftershock.report import Material, chunk_files, page
from aftershock.stage import stage
from aftershock.tables import provenance_of
from aftershock.tables.abilities import ITEM_EXAMPLES
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import MOMENTS
from aftershock.tables.report import RECALL_SUMMARY, SUMMARY
from aftershock.tables.runs import FACETS, HOLES, MEND_CURVE, PROBABILITIES, SCORES, TRIALS
from aftershock.training_figure import curve_name


def settings(given, params):
    """The settings of the run one by one, each with the results of its methods."""
    outcomes = list(zip(params.runs, given.probabilities, given.scores, given.holes, strict=True))
    for place, (model, dataset) in enumerate(params.settings):
        runs = [
            Outcome(
                run_with_name(about, params.names),
                PROBABILITIES.read(probabilities),
                SCORES.read(scores),
                HOLES.read(holes),
            )
            for about, probabilities, scores, holes in outcomes
            if (about["model"], about["dataset"]) == (model, dataset)
        ]
        tables = (
            CASES.read(given.cases[place]),
            EDITS.read(given.edits[place]),
            PROBES.read(given.probes[place]),
        )
        facets = FACETS.read(given.facets[place])
        yield Setting(model, dataset, *tables, PROMPTS.read(given.prompts[place]), runs, facets)


def sequences(given, about, tables, names):
    """Return the material of the section about sequences of edits."""
    pictures = []
    for model, plan in dict.fromkeys((run["model"], run["plan"]) for run in about["runs"]):
        for kind, words in SEQUENCE_KINDS.items():
            name = figure_name(model, plan, kind)
            path = Path(given.figures, f"{name}.svg")
            if path.exists():
                title = f"{plan}: {words.title}"
                pictures.append(Picture(name, title, words.about, model, path.read_bytes()))
    return SequenceResults(
        tables={name: tables[name] for name in ("abilities", "curves", "collapses") if name in tables},
        tasks=[TaskInfo.of(task) for task in about["tasks"]],
        pictures=pictures,
        runs=runs_with_names(about["runs"], names),
        examples=[ITEM_EXAMPLES.read(path) for path in given.examples],
    )


def beginnings(given, params):
    """Return the beginning of each model's texts, as its first table of unedited scores has noted."""
    found = {}
    for (model, _), path in zip(params.settings, given.unedited, strict=True):
        if beginning := provenance_of(path).get("beginning"):
            found.setdefault(model, beginning)
    return found


with stage(snakemake) as run:
    given, params, output = snakemake.input, snakemake.params, snakemake.output
    relations = read_relations(given.relations, params.namespace)
    every = [*params.runs, *params.sequences["runs"]]
    labels = dict(zip(relations["relation_id"], relations["label"], strict=True))
    tables, names = sorted(Path(given.tables).iterdir()), params.names
    variants, compared = variants_with_names(params.variants, names), {}
    explorer = explore(comparing(settings(given, params), variants, compared), labels)
    places = dict.fromkeys((model, WHOLE) for model, _ in params.settings) | dict.fromkeys(params.settings)
    keys = [(*place, kind) for place in places for kind in KINDS]
    figures = {key: Path(given.figures, f"{figure_name(*key)}.svg") for key in keys}
    summary = with_names(SUMMARY.read(given.summary), names)
    made_by = {"report": run.provenance, "summary": provenance_of(given.summary)}
    named = {name: with_names(table, names) for name, table in read_tables(tables).items()}
    material = Material(
        title=params.title,
        summary=summary,
        recall=RECALL_SUMMARY.read(Path(given.tables, "recall.parquet")),
        runs=runs_with_names(params.runs, names),
        bars=bars_with_names(params.bars, names),
        variants=variants,
        compared=compared,
        figures={key: path.read_bytes() for key, path in figures.items() if path.exists()},
        tables={
            "summary": summary,
            **{
                name: over_orders(table) if name in SEQUENCE_TABLES else table
                for name, table in named.items()
            },
        },
        files=["summary.parquet", *(f"tables/{path.name}" for path in tables)],
        explorer=explorer,
        trials={
            (model, names[label]): TRIALS.read(path)
            for (model, label), path in zip(params.tuned, given.trials, strict=True)
        },
        curves={
            tuple(key): (MEND_CURVE.read(path), Path(given.figures, f"{curve_name(*key)}.svg").read_bytes())
            for key, path in zip(params.trained, given.curves, strict=True)
        },
        counts={
            tuple(key): pd.read_csv(path) for key, path in zip(params.settings, given.counts, strict=True)
        },
        known=[(model, pd.read_csv(path)) for model, path in zip(params.known_to, given.known, strict=True)],
        labels=labels,
        oddities=pd.read_csv(given.findings) if given.findings else None,
        moments={
            name: MOMENTS.read(path) for name, path in zip(params.with_moments, given.moments, strict=True)
        },
        beginnings=beginnings(given, params),
        origins={name: read_origin(path) for name, path in zip(params.fetched, given.weights, strict=True)},
        timings=of_run(finished_jobs(), params.kg, [r["model"] for r in every]),
        config=params.config,
        sequences=sequences(given, params.sequences, named, names),
        provenance=made_by
        | {
            f"unedited {model}, {dataset}": provenance_of(path)
            for (model, dataset), path in zip(params.settings, given.unedited, strict=True)
        },
    )
    with whole_folder(output.cases) as folder:
        for name, text in chunk_files(explorer).items():
            (folder / name).write_text(text, encoding="utf-8")
    write_text(output.page, page(material))
