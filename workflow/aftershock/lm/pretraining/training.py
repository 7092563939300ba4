"""Training of a small GPT-2-architecture model from scratch until it knows the training facts."""

import logging
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Any

import numpy as np
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from aftershock.lm.pretraining.fitting import WORKER, fit, new_model
from aftershock.lm.pretraining.processes import Workers
from aftershock.lm.pretraining.rows import Encoder, draw_rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.text import Document, document_text
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from aftershock.progress import Progress


def train_language_model(
    documents: Iterator[Document],
    architecture: Mapping[str, Any],
    settings: TrainSettings,
    progress: Progress | None = None,
    processes: int = 1,
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast, list[Document]]:
    """A model trained on `documents` (an endless iterator), its tokenizer, and the documents used.

    At most `processes` share the work, and no more than batches have parts; their number changes no bit.
    """
    if settings.row_tokens > architecture["n_positions"]:
        raise ValueError(
            f"train.row_tokens is {settings.row_tokens}, more than architecture.n_positions "
            f"({architecture['n_positions']}) in the model's YAML"
        )
    if settings.parts > settings.batch_rows:
        raise ValueError(
            f"train.parts is {settings.parts}, more than train.batch_rows ({settings.batch_rows}) in the "
            "model's YAML"
        )
    others = min(processes, settings.parts) - 1
    with Workers(WORKER, others) as workers:  # first of all, as they take seconds to start
        first = list(islice(documents, settings.tokenizer_documents))
        texts = map(document_text, first)
        tokenizer = train_tokenizer(texts, architecture["vocab_size"], architecture["n_positions"])
        encoder = Encoder(tokenizer, settings.context_weight)
        rows, used = draw_rows(chain(first, documents), encoder, settings)
        model = new_model(architecture, tokenizer, settings.seed)
        losses = fit(model, rows, settings, progress, workers)
    logging.info("%d rows, last losses %s", len(rows.ids), np.round(losses[-5:], 3))
    return model, tokenizer, used
