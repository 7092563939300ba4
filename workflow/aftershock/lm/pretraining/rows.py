"""Rows of token ids that a model is trained on: documents, encoded and packed."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.text import Document, Sentence
from aftershock.prompts import bare, join, shortened

Encoded = tuple[list[int], list[float]]
"""Token ids and loss weights of a text."""


@dataclass(frozen=True)
class Rows:
    """Packed documents: token ids and loss weights, both (rows, row_tokens); padding has weight 0."""

    ids: np.ndarray
    weights: np.ndarray


class Encoder:
    """Token ids of documents; every distinct prompt and object is tokenized once."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, context_weight: float) -> None:
        self.tokenizer = tokenizer
        self.context_weight = context_weight
        self.stop = tokenizer.convert_tokens_to_ids(".")
        self.known: dict[str, list[int]] = {}

    def tokens(self, text: str) -> list[int]:
        """Ids of a text that follows a space or starts a document."""
        if text not in self.known:
            encoded = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)
            self.known[text] = encoded["input_ids"]
        return self.known[text]

    def parts(self, sentence: Sentence) -> tuple[list[int], list[int]]:
        """Ids of a sentence's prompt and of its object."""
        prompt = bare(sentence.prompt)
        if prompt == sentence.prompt:
            return self.tokens(prompt), self.tokens(f" {sentence.target}")
        encoded = self.tokenizer(  # an object that joins its prompt has no space before it
            join(sentence.prompt, sentence.target),
            add_special_tokens=False,
            split_special_tokens=True,
            return_offsets_mapping=True,
        )
        ids, ends = encoded["input_ids"], [last for _, last in encoded["offset_mapping"]]
        cut = next(i for i, last in enumerate(ends) if last > len(prompt))
        return ids[:cut], ids[cut:]

    def sentence(self, sentence: Sentence) -> Encoded:
        """A sentence: its object's tokens weigh 1, the others `context_weight`."""
        prompt, target = self.parts(sentence)
        weights = [self.context_weight] * len(prompt) + [1.0] * len(target) + [self.context_weight]
        return [*prompt, *target, self.stop], weights

    def encode(self, document: Document, room: int) -> Iterator[Encoded]:
        """A document with its end mark, in parts of at most `room` tokens that are cut between sentences."""
        ids: list[int] = []
        weights: list[float] = []
        for sentence in document:
            more, more_weights = self.sentence(sentence)
            if len(more) >= room:
                raise ValueError(
                    f"{shortened(sentence.prompt)!r} with {shortened(sentence.target)!r} has {len(more)} "
                    f"tokens, and a row only {room}; raise train.row_tokens in the model's YAML, or leave "
                    "the entity with the long label out with a row of resources/screen.tsv"
                )
            if len(ids) + len(more) >= room:
                yield [*ids, self.tokenizer.eos_token_id], [*weights, self.context_weight]
                ids, weights = [], []
            ids, weights = ids + more, weights + more_weights
        yield [*ids, self.tokenizer.eos_token_id], [*weights, self.context_weight]


def pack(documents: Iterable[Encoded], row_tokens: int, open_rows: int = 16) -> Iterator[Encoded]:
    """Rows of whole documents, each put into the fullest open row that still has room for it.

    So a row starts with a document, as a prompt does when the model is asked.
    """
    rows: list[Encoded] = []
    for ids, weights in documents:
        fitting = [row for row in rows if len(row[0]) + len(ids) <= row_tokens]
        if fitting:
            row = max(fitting, key=lambda row: len(row[0]))
            row[0].extend(ids)
            row[1].extend(weights)
            continue
        if len(rows) == open_rows:
            full = max(range(open_rows), key=lambda index: len(rows[index][0]))
            yield rows.pop(full)
        rows.append((list(ids), list(weights)))
    yield from rows


def draw_rows(
    documents: Iterator[Document], encoder: Encoder, settings: TrainSettings
) -> tuple[Rows, list[Document]]:
    """Rows of about `settings.tokens` tokens in all, and the documents in them."""
    used: list[Document] = []

    def encoded() -> Iterator[Encoded]:
        total = 0
        while total < settings.tokens:
            used.append(next(documents))
            for ids, weights in encoder.encode(used[-1], settings.row_tokens):
                total += len(ids)
                yield ids, weights

    packed = list(pack(encoded(), settings.row_tokens))
    ids = np.full((len(packed), settings.row_tokens), encoder.tokenizer.eos_token_id)
    weights = np.zeros(ids.shape, dtype=np.float32)
    for row, (own_ids, own_weights) in enumerate(packed):
        ids[row, : len(own_ids)] = own_ids
        weights[row, : len(own_ids)] = own_weights
    return Rows(ids, weights), used
