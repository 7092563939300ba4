"""Collect second moments of a model on its text, for every layer that an editor needs."""

import hashlib
from pathlib import Path

from aftershock.lm.model import LanguageModel
from aftershock.lm.moments import sample_documents, save_moments, second_moments, sha256_of_weights
from aftershock.stage import stage

with stage(snakemake) as run:
    given, layers = snakemake.input, snakemake.params.layers
    lm = LanguageModel.load(given.weights, run.device)
    text = Path(given.text).read_bytes()
    documents = sample_documents(lm, text.decode("utf-8").splitlines(), layers)
    moments = second_moments(lm, documents, layers)
    print(f"{len(documents)} documents, {moments[layers[0]].count} tokens, layers {layers}")
    save_moments(
        moments, snakemake.output[0], sha256_of_weights(given.weights), hashlib.sha256(text).hexdigest()
    )
