"""Summarise the scores of all runs and lay them out as tables."""

from pathlib import Path

import pandas as pd

from aftershock.kg.sheets import read_relations
from aftershock.metrics.layouts import all_tables, recall_table
from aftershock.metrics.summary import summarise
from aftershock.output import whole_folder
from aftershock.paper_tables import paper_tables
from aftershock.stage import stage
from aftershock.study_tables import study_tables
from aftershock.tables import CASES, RECALL, RECALL_SUMMARY, SCORES, SUMMARY

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    relations = read_relations(given.relations, params.namespace)
    labels = dict(zip(relations["relation_id"], relations["label"], strict=True))
    parts = [
        summarise(SCORES.read(scores), CASES.read(cases), about, params.seed)
        for scores, cases, about in zip(given.scores, given.cases, params.runs, strict=True)
    ]
    summary = pd.concat(parts or [SUMMARY.empty()], ignore_index=True)
    recalls = [
        recall_table(RECALL.read(path), labels, model, params.seed)
        for path, model in zip(given.recall, params.recalled, strict=True)
    ]
    recall = pd.concat(recalls or [RECALL_SUMMARY.empty()], ignore_index=True)
    SUMMARY.write(summary, snakemake.output.summary, run.provenance)
    scored = dict(zip(params.scored, given.scored, strict=True))
    paper = study_tables(summary, params.runs, Path(given.paper[0]).parent, params.paper, scored)
    with whole_folder(snakemake.output.tables) as folder:
        summary.to_csv(folder / "summary.csv", index=False)
        for name, text in paper_tables(summary, params.runs).items():
            Path(folder, name).write_text(text, encoding="utf-8")
        for name, (schema, table) in (all_tables(summary, params.runs, recall) | paper).items():
            schema.write(table, folder / f"{name}.parquet", run.provenance)
            table.to_csv(folder / f"{name}.csv", index=False)
