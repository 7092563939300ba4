"""The texts through which values are optimised, and the model's scores after them.

The texts of one value are the prompt after every context, each followed by a target, and ESSENCE. Tokens are
joined, not characters, so that a target is the same tokens here as where it is scored.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from aftershock.lm.edits import EMPTY, State, rewrite_prompts
from aftershock.lm.memory import token_bytes
from aftershock.lm.model import LanguageModel
from aftershock.lm.optimisation.prefix_cache import CachedPrefixes, split_at_subject
from aftershock.lm.texts.tokens import Located, locate, locate_pairs
from aftershock.prompts import fill, split
from aftershock.requests import EditRequest

ESSENCE = "{} is a"  # the continuation of this text should not change

Text = list[tuple[Located, tuple[int, ...]]]
"""Texts of one value, without their target's last token, each with its target; last ESSENCE, without one."""


def write_texts(
    lm: LanguageModel,
    requests: Sequence[EditRequest],
    contexts: Sequence[str],
    labels: Sequence[Sequence[str]] | None = None,
    state: State = EMPTY,
    cases: Sequence[int] | None = None,
) -> list[Text]:
    """The texts of each request: all contexts with its target, or with each of its `labels` in turn.

    Request i is read as in case `cases[i]` of `state`.
    """
    labels = [[request.target_new] for request in requests] if labels is None else labels
    cases = [0] * len(requests) if cases is None else cases
    asked, owners = [], []
    for request, mine, case in zip(requests, labels, cases, strict=True):
        templates = [fill(context, request.prompt) for _ in mine for context in contexts]
        each = [label for label in mine for _ in contexts]
        asked += [(t, request.subject, label) for t, label in zip(templates, each, strict=True)]
        owners += [case] * len(templates)
    before = _before(lm, state, [(template, subject) for template, subject, _ in asked], owners)
    located = iter(locate_pairs(lm, asked, before))
    subjects = list(dict.fromkeys((request.subject, c) for request, c in zip(requests, cases, strict=True)))
    essences = [(ESSENCE, subject) for subject, _ in subjects]
    found = locate(lm, essences, _before(lm, state, essences, [case for _, case in subjects]))
    essence = dict(zip(subjects, found, strict=True))
    texts = []
    for request, mine, case in zip(requests, labels, cases, strict=True):
        rows = [next(located) for _ in mine for _ in contexts]
        texts.append([*((row.then(t[:-1]), t) for row, t in rows), (essence[request.subject, case], ())])
    return texts


def _before(
    lm: LanguageModel, state: State, asked: Sequence[tuple[str, str]], cases: Sequence[int]
) -> list[str]:
    """The text that `state` puts before the prompt of each (template, subject)."""
    prompts = [fill(template, subject) for template, subject in asked]
    read = rewrite_prompts(lm, state, prompts, cases)
    return [new.removesuffix(old) for old, new in zip(prompts, read, strict=True)]


def text_bytes(lm: LanguageModel, text: Text, layer: int) -> int:
    """Approximate bytes of optimising a value through `text` above `layer`: activations, keys, scores."""
    before = max(row.subject for row, _ in text)
    after = max(len(row.ids) - row.subject for row, _ in text)
    scored = sum(len(target) for _, target in text) + 1
    layers = lm.n_layers - 1 - layer
    kept = 2 * lm.d_model * layers * before * lm.dtype.itemsize
    run = after * token_bytes(lm, layers, before + after, backward=True)
    return len(text) * (kept + run) + 4 * scored * lm.model.config.vocab_size * lm.dtype.itemsize


@dataclass(frozen=True)
class ValueProblem:
    """N values: their texts, the positions that predict the target, and v0."""

    prefixes: CachedPrefixes
    read: Tensor  # (N, R, k) suffix positions that predict something
    valid: Tensor  # (N, R, k), 0 where padded
    scored: Tensor  # (N, M + 1) positions in R * S: M that predict target tokens, then the subject of ESSENCE
    tokens: Tensor  # (N, M)
    weights: Tensor  # (N, M): 1 / (texts * target tokens), 0 where padded
    init: Tensor  # v0, (N, d); at two sites (N, 2, d), of the attention and of the MLP
    norm: Tensor  # |v0|, (N,); at two sites (N, 2)
    mlp: Tensor  # what the layer's MLP adds to v0, (N, d); v0 itself where that is the MLP's output
    contexts: int  # texts per label, the plain prompt's first

    @property
    def text(self) -> Tensor:
        """The text of each target token, (N, M)."""
        return self.scored[:, :-1] // self.prefixes.ids.shape[2]

    def probability(self, log_p: Tensor) -> Tensor:
        """exp of the mean log-probability of each text's target, averaged over texts, (N,).

        `log_p` is (N, M + 1, vocabulary), as `Objective.loss` returns it.
        """
        each = log_p[:, :-1].gather(2, self.tokens[..., None])[..., 0] * self.weights
        empty = each.new_zeros(len(each), self.prefixes.ids.shape[1])
        shares = empty.scatter_add(1, self.text, self.weights)  # 1 / texts, and 0 of ESSENCE
        means = empty.scatter_add(1, self.text, each) / shares.clamp(min=torch.finfo(each.dtype).tiny)
        return (shares * means.exp()).sum(dim=1)

    def is_said(self, log_p: Tensor, tokens: int | None = None, plain: bool = False) -> Tensor:
        """True for values whose target tokens are all the likeliest ones after every text, (N,).

        The plain prompt does not count beside others, unless `plain`. With `tokens`, true if that many are;
        then it does not count alone either.
        """
        counted = self.weights > 0
        if (self.contexts > 1 or tokens is not None) and not plain:
            counted = counted & (self.text % self.contexts > 0)
        right = ((log_p[:, :-1].argmax(dim=-1) == self.tokens) & counted).sum(dim=1)
        return right == (counted.sum(dim=1) if tokens is None else tokens)

    def take(self, keep: Tensor) -> "ValueProblem":
        """Some of the values."""
        tensors = {name: value[keep] for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, prefixes=self.prefixes.take(keep), **tensors)

    @contextmanager
    def logits(
        self,
        lm: LanguageModel,
        loss_layer: int | None,
        state: State,
        delta: Tensor,
        checkpoint: bool,
        watched: Sequence[int] = (),
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """The model's scores at the scored positions, (N, M + 1, vocabulary); see `CachedPrefixes.run`.

        Also the hidden states after each layer of `watched` at the subject of each context, (N, contexts, d).
        """
        lens = loss_layer if loss_layer is not None and loss_layer < lm.n_layers - 1 else None
        also = [lm.layer(number) for number in dict.fromkeys([*watched, *([] if lens is None else [lens])])]
        read, valid = self.read, self.valid
        if lm.n_layers - 1 in watched:  # then subjects are read there too
            new = ~((read == 0) & (valid > 0)).any(dim=2, keepdim=True)
            read = torch.cat([read, torch.zeros_like(new, dtype=read.dtype)], dim=2)
            valid = torch.cat([valid, new.to(valid.dtype)], dim=2)
        entered = self.prefixes.run(lm, state, delta, read, valid, self.scored, also, checkpoint)
        with entered as (chosen, seen):
            if lens is not None:
                index = self.scored[:, :-1, None].expand(-1, -1, chosen.shape[-1])
                early = lm.normed(seen[lm.layer(lens)].gather(1, index))
                chosen = torch.cat([early, chosen[:, -1:]], dim=1)
            texts = self.prefixes.ids.shape[1]
            streams = [seen[lm.layer(number)].unflatten(1, (texts, -1)) for number in watched]
            at_subjects = [stream[:, : self.contexts, 0] for stream in streams]
            yield lm.logits(chosen), at_subjects


def build(
    lm: LanguageModel,
    texts: Sequence[Text],
    layer: int,
    site: str,
    state: State,
    cases: Tensor,
    key_layer: int,
    contexts: Sequence[str],
) -> tuple[ValueProblem, Tensor, Tensor]:
    """The problem of `texts`, text i in case `cases[i]` of `state`, and what `key_layer` does in it.

    `contexts` are the templates that the texts were written with: what stands before a prompt is run once.
    The latter are the inputs of its projection at the subjects, (N, R - 1, d_in), and the outputs there,
    (N, R - 1, d_out).
    """
    most = max(map(len, texts))
    # a value with fewer texts repeats ESSENCE, unread
    rows = [[*text[:-1], *[text[-1]] * (most - len(text)), text[-1]] for text in texts]
    sites = {"mlp": [lm.mlp], "layer": [lm.layer], "both": [lm.attention_projection, lm.mlp]}[site]
    outputs, projection = [name(layer) for name in sites], lm.projection(key_layer)
    groups = [[row for row, _ in mine] for mine in rows]
    beginnings = [split(context)[0].rstrip() for context in contexts]
    look = [*outputs, lm.mlp(layer), projection]
    prefixes, seen = split_at_subject(lm, groups, layer, site, state, cases, look, beginnings)
    first = [seen["out", name][:, 0] for name in outputs]
    init, mlp = torch.stack(first, dim=1) if site == "both" else first[0], seen["out", lm.mlp(layer)][:, 0]
    if site == "layer":
        mlp = lm.joined(layer, mlp)
    places = _places(lm, rows, texts, prefixes.ids.shape[2])
    problem = ValueProblem(prefixes, *places, init, init.norm(dim=-1), mlp, len(contexts))
    return problem, seen["in", projection][:, :-1], seen["out", projection][:, :-1]


def _places(
    lm: LanguageModel, rows: Sequence[Text], texts: Sequence[Text], width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`read`, `valid`, `scored`, `tokens` and `weights` of a problem whose suffixes are `width` long."""
    n, r = len(rows), len(rows[0])
    k = max(len(target) for mine in rows for _, target in mine)
    m = max(sum(len(target) for _, target in mine) for mine in rows)
    read, valid = torch.zeros((n, r, k), dtype=torch.long), torch.zeros((n, r, k), dtype=lm.dtype)
    valid[:, -1, 0] = 1.0  # ESSENCE is read at its subject, where its suffix begins
    scored, tokens = torch.zeros((n, m + 1), dtype=torch.long), torch.zeros((n, m), dtype=torch.long)
    scored[:, m] = (r - 1) * width
    weights = torch.zeros((n, m), dtype=lm.dtype)
    for i, mine in enumerate(rows):
        filled = 0
        for j, (row, target) in enumerate(mine):
            # the prompt's last token predicts the first target token; the row ends with all but the last
            size = len(target)
            at = torch.arange(size) + len(row.ids) - size - row.subject
            read[i, j, :size], valid[i, j, :size] = at, valid.new_ones(size)
            some = slice(filled, filled + size)
            scored[i, some], tokens[i, some] = j * width + at, torch.tensor(target, dtype=torch.long)
            if size:
                weights[i, some] = 1.0 / size / (len(texts[i]) - 1)
            filled += size
    return tuple(tensor.to(lm.device) for tensor in (read, valid, scored, tokens, weights))
