"""Summarise the scores of all runs and lay them out as tables."""

import pandas as pd

from aftershock.kg.sheets import read_relations
from aftershock.metrics.comparisons import compare
from aftershock.metrics.layouts import all_tables, recall_table
from aftershock.metrics.settings import Statistics
from aftershock.metrics.spread import spread
from aftershock.metrics.study import score_blocks
from aftershock.metrics.summary import summarise
from aftershock.output import whole_folder
from aftershock.stage import stage
from aftershock.tables import CASES, COMPARISONS, RECALL, RECALL_SUMMARY, SCORES, SEEDS, SUMMARY

with stage(snakemake) as run:
    given, params = snakemake.input, snakemake.params
    relations = read_relations(given.relations, params.namespace)
    labels = dict(zip(relations["relation_id"], relations["label"], strict=True))
    settings = Statistics(**params.statistics)
    scores, cases = [SCORES.read(path) for path in given.scores], [CASES.read(path) for path in given.cases]
    parts = [
        summarise(rows, about, of_run, settings)
        for rows, about, of_run in zip(scores, cases, params.runs, strict=True)
    ]
    summary = pd.concat(parts or [SUMMARY.empty()], ignore_index=True)
    blocks = score_blocks(params.runs, cases, scores)
    sure = {
        "comparisons": (COMPARISONS, compare(blocks, settings)),
        "seeds": (SEEDS, spread(blocks, settings)),
    }
    recalls = [
        recall_table(RECALL.read(path), labels, model, params.seed)
        for path, model in zip(given.recall, params.recalled, strict=True)
    ]
    recall = pd.concat(recalls or [RECALL_SUMMARY.empty()], ignore_index=True)
    SUMMARY.write(summary, snakemake.output.summary, run.provenance)
    with whole_folder(snakemake.output.tables) as folder:
        summary.to_csv(folder / "summary.csv", index=False)
        for name, (schema, table) in (all_tables(summary, params.runs, recall) | sure).items():
            schema.write(table, folder / f"{name}.parquet", run.provenance)
            table.to_csv(folder / f"{name}.csv", index=False)
