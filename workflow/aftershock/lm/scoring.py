"""Log-probabilities of targets after prompts, many cases at once.

A prompt is run once for all its targets: they follow it in one row, each blind to the others.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from aftershock.lm.edits import (
    EMPTY,
    Batch,
    State,
    apply_deltas,
    first_layer,
    merge_many,
    rewrite_prompts,
)
from aftershock.lm.hooks import last_mlp_at, record_activations, start_after_layer
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.outputs import Read
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.progress import Progress
from aftershock.requests import Query

CPU_TOKENS = 4096  # tokens run together; larger batches are no faster on a CPU


@dataclass(frozen=True)
class Score:
    """Log-probabilities of a target's tokens after its prompt."""

    token_logprobs: tuple[float, ...]  # natural logarithm
    token_matches: tuple[bool, ...]  # the target's token is the likeliest one after those before it

    @property
    def argmax_match(self) -> bool:
        """Greedy decoding gives the target."""
        return all(self.token_matches)

    @property
    def logprob(self) -> float:
        """Log-probability of the whole target."""
        return math.fsum(self.token_logprobs)

    @property
    def probability(self) -> float:
        """Geometric mean of the token probabilities."""
        return math.exp(self.logprob / len(self.token_logprobs))


@dataclass(frozen=True)
class _Row:
    """A prompt in one case, and all targets to score after it."""

    prompt: tuple[int, ...]
    case: int
    targets: list[tuple[int, ...]]
    queries: list[list[int]]  # which queries ask for each target

    @property
    def width(self) -> int:
        """Tokens to run: a target's last token is predicted, never read."""
        return len(self.prompt) + sum(len(target) - 1 for target in self.targets)

    def cost(self, lm: LanguageModel, per_token: int) -> int:
        """Bytes that the row takes: what one layer makes of its tokens, and the scores of the next ones."""
        read = self.width - len(self.prompt) + 1
        return self.width * per_token + 3 * read * lm.model.config.vocab_size * max(4, lm.dtype.itemsize)


def score(
    lm: LanguageModel, queries: Sequence[Query], state: State = EMPTY, progress: Progress | None = None
) -> list[Score]:
    """The score of every query, in their order; query q runs with the weights of case `q.case` of `state`.

    ValueError names a prompt or target without tokens, and a text longer than the model's context.
    """
    return score_states(lm, queries, [state], progress)[0]


def score_states(
    lm: LanguageModel, queries: Sequence[Query], states: Sequence[State], progress: Progress | None = None
) -> list[list[Score]]:
    """The scores of the same queries in several states; what no state changes is computed once."""
    prompts, cases = [query.prompt for query in queries], [query.case for query in queries]
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)  # states by the prompts that they read
    for i, state in enumerate(states):
        alike[tuple(rewrite_prompts(lm, state, prompts, cases))].append(i)
    scores: list[list[Score]] = [[] for _ in states]
    for read, same in alike.items():
        asked = [(prompt, query.target) for query, prompt in zip(queries, read, strict=True)]
        texts = list(dict.fromkeys(asked))
        encoded = dict(zip(texts, encode_pairs(lm, texts), strict=True))
        pairs = [encoded[text] for text in asked]
        found = _score_alike(lm, pairs, cases, [states[i] for i in same], progress)
        for i, mine in zip(same, found, strict=True):
            scores[i] = mine
    return scores


def score_tokens(
    lm: LanguageModel, pairs: Sequence[Pair], state: State = EMPTY, progress: Progress | None = None
) -> list[Score]:
    """The score of each target after its prompt, both as tokens that fit the model, in case 0 of `state`.

    The tokens are run as they are: text that `state` puts before prompts has to be among them.
    """
    return _score_alike(lm, pairs, [0] * len(pairs), [state], progress)[0]


def _score_alike(
    lm: LanguageModel,
    pairs: Sequence[Pair],
    cases: Sequence[int],
    states: Sequence[State],
    progress: Progress | None,
) -> list[list[Score]]:
    """The scores of the same targets after the same prompts, pair i in case `cases[i]` of each state."""
    rows = sorted(_rows(lm, pairs, cases), key=lambda row: (row.width, row.case))
    limit = batch_limit(lm, token_bytes(lm, 1, lm.context, backward=False), CPU_TOKENS)
    per_token = token_bytes(lm, 1, max((row.width for row in rows), default=0), backward=False)
    tokens = sum(row.width for row in rows) / max(1, len({row.case for row in rows}))
    states = [merge_many(state, tokens) for state in states]
    if progress:
        progress.begin("Scoring", len(rows), "prompt")

    def run(part: range) -> list[list[list[Score]]]:
        found = list(_run(lm, rows[part.start : part.stop], states))
        if progress:
            progress.step(len(part))
        return found

    scores: list[list[Any]] = [[None] * len(pairs) for _ in states]
    for part, by_state in run_in_parts([row.cost(lm, per_token) for row in rows], limit, run, "scoring"):
        for mine, found in zip(scores, by_state, strict=True):
            for i, results in zip(part, found, strict=True):
                for asked, result in zip(rows[i].queries, results, strict=True):
                    for query in asked:
                        mine[query] = result
    return scores


def _rows(lm: LanguageModel, pairs: Sequence[Pair], cases: Sequence[int]) -> list[_Row]:
    """Pairs grouped by case and prompt; a repeated target is scored once."""
    groups: dict[tuple, dict[tuple[int, ...], list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (pair, case) in enumerate(zip(pairs, cases, strict=True)):
        groups[case, pair.prompt][pair.target].append(i)
    return [
        _Row(prompt, case, some, [asked[target] for target in some])
        for (case, prompt), asked in groups.items()
        for some in _fitting(list(asked), lm.context)
    ]


def _fitting(targets: Sequence[tuple[int, ...]], limit: int) -> list[list[tuple[int, ...]]]:
    """Targets in groups of at most `limit` tokens, so that no row grows without bound."""
    groups: list[list[tuple[int, ...]]] = [[]]
    size = 0
    for target in targets:
        if groups[-1] and size + len(target) > limit:
            groups, size = [*groups, []], 0
        groups[-1].append(target)
        size += len(target)
    return groups


@torch.no_grad()
def _run(lm: LanguageModel, rows: Sequence[_Row], states: Sequence[State]) -> Iterator[list[list[Score]]]:
    """Scores of each row's targets, in each of `states`."""
    laid = [_lay_out(row) for row in rows]
    ids, _ = lm.pad([row.ids for row in laid])
    width, k = ids.shape[1], max(len(row.read) for row in laid)
    place, part, read, valid = (
        torch.tensor([[*values, *[fill] * (size - len(values))] for values in columns], device=lm.device)
        for columns, fill, size in (
            ([row.places for row in laid], 0, width),
            ([row.parts for row in laid], -1, width),
            ([row.read for row in laid], 0, k),
            ([[True] * len(row.read) for row in laid], False, k),
        )
    )
    start = [0, *itertools.accumulate(len(row.read) for row in laid)]
    at = torch.tensor([start[i] + slot for i, row in enumerate(laid) for slot in row.slots], device=lm.device)
    tokens = torch.tensor([t for row in rows for target in row.targets for t in target], device=lm.device)
    cases, prompt_ends = (
        torch.tensor(values, device=lm.device)
        for values in ([row.case for row in rows], [len(row.prompt) - 1 for row in rows])
    )
    batch = Batch(ids, cases, prompt_ends)
    index = read[..., None].expand(-1, -1, lm.d_model)
    visible, places = None, {}  # one text a row: the model's own mask and positions
    if any(len(row.targets) > 1 for row in rows):
        visible, places = _visible(lm, part, place), {"position_ids": place}

    def run() -> Tensor:
        with lm.reduced():
            return lm.run(ids, visible, **places, use_cache=False)

    unchanged = min(first_layer(states), lm.n_layers) - 1  # the last layer that all states share
    below: Tensor | None = None
    hidden = torch.empty(0)
    if unchanged == lm.n_layers - 1:  # they differ behind the layers
        with last_mlp_at(lm, read, valid):
            hidden = run()
    elif unchanged >= 0:
        with record_activations(lm, stop=(stream := lm.layer(unchanged))) as seen:
            run()
        below = seen["out", stream]
    for state in states:
        with apply_deltas(lm, state, batch):
            if unchanged < lm.n_layers - 1:
                with start_after_layer(lm, unchanged, below), last_mlp_at(lm, read, valid, state):
                    hidden = run()
            logits = lm.logits(hidden.gather(1, index)[valid], partial(_texts_read, rows))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        found = iter(logits.log_softmax(dim=-1)[at, tokens].tolist())
        match = iter((logits.argmax(dim=-1)[at] == tokens).tolist())
        yield [[_take(found, match, len(target)) for target in row.targets] for row in rows]


def _texts_read(rows: Sequence[_Row]) -> Read:
    """The tokens behind the prompts where something is predicted, in the order of the rows' `read`."""
    owners: list[int] = []
    behind: list[tuple[int, ...]] = []
    for i, row in enumerate(rows):
        mine = [(), *(target[:size] for target in row.targets for size in range(1, len(target)))]
        owners += [i] * len(mine)
        behind += mine
    return Read(owners, behind)


def _take(found: Iterator[float], match: Iterator[bool], size: int) -> Score:
    """The next target's score."""
    return Score(tuple(itertools.islice(found, size)), tuple(itertools.islice(match, size)))


@dataclass(frozen=True)
class _Layout:
    """Arrangement of a row's tokens for one pass."""

    ids: list[int]  # the prompt, then all targets without their last tokens
    places: list[int]  # position of each token in its own text
    parts: list[int]  # 0 for the prompt, 1, 2, ... for the targets
    read: list[int]  # where something is predicted
    slots: list[int]  # for each target token in turn, the index in `read` of what predicts it


def _lay_out(row: _Row) -> _Layout:
    size = len(row.prompt)
    ids, places, parts = list(row.prompt), list(range(size)), [0] * size
    read, slots = [size - 1], []
    for number, target in enumerate(row.targets, 1):
        more = len(target) - 1
        slots += [0, *range(len(read), len(read) + more)]  # the prompt's last token predicts every first one
        read += range(len(ids), len(ids) + more)
        ids += target[:-1]
        places += range(size, size + more)
        parts += [number] * more
    return _Layout(ids, places, parts, read, slots)


def _visible(lm: LanguageModel, part: Tensor, place: Tensor) -> Tensor | dict[str, Tensor]:
    """The attention mask of rows whose tokens are of the prompt (0), a target (1, 2, ...) or padding (-1)."""
    seq = torch.arange(part.shape[1], device=part.device)
    earlier = seq[:, None] >= seq
    same = part[:, :, None] == part[:, None, :]
    return lm.attention(earlier & (same | (part[:, None, :] == 0)), place, place)
