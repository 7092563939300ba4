"""Draw the figures of a report."""

from functools import partial

from aftershock.figures import Drawn, draw_all
from aftershock.figures.sequences import sequence_figures
from aftershock.figures.shared import Named
from aftershock.jobs.record import finished_jobs
from aftershock.kg.sheets import read_relations
from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.output import whole_folder
from aftershock.page.names import run_with_name, runs_with_names, with_names
from aftershock.stage import stage
from aftershock.tables import Table
from aftershock.tables.abilities import SEQUENCE_TABLES
from aftershock.tables.cases import CASES
from aftershock.tables.report import HEALTH_SUMMARY, SUMMARY
from aftershock.tables.runs import MEND_CURVE, PROBABILITIES, SCORES
from aftershock.training_figure import curve_name, training_curve

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    relations = read_relations(given.relations, params.namespace)

    def of_rounds(table: Table, paths):
        """The tables of round datasets, by run."""
        about = zip(paths, params.runs, strict=True)
        return [table.read(path) if run["dataset"] in params.round else None for path, run in about]

    drawn = Drawn(
        summary=with_names(SUMMARY.read(given.summary), params.names),
        runs=runs_with_names(params.runs, params.names),
        probabilities=of_rounds(PROBABILITIES, given.probabilities),
        scores=of_rounds(SCORES, given.scores),
        cases=of_rounds(CASES, given.cases),
        labels=dict(zip(relations["relation_id"], relations["label"], strict=True)),
        timings=[
            {**job, "wildcards": run_with_name(job["wildcards"], params.names)}
            for job in finished_jobs()
            if job["rule"] == "edit"
        ],
        kg=params.kg,
        examples=params.examples,
        seed=params.seed,
        level=params.level,
        health=with_names(HEALTH_SUMMARY.read(f"{given.tables}/health.parquet"), params.names),
    )
    others: list[Named] = []
    if params.sequences["runs"]:
        tables = {
            name: with_names(table.read(f"{given.tables}/{name}.parquet"), params.names)
            for name, table in SEQUENCE_TABLES.items()
        }
        others += sequence_figures(tables, [TaskInfo.of(task) for task in params.sequences["tasks"]])
    for (model, kind), path in zip(params.trained, given.curves, strict=True):
        make = partial(training_curve, MEND_CURVE.read(path), model, kind)
        others.append((curve_name(model, kind), make))
    with whole_folder(snakemake.output.figures) as folder:
        draw_all(folder, drawn, others, snakemake.threads)
