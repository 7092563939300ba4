"""Score the labels of a graph with a text classifier."""

import pandas as pd

from aftershock.lm.networks.classifier import classify
from aftershock.stage import stage
from aftershock.tables.graph import LABEL_SCORES, LABELS

with stage(snakemake) as run:
    given = snakemake.input
    texts = sorted(LABELS.read(given.labels)["label"].dropna().unique())
    scores = classify(given.classifier, texts, snakemake.params.label, run.device)
    LABEL_SCORES.write(pd.DataFrame({"text": texts, "score": scores}), snakemake.output[0], run.provenance)
