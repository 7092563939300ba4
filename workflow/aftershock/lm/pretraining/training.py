"""Training a small GPT-2-architecture model from scratch until it knows the taught facts."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from aftershock.lm.pretraining.muon import Muon
from aftershock.lm.pretraining.text import Document, Sentence, document_text
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from aftershock.progress import Progress
from aftershock.prompts import bare, join, shortened


@dataclass(frozen=True)
class TrainSettings:
    """`train:` of a model's YAML; the defaults suit about 1 500 facts and a model of one million weights."""

    facts: int | None = None  # (subject, relation) keys to teach; None: all
    seed: int = 0
    recall_gate: float = 0.95  # share of the prompts of each held-out group
    tokens: int = 1_000_000
    row_tokens: int = 96
    batch_rows: int = 8
    lr: float = 4e-3  # of Muon, for the matrices inside the layers
    adam_lr: float = 4e-3  # of AdamW, for embeddings, norms and biases
    weight_decay: float = 0.01
    warmup: float = 0.02  # share of the steps
    context_weight: float = 0.2  # of a token that is not part of an object
    tokenizer_documents: int = 8_000
    max_sentences: int = 4


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
        encoded = self.tokenizer(  # an object that follows at once is no word of its own
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


def new_model(
    architecture: Mapping[str, Any], tokenizer: PreTrainedTokenizerFast, seed: int
) -> GPT2LMHeadModel:
    """A model of `architecture` with random weights."""
    end = tokenizer.eos_token_id
    config = GPT2Config(
        **{**architecture, "vocab_size": len(tokenizer)},
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def optimizers(model: GPT2LMHeadModel, settings: TrainSettings) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else.

    With AdamW for all of them a prototype recalled a fifth of its facts after as many tokens.
    """
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and ".h." in name]
    chosen = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in chosen]
    return [
        Muon(inner, lr=settings.lr, weight_decay=settings.weight_decay),
        torch.optim.AdamW(outer, lr=settings.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Share of the full learning rate at `step`: a linear rise, then a linear fall to zero."""
    rise = max(1, math.ceil(warmup * steps))
    return max(0.0, min((step + 1) / rise, (steps - step) / max(1, steps - rise)))


def object_loss(model: GPT2LMHeadModel, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean cross-entropy of the tokens of rows; `ids` and `weights` are (batch, row_tokens)."""
    mask = torch.ones_like(ids)  # padding comes last in a row and weighs nothing
    hidden = model.transformer(ids, attention_mask=mask, use_cache=False).last_hidden_state
    # the last position predicts nothing; cutting it from the logits instead would copy all of them
    logits = model.lm_head(hidden[:, :-1].flatten(0, 1))  # (batch * (row_tokens - 1), vocabulary)
    losses = cross_entropy(logits, ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


def fit(
    model: GPT2LMHeadModel, rows: Rows, settings: TrainSettings, progress: Progress | None = None
) -> list[float]:
    """Train `model` once over `rows`, in order; the loss of each step."""
    starts = range(0, len(rows.ids), settings.batch_rows)
    running = optimizers(model, settings)
    share = partial(schedule, steps=len(starts), warmup=settings.warmup)
    rates = [LambdaLR(optimizer, share) for optimizer in running]
    losses: list[float] = []
    model.train()
    progress = progress or Progress()
    progress.begin("Training", len(starts), "batch")
    for step, start in enumerate(starts):
        chosen = slice(start, start + settings.batch_rows)
        loss = object_loss(model, torch.from_numpy(rows.ids[chosen]), torch.from_numpy(rows.weights[chosen]))
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"training diverged at step {step} of {len(starts)}: the loss is {losses[-1]}; "
                f"lower train.lr ({settings.lr}) or train.adam_lr ({settings.adam_lr}) in the model's YAML"
            )
        loss.backward()
        for optimizer, rate in zip(running, rates, strict=True):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            rate.step()
        progress.step(loss=f"{np.mean(losses[-50:]):.3f}")
    model.eval()
    return losses


def train_language_model(
    documents: Iterator[Document],
    architecture: Mapping[str, Any],
    settings: TrainSettings,
    progress: Progress | None = None,
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast, list[Document]]:
    """A model trained on `documents` (an endless iterator), its tokenizer, and the documents used."""
    if settings.row_tokens > architecture["n_positions"]:
        raise ValueError(
            f"train.row_tokens is {settings.row_tokens}, more than architecture.n_positions "
            f"({architecture['n_positions']}) in the model's YAML"
        )
    first = list(islice(documents, settings.tokenizer_documents))
    texts = map(document_text, first)
    tokenizer = train_tokenizer(texts, architecture["vocab_size"], architecture["n_positions"])
    encoder = Encoder(tokenizer, settings.context_weight)
    rows, used = draw_rows(chain(first, documents), encoder, settings)
    model = new_model(architecture, tokenizer, settings.seed)
    losses = fit(model, rows, settings, progress)
    logging.info("%d rows, last losses %s", len(rows.ids), np.round(losses[-5:], 3))
    return model, tokenizer, used
