"""Summarise the scores of all runs, say how sure they are, and lay them out as tables."""

from pathlib import Path

import pandas as pd

from aftershock.jobs.record import finished_jobs
from aftershock.kg.sheets import read_relations
from aftershock.metrics.abilities.settings import Collapse
from aftershock.metrics.analysis import analyse
from aftershock.metrics.health import Thresholds, summarise_health
from aftershock.metrics.layouts import all_tables, recall_table
from aftershock.metrics.ranking.samples import of_sequences, of_times
from aftershock.metrics.settings import Statistics
from aftershock.metrics.study import with_subjects
from aftershock.output import whole_folder
from aftershock.paper.ability_tables import ability_tables, read_sequences
from aftershock.paper.health import health_tables
from aftershock.paper.study_tables import study_tables
from aftershock.paper.tables import paper_tables
from aftershock.stage import stage
from aftershock.tables.cases import CASES, EDITS
from aftershock.tables.models import RECALL
from aftershock.tables.report import HEALTH_SUMMARY, RECALL_SUMMARY
from aftershock.tables.runs import FACETS, HEALTH, SCORES, VARIANTS

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    relations = read_relations(given.relations, params.namespace)
    labels = dict(zip(relations["relation_id"], relations["label"], strict=True))
    cases = [
        with_subjects(CASES.read(path), EDITS.read(edits))
        for path, edits in zip(given.cases, given.edits, strict=True)
    ]
    by_run = [
        [table.read(path) for path in paths]
        for table, paths in ((SCORES, given.scores), (FACETS, given.facets), (VARIANTS, given.variants))
    ]
    settings = Statistics(**params.statistics)
    along = {"answers": given.task_answers, "scores": given.task_scores}
    along |= {"edits": given.sequence_scores, "health": given.sequence_health}
    sequences = read_sequences(params.sequences, along, settings)
    times = of_times(params.runs, finished_jobs(), params.kg, sequences)
    tables = analyse(params.runs, cases, *by_run, settings, [*of_sequences(sequences), *times])
    recalls = [
        recall_table(RECALL.read(path), labels, model, settings.seed, settings.level)
        for path, model in zip(given.recall, params.recalled, strict=True)
    ]
    recall = pd.concat(recalls or [RECALL_SUMMARY.empty()], ignore_index=True)
    schema, summary = tables.pop("summary")
    schema.write(summary, snakemake.output.summary, run.provenance)
    health = summarise_health(
        params.runs, [HEALTH.read(path) for path in given.health], Thresholds(**params.health)
    )
    tables["health"] = HEALTH_SUMMARY, health
    scored = dict(zip(params.scored, given.scored, strict=True))
    tables |= all_tables(summary, params.runs, recall)
    folder, compared = Path(given.paper[0]).parent, tables["comparisons"][1]
    tables |= study_tables(summary, params.runs, folder, params.paper, scored, compared)
    beside = {"cases": given.scores_among, "verdicts": given.verdicts}
    limits = Collapse(**params.collapse)
    tables |= ability_tables(sequences, params.sequences, beside, folder, limits, settings)
    with whole_folder(snakemake.output.tables) as folder:
        summary.to_csv(folder / "summary.csv", index=False)
        files = paper_tables(summary, params.runs, settings.level) | health_tables(health)
        for name, text in files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        for name, (schema, table) in tables.items():
            schema.write(table, folder / f"{name}.parquet", run.provenance)
            table.to_csv(folder / f"{name}.csv", index=False)
