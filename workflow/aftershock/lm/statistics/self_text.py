"""Documents that a model writes itself, for second moments where no text is at hand."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache

from aftershock.lm.model import LanguageModel
from aftershock.seeds import derive

DOCUMENTS = 40
"""Documents that are written side by side."""
DOCUMENT_TOKENS = 256
"""Tokens at which a document that goes on is cut."""
SEPARATOR = "<|endoftext|>"
"""The token of GPT-2 and many after it between documents; an instruct model's end of text ends a turn."""


def separator_of(lm: LanguageModel) -> int:
    """Return the token that a document begins after; ValueError when the tokenizer has none.

    It is the one that stands in front of every text (see `beginning`), else SEPARATOR where that is a special
    token, else the end or the beginning of text.
    """
    tokenizer = lm.tokenizer
    if lm.leading:
        return lm.leading[0]
    special = _special_tokens(lm)
    named = [SEPARATOR] if SEPARATOR in special else [tokenizer.eos_token, tokenizer.bos_token]
    for token in filter(None, named):
        return tokenizer.convert_tokens_to_ids(token)
    raise ValueError(
        "the model cannot write its own documents: its tokenizer has no token that separates documents; "
        "name a text in `moments`"
    )


def write_documents(lm: LanguageModel, seed: int, count: int = DOCUMENTS) -> Iterator[list[str]]:
    """Yield lists of up to `count` documents without end, each token drawn from the model's probabilities.

    A document ends with any special token, at DOCUMENT_TOKENS and where the model's context ends. Lists
    depend on `seed` and on their place alone; documents without text are left out. ValueError when a whole
    list has none.
    """
    start = separator_of(lm)
    ends = sorted({start, *(lm.tokenizer.convert_tokens_to_ids(token) for token in _special_tokens(lm))})
    place = 0
    while True:
        generator = torch.Generator().manual_seed(derive(seed, "documents", place))
        rows = _write(lm, start, ends, count, generator)
        texts = [text for text in map(lm.tokenizer.decode, rows) if text.strip()]
        if not texts:
            raise ValueError(
                f"the model wrote {count} documents without text after "
                f"{lm.tokenizer.convert_ids_to_tokens(start)!r}; name a text in `moments` instead of self"
            )
        yield texts
        place += 1


def _special_tokens(lm: LanguageModel) -> list[str]:
    added = lm.tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    return [token.content for token in added if token.special]


@torch.no_grad()
def _write(
    lm: LanguageModel, start: int, ends: Sequence[int], count: int, generator: torch.Generator
) -> list[list[int]]:
    """The tokens of `count` documents, without what they begin after and what they end with."""
    rows: list[list[int]] = [[] for _ in range(count)]
    writing = torch.arange(count)
    ending = torch.tensor(ends)
    cache = DynamicCache()
    fresh = torch.full((count, 1), start, device=lm.device)
    for _ in range(min(DOCUMENT_TOKENS, lm.context - 1)):
        hidden = lm.run(fresh, None, past_key_values=cache, use_cache=True)
        drawn = _draw(lm.logits(hidden[:, -1]), torch.rand(count, generator=generator)[writing])
        goes_on = ~torch.isin(drawn, ending)
        for row, token in zip(writing[goes_on].tolist(), drawn[goes_on].tolist(), strict=True):
            rows[row].append(token)
        if not goes_on.any():
            break
        if not goes_on.all():  # what has ended costs nothing more
            cache.batch_select_indices(goes_on.nonzero()[:, 0].to(lm.device))
        writing, fresh = writing[goes_on], drawn[goes_on, None].to(lm.device)
    return rows


def _draw(logits: Tensor, points: Tensor) -> Tensor:
    """The token of each row at which its cumulative probability passes a point in [0, 1), on the CPU.

    `torch.multinomial` draws as many random numbers as there are tokens, which takes longer than a layer.
    """
    reached = logits.double().softmax(dim=-1).cumsum(dim=-1)
    points = points.to(reached)[:, None] * reached[:, -1:]
    return torch.searchsorted(reached, points, right=True)[:, 0].clamp(max=logits.shape[-1] - 1).cpu()
