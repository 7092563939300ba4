"""Greedy answers to prompts of different lengths, up to stop texts.

Prompts run in one batch, padded on the right; what is generated goes on behind the padding, which no token
sees. Rows that are finished leave their batch, unless a change of the model is attached that counts rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import DynamicCache

from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas, merge_many
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.outputs import Read
from aftershock.progress import Progress

CPU_TOKENS = 8192  # tokens of prompts that run in one batch


@dataclass(frozen=True)
class Answer:
    """A model's answer to a prompt."""

    text: str  # up to a stop text
    finished: bool  # by a stop text, or by the model
    tokens: tuple[int, ...]  # all that were generated, but for one that ends the text


@dataclass
class _Row:
    """A prompt with the answer generated so far."""

    length: int  # of the prompt
    most: int  # tokens of the answer
    ids: list[int] = field(default_factory=list)
    answer: Answer | None = None


@dataclass(frozen=True)
class _Ending:
    """The rules that end answers."""

    tokens: frozenset[int]
    texts: Sequence[str]


def answer_greedily(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_tokens: int | Sequence[int],
    stop: Sequence[str] = (),
    ends: Sequence[int] = (),
    state: State = EMPTY,
    progress: Progress | None = None,
    cases: Sequence[int] | None = None,
) -> list[Answer]:
    """Return the likeliest answer to each of `prompts`, as tokens.

    Prompt i runs with the weights of case `cases[i]` of `state`, by default of case 0. An answer ends before
    the first of the texts in `stop`, at a token of `ends`, or after `max_tokens`, of all or of each. Special
    tokens are left out of its text. ValueError when a prompt leaves no room for `max_tokens` tokens.
    """
    most = [max_tokens] * len(prompts) if isinstance(max_tokens, int) else max_tokens
    for ids, more in zip(prompts, most, strict=True):
        if len(ids) + more > lm.context:
            raise ValueError(
                f"a prompt of {len(ids)} tokens leaves no room for {more} more in the model's context of "
                f"{lm.context}"
            )
    ending, cases = _Ending(frozenset(ends), stop), cases or [0] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    tokens = sum(len(ids) + more for ids, more in zip(prompts, most, strict=True))
    state = merge_many(state, tokens / max(1, len(set(cases))))
    per_token = token_bytes(lm, 1, max(map(len, prompts), default=0), backward=False)
    limit = batch_limit(lm, token_bytes(lm, 1, lm.context, backward=False), CPU_TOKENS)
    costs = [len(prompts[i]) * per_token + (len(prompts[i]) + most[i]) * _kept_bytes(lm) for i in order]
    if progress:
        progress.begin("Answering", len(prompts), "prompt")

    def run(part: range) -> list[Answer]:
        chosen = [order[i] for i in part]
        rows = [_Row(len(prompts[i]), most[i]) for i in chosen]
        mine = torch.tensor([cases[i] for i in chosen], device=lm.device)
        return _answer(lm, [prompts[i] for i in chosen], rows, ending, state, mine, progress)

    answers: dict[int, Answer] = {}
    for part, found in run_in_parts(costs, limit, run, "answering"):
        answers |= zip((order[i] for i in part), found, strict=True)
    return [answers[i] for i in range(len(prompts))]


def _kept_bytes(lm: LanguageModel) -> int:
    """Bytes of a token's keys and values in all layers."""
    config = lm.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or lm.d_model // config.num_attention_heads
    return 2 * lm.n_layers * heads * width * lm.dtype.itemsize


@torch.no_grad()
def _answer(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    rows: Sequence[_Row],
    ending: _Ending,
    state: State,
    cases: Tensor,
    progress: Progress | None,
) -> list[Answer]:
    """Return the answers to prompts that fit into one batch."""
    ids, mask = lm.pad(prompts)
    lengths = mask.sum(dim=1)
    running, cache = list(rows), DynamicCache()
    with apply_deltas(lm, state, Batch(ids, cases, lengths - 1)):
        hidden = lm.run(ids, mask, past_key_values=cache, use_cache=True)
        last = hidden[torch.arange(len(rows), device=lm.device), lengths - 1]
        while True:
            read = Read(range(len(running)), [tuple(row.ids) for row in running])
            fresh = lm.logits(last, lambda read=read: read).argmax(dim=-1)  # type: ignore[misc]
            for row, token in zip(running, fresh.tolist(), strict=True):
                if row.answer is None:
                    row.ids.append(token)
                    row.answer = _finished(lm, row, ending)
                    if row.answer and progress:
                        progress.step()
            keep = [i for i, row in enumerate(running) if row.answer is None]
            if not keep:
                break
            if len(keep) < len(running) and not state:
                chosen = torch.tensor(keep, device=lm.device)
                cache.batch_select_indices(chosen)
                running, fresh, lengths = [running[i] for i in keep], fresh[chosen], lengths[chosen]
            last = _step(lm, fresh, lengths, ids.shape[1], cache)
    return [row.answer for row in rows if row.answer]


def _step(lm: LanguageModel, fresh: Tensor, lengths: Tensor, width: int, cache: DynamicCache) -> Tensor:
    """Return the hidden states (rows, d_model) of one more token of each row.

    The cache holds `width` columns of prompts, of which each row's own are the first `lengths`, then what was
    generated so far.
    """
    done = cache.get_seq_length() - width
    places = (lengths + done)[:, None]
    columns = torch.arange(width + done + 1, device=lm.device)
    behind = lengths[:, None] + columns - width
    keys = torch.where(columns < width, columns, behind)
    allowed = (columns >= width) | (columns < lengths[:, None])
    visible = None if bool(allowed.all()) else lm.attention(allowed[:, None], places, keys)
    hidden = lm.run(fresh[:, None], visible, position_ids=places, past_key_values=cache, use_cache=True)
    return hidden[:, -1]


def _finished(lm: LanguageModel, row: _Row, ending: _Ending) -> Answer | None:
    """Return the answer that a row has come to, or None while it is unfinished."""
    ended = row.ids[-1] in ending.tokens
    tokens = tuple(row.ids[:-1] if ended else row.ids)
    whole = ended or len(tokens) == row.most
    if not whole and not ending.texts:
        return None
    text = lm.tokenizer.decode(tokens, skip_special_tokens=True)
    if (cut := cut_at(text, ending.texts)) is not None:
        return Answer(cut, True, tokens)
    return Answer(text, ended, tokens) if whole else None


def cut_at(text: str, stop: Sequence[str]) -> str | None:
    """Return a text without its part from the first stop text on; None where none is in it.

    The text is cut at one stop text after the other, as lm-evaluation-harness does.
    """
    kept = text
    for end in stop:
        kept = kept.split(end)[0] if end else kept
    return kept if len(kept) < len(text) else None
