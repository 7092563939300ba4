"""UltraEdit in its dual form (Gu et al., 2025, section 3; StableEdit, 2026).

The requests of a case are one turn. Sorted by decreasing length they are cut into mini-batches; of the mean
loss of each over its target tokens, every edited matrix gives rows at the positions that predict one of
these: its input h and the gradient g at its output. With h^, g^ normalised over all rows so far (see
`normaliser`),

    v = -lr |h^|^2 g^,    dW^T = (H^T H + I)^-1 H^T V = H^T (H H^T + I)^-1 V

for the rows H of raw inputs and V of values. The left form is the paper's, a system of d_in unknowns; the
right one is equal, has as many unknowns as there are rows, and leaves the change as factors.

`variant: released` has two faults of the released code. A last mini-batch that is not full has zeros in place
of its gradients before they are normalised, so that its g^ is -mu / sigma. A block of a single row has no
unbiased variance, which makes the normaliser NaN for good: the case fails, and so do all that go on from its
memory. Here such a mini-batch keeps its gradients, and such a row adds what lies between it and the mean. On
a three-layer random Llama (tests/test_ultraedit.py), the changes that seven requests make in mini-batches of
four differ by .75 of their norm between the variants. On SmolLM2, eight requests in one mini-batch of ten at
lr 3e-4 leave a mean log-probability of the targets of -1.2, and of -10.8 in the released variant.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.conflicts import name_conflicts
from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.sites import SiteEditor
from aftershock.editors.statements import draw_others
from aftershock.editors.ultraedit.normaliser import Rows, Statistics
from aftershock.editors.ultraedit.port import port_labels, port_texts
from aftershock.lm.edits import EMPTY, LowRank, State, per_token, select
from aftershock.lm.gradients import Texts, module_gradients
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.requests import EditRequest

CPU_TOKENS = 512  # tokens of mini-batches run together: more are no faster, and differ more in length


@dataclass(frozen=True)
class MiniBatch:
    """Some requests of one case, whose mean loss is differentiated."""

    number: int
    case: int
    pairs: Sequence[Pair]
    full: bool
    labels: Sequence[Sequence[int]] | None = None
    """Labels of each text in the port; None: the targets' own tokens."""

    @property
    def tokens(self) -> int:
        """Tokens that run, padded."""
        return len(self.pairs) * max(len(pair.prompt) + len(pair.target) - 1 for pair in self.pairs)

    @property
    def counted(self) -> int:
        """Tokens that the loss is the mean over."""
        if self.labels is None:
            return sum(len(pair.target) for pair in self.pairs)
        ends = [len(pair.prompt) + len(pair.target) - 1 for pair in self.pairs]
        return sum(min(end, len(row)) for end, row in zip(ends, self.labels, strict=True))


@dataclass(frozen=True)
class Collected:
    """Inputs and gradients of one matrix, in the order of the mini-batches."""

    h: Tensor  # (rows, d_in)
    g: Tensor  # (rows, d_out)
    batches: Tensor  # the mini-batch of each row, (rows,)


class UltraEdit(SiteEditor):
    """UltraEdit: a low-rank delta at each edited matrix, a rank per target token of the largest case."""

    @property
    def full(self) -> bool:
        """True if the normaliser keeps the whole covariance of gradients."""
        return self.settings.normaliser != "diagonal"

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Make one turn for each case; `steps` count its mini-batches, the memory holds the statistics."""
        name_conflicts(cases)
        n, batches = len(cases), self.mini_batches(cases)
        if self.settings.rows == "all":
            memory = None
        if memory is None and self.settings.warms_up:
            memory = self._warmed(cases)
        losses, collected = self._gradients(batches, state, n)
        owner = torch.tensor([batch.case for batch in batches], device=self.lm.device)
        reasons = self._faults(collected, losses, owner, n)
        deltas: dict[str, LowRank] = {}
        kept: dict[str, Tensor] = {}
        diagnostics: list[Mapping[str, Any]] = []
        for shape, modules in self._by_shape(collected).items():
            before = Statistics.read(memory or {}, shape, n, self.full, self.lm.device)
            rows = [
                self._rows(collected[module], owner, i * len(batches)) for i, module in enumerate(modules)
            ]
            after = before.observe(_joined(rows), biased=self.full, lone=self._lone)
            for case in (~after.M.isfinite().all(dim=1)).nonzero()[:, 0].tolist():
                reasons[case] = reasons[case] or (
                    "the normaliser is nan for good: it has seen a mini-batch of a single row, which has no "
                    "variance"
                )
            for module, mine in zip(modules, rows, strict=True):
                deltas[module] = self._solve(module, mine, after, batches, n)
                diagnostics.append({"module": module, "h": mine.h, "g": mine.g, "delta": deltas[module]})
            poisoned = torch.full((n,), self.settings.variant == "released", device=self.lm.device)
            sound = torch.tensor([reason is None for reason in reasons], device=self.lm.device)
            kept |= after.where(sound | poisoned, before).as_memory(shape)
        failed = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        return EditResult(
            tuple(_nothing_in(deltas[module], failed) for module in self.modules),
            tuple(sum(batch.case == case for batch in batches) for case in range(n)),
            tuple(_means(losses, batches, n)),
            tuple(reasons),
            kept,
            tuple(diagnostics),
        )

    def _warmed(self, cases: Sequence[Sequence[EditRequest]]) -> Memory:
        """The memory of cases that have only seen first edits of others."""
        others, count = self.artifacts["other_edits"], self.settings.warm_up
        drawn = [tuple(draw_others(others, case, count, self.seed)) for case in cases]
        if not all(drawn):
            raise ValueError("warm_up needs first edits of other cases, and there are none; set it to 0")
        if new := [some for some in dict.fromkeys(drawn) if some not in self._after_others]:
            seen = self.edit(new, EMPTY, {})
            if reason := next(filter(None, seen.reasons), None):
                raise ValueError(f"the normalisers cannot be warmed up: {reason}")
            for place, some in enumerate(new):
                self._after_others[some] = {name: t[place] for name, t in (seen.memory or {}).items()}
        found = [self._after_others[some] for some in drawn]
        return {name: torch.stack([each[name] for each in found]) for name in found[0]}

    @cached_property
    def _after_others(self) -> dict[tuple[EditRequest, ...], Memory]:
        """The memory of one case after these edits of others."""
        return {}

    def mini_batches(self, cases: Sequence[Sequence[EditRequest]]) -> list[MiniBatch]:
        """The mini-batches of every case, its longest requests first."""
        pairs = iter(encode_pairs(self.lm, [(r.text, r.target_new) for case in cases for r in case]))
        found: list[MiniBatch] = []
        size, port = self.settings.batch_size, self.settings.rows == "all"
        for number, case in enumerate(cases):
            mine = [(next(pairs), request.target_new) for request in case]
            if not port:
                mine.sort(key=lambda text: len(text[0].prompt) + len(text[0].target), reverse=True)
            for start in range(0, len(mine), size):
                part, targets = zip(*mine[start : start + size], strict=True)
                labels = port_labels(self.lm, targets) if port else None
                found.append(MiniBatch(len(found), number, part, port or len(part) == size, labels))
        return found

    @property
    def _lone(self) -> float:
        return torch.nan if self.settings.variant == "released" and not self.full else 0.0

    def _gradients(
        self, batches: Sequence[MiniBatch], state: State, n: int
    ) -> tuple[list[float], dict[str, Collected]]:
        """The loss of every mini-batch, and the rows of every module."""
        order = sorted(batches, key=lambda batch: batch.tokens)
        above = self.lm.n_layers - min(map(self.lm.layer_of, self.modules))
        longest = max(len(pair.prompt) + len(pair.target) for batch in batches for pair in batch.pairs)
        each = token_bytes(self.lm, above, longest, backward=True)

        def run(part: range) -> tuple[list[int], Tensor, dict[str, Collected]]:
            return self._part([order[i] for i in part], state, n)

        costs = [batch.tokens * each for batch in order]
        parts = [
            found
            for _, found in run_in_parts(costs, batch_limit(self.lm, each, CPU_TOKENS), run, "ultraedit")
        ]
        losses = [0.0] * len(batches)
        for numbers, found, _ in parts:
            for number, loss in zip(numbers, found.tolist(), strict=True):
                losses[number] = loss
        collected = {}
        for module in self.modules:
            rows = [part[2][module] for part in parts]
            h, g, numbers = (torch.cat([getattr(r, name) for r in rows]) for name in ("h", "g", "batches"))
            sort = numbers.argsort(stable=True)
            collected[module] = Collected(h[sort], g[sort], numbers[sort])
        return losses, collected

    def _part(
        self, batches: Sequence[MiniBatch], state: State, n: int
    ) -> tuple[list[int], Tensor, dict[str, Collected]]:
        """Numbers and losses of some mini-batches that run together, and the rows of each module."""
        cases = sorted({batch.case for batch in batches})
        place = {case: i for i, case in enumerate(cases)}
        rows = [(i, batch, pair) for i, batch in enumerate(batches) for pair in batch.pairs]
        owners = [place[batch.case] for _, batch, _ in rows], [i for i, *_ in rows]
        pairs = [pair for *_, pair in rows]
        if self.settings.rows == "all":
            labels = [row for batch in batches for row in batch.labels or ()]
            texts = port_texts(self.lm, pairs, labels, *owners)
        else:
            texts = Texts.of(self.lm, pairs, owners[0], losses=owners[1])
        mine = state if len(cases) == n else select(state, cases)
        losses, gradients = module_gradients(self.lm, texts, self.modules, mine, len(batches))
        numbers = torch.tensor([batch.number for _, batch, _ in rows], device=self.lm.device)
        numbers = numbers[:, None].expand_as(texts.valid)[texts.valid]
        last, narrow = self.lm.n_layers - 1, per_token(mine)
        found = {}
        for module, (x, g) in gradients.items():
            if not (narrow and self.lm.is_in_mlp(module, last)):  # else only these positions are computed
                x, g = _at(x, texts.read), _at(g, texts.read)
            found[module] = Collected(x[texts.valid], g[texts.valid], numbers)
        return [batch.number for batch in batches], losses, found

    def _faults(
        self, collected: Mapping[str, Collected], losses: Sequence[float], owner: Tensor, n: int
    ) -> list[str | None]:
        """Reason why each case cannot be edited: a loss, an input or a gradient is not finite."""
        reasons: list[str | None] = [None] * n
        for case, loss in zip(owner.tolist(), losses, strict=True):
            if not torch.tensor(loss).isfinite():
                reasons[case] = f"the loss of a mini-batch was {loss}"
        for found in collected.values():
            broken = ~(found.h.isfinite().all(dim=1) & found.g.isfinite().all(dim=1))
            for case in owner[found.batches[broken]].unique().tolist():
                reasons[case] = reasons[case] or "an input or a gradient of the edit was not finite"
        return reasons

    def _by_shape(self, collected: Mapping[str, Collected]) -> dict[tuple[int, int], list[str]]:
        """The modules of each shape (d_in, d_out)."""
        found: dict[tuple[int, int], list[str]] = {}
        for module, rows in collected.items():
            found.setdefault((rows.h.shape[1], rows.g.shape[1]), []).append(module)
        return found

    def _rows(self, found: Collected, owner: Tensor, first: int) -> Rows:
        """The rows of one module; its blocks are numbered from `first` on."""
        return Rows(found.h.double(), found.g.double(), owner[found.batches], found.batches + first)

    def _solve(
        self, module: str, rows: Rows, seen: Statistics, batches: Sequence[MiniBatch], n: int
    ) -> LowRank:
        """H and the solved V of every case, in as many rows as the largest has."""
        if self.settings.variant == "released":
            full = torch.tensor([batch.full for batch in batches], device=rows.g.device)
            kept = full[rows.blocks % len(batches)][:, None]
            rows = Rows(rows.h, rows.g * kept, rows.cases, rows.blocks)
        h, g = seen.normalise(rows, whiten=self.settings.normaliser == "whitened")
        values = -self.settings.lr * h.square().sum(dim=1, keepdim=True) * g
        H, V = (_padded(tensor, rows.cases, n) for tensor in (rows.h, values))
        made = solve_dual(H, V, self.settings.ridge)
        return LowRank(module, H.to(self.lm.dtype), made.to(self.lm.dtype))


def solve_dual(H: Tensor, V: Tensor, ridge: float = 1.0) -> Tensor:
    """(H H^T + ridge)^-1 V for rows H (B, r, d_in) and V (B, r, d_out); float64. Rows of zeros stay zeros."""
    one = torch.eye(H.shape[1], dtype=H.dtype, device=H.device)
    lower, _ = torch.linalg.cholesky_ex(H @ H.mT + ridge * one)
    return torch.cholesky_solve(V, lower)


def solve_primal(H: Tensor, V: Tensor, ridge: float = 1.0) -> Tensor:
    """dW^T = (H^T H + ridge)^-1 H^T V as the paper has it, (B, d_in, d_out): to compare `solve_dual` with."""
    one = torch.eye(H.shape[2], dtype=H.dtype, device=H.device)
    return torch.linalg.solve(H.mT @ H + ridge * one, H.mT @ V)


def _joined(rows: Sequence[Rows]) -> Rows:
    """The rows of several modules of one shape."""
    return Rows(*(torch.cat([getattr(r, name) for r in rows]) for name in ("h", "g", "cases", "blocks")))


def _nothing_in(delta: LowRank, failed: Tensor) -> LowRank:
    """The change with zeros where a case `failed`, in U as well: inputs may be NaN."""
    gone = failed[:, None, None]
    return LowRank(delta.module, delta.U.masked_fill(gone, 0.0), delta.V.masked_fill(gone, 0.0))


def _at(tensor: Tensor, positions: Tensor) -> Tensor:
    """`tensor` (rows, seq, width) at positions (rows, k) of each row."""
    return tensor.gather(1, positions[..., None].expand(-1, -1, tensor.shape[-1]))


def _padded(rows: Tensor, cases: Tensor, n: int) -> Tensor:
    """The rows of each case, (n, most, width), with zeros behind those of a case that has fewer."""
    return torch.nn.utils.rnn.pad_sequence([rows[cases == case] for case in range(n)], batch_first=True)


def _means(losses: Sequence[float], batches: Sequence[MiniBatch], n: int) -> Iterator[float]:
    """The mean loss of each case over all its target tokens."""
    for case in range(n):
        mine = [batch for batch in batches if batch.case == case]
        tokens = [batch.counted for batch in mine]
        yield sum(losses[b.number] * t for b, t in zip(mine, tokens, strict=True)) / sum(tokens)
