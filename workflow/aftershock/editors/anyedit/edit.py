"""AnyEdit as MEMIT writes it: Delta = R K^T (lambda C + K_o K_o^T + K K^T)^-1 (Jiang et al., 2025).

K are the keys of the tokens before the windows, R what the layer's output lacks there, and K_o the keys of
all other tokens of the texts, at which the output stays. With several layers each writes a share of what is
still missing, as MEMIT's. The released code edits one layer.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.anyedit.windows import Found, Text, solve_windows
from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.moment_weighted import MomentWeightedEditor
from aftershock.editors.multi_layer import sound
from aftershock.lm.edits import EMPTY, Batch, State, apply_deltas, merge_many
from aftershock.lm.hooks import BATCH_TOKENS, batches, record_activations
from aftershock.lm.memory import batch_limit, run_in_parts, token_bytes
from aftershock.lm.optimisation.values import CPU_TOKENS
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest


class AnyEdit(MomentWeightedEditor):
    """AnyEdit: one value for each window of an answer."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one delta per layer, of the rank of the case with the most windows."""
        pairs = encode_pairs(self.lm, [(r.text, r.target_new) for case in cases for r in case])
        owners = [i for i, case in enumerate(cases) for _ in case]
        size = self.settings.window
        texts = [Text.of(i, pair, size) for i, pair in zip(owners, pairs, strict=True)]
        tokens = self.settings.steps * sum(len(text.ids) for text in texts)
        state = merge_many(state, tokens / max(1, len(cases)))
        found = self._values(texts, state)
        reasons: list[str | None] = [None] * len(cases)
        steps, losses = [0] * len(cases), [list[float]() for _ in cases]
        for text, values in zip(texts, found, strict=True):
            reasons[text.case] = reasons[text.case] or values.reason
            steps[text.case] += values.steps
            losses[text.case] += values.losses
        delta, reasons, layers = self._write(texts, found, reasons, state)
        means = tuple(sum(each) / len(each) for each in losses)
        solved = {"delta": [values.deltas for values in found], "losses": [v.losses for v in found]}
        return EditResult(delta, tuple(steps), means, tuple(reasons), diagnostics=(solved, *layers))

    def _values(self, texts: Sequence[Text], state: State) -> list[Found]:
        """The values of all windows, as many texts at a time as memory holds."""
        lm, layer = self.lm, max(self.settings.layers)
        per_token = token_bytes(lm, lm.n_layers - 1 - layer, lm.context, backward=True)
        costs = [len(text.ids) * per_token for text in texts]
        order = sorted(range(len(texts)), key=costs.__getitem__)

        def solve(part: range) -> list[Found]:
            return solve_windows(lm, [texts[order[i]] for i in part], layer, self.settings, state)

        parts = run_in_parts(
            [costs[i] for i in order], batch_limit(lm, per_token, CPU_TOKENS), solve, "optimising a value"
        )
        found = dict(zip(order, (values for _, part in parts for values in part), strict=True))
        return [found[i] for i in range(len(texts))]

    def _write(
        self, texts: Sequence[Text], found: Sequence[Found], reasons: Sequence[str | None], state: State
    ) -> tuple[State, list[str | None], list[dict[str, Any]]]:
        """Change the layers in turn, each by a share of the current residual; failed cases have no change."""
        layers, last = sorted(self.settings.layers), max(self.settings.layers)
        failed = [reason is not None for reason in reasons]
        able = [not failed[text.case] for text in texts]
        texts = [text for text, ok in zip(texts, able, strict=True) if ok]
        lacking: Tensor | None = None
        delta: State = EMPTY
        diagnostics = []
        for done, layer in enumerate(layers):
            keys, others, hidden = self._read(texts, layer, last, state + delta)
            if lacking is None:
                values = [torch.stack(v.deltas) for v, ok in zip(found, able, strict=True) if ok]
                lacking = torch.cat(values).double() + hidden if values else hidden
            residual = lacking - hidden
            owners = [text.case for text in texts for _ in text.places]
            beside = [text.case for text in texts for _ in range(len(text.ids) - len(text.places))]
            share = residual / (len(layers) - done) / self.lm.mlp_scale
            K, R = (_by_case(rows, owners, len(reasons)) for rows in (keys, share))
            known = {f"keys.{layer}": _by_case(others, beside, len(reasons))}
            memory = known if self.settings.other_tokens and beside else None
            change = self.change(layer, K, R, state + delta, memory)
            delta += (self.after_layer(change.delta, state + delta),)
            diagnostics.append({"layer": layer, "K": K, "R": R, **known, **change.diagnostics})
        delta, why = sound(delta, reasons)
        return delta, why, diagnostics

    @torch.no_grad()
    def _read(
        self, texts: Sequence[Text], layer: int, last: int, state: State
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Keys of `layer` before windows and of all other tokens, and the last layer's output before windows.

        (windows, d_in), (tokens, d_in) and (windows, d), float64, in the order of the texts.
        """
        lm = self.lm
        projection, written = lm.projection(layer), (lm.mlp if self.site == "mlp" else lm.layer)(last)
        d_out, d_in = lm.weight(projection).shape
        empty = torch.zeros(0, d_in, dtype=torch.float64, device=lm.device)
        keys, others, hidden = [empty], [empty], [empty.new_zeros(0, d_out)]
        for part in batches([len(text.ids) for text in texts], BATCH_TOKENS):
            some = [texts[i] for i in part]
            ids, mask = lm.pad([text.ids for text in some])
            cases = torch.tensor([text.case for text in some], device=lm.device)
            ends = torch.tensor([text.places[0] for text in some], device=lm.device)
            with (
                apply_deltas(lm, state, Batch(ids, cases, ends)),
                record_activations(lm, [projection], [written], lm.layer(last)) as seen,
            ):
                lm.run(ids, mask, use_cache=False)
            for row, text in enumerate(some):
                rest = [place for place in range(len(text.ids)) if place not in text.places]
                mine = seen["in", projection][row].double()
                keys.append(mine[list(text.places)])
                others.append(mine[rest])
                hidden.append(seen["out", written][row, list(text.places)].double())
        return torch.cat(keys), torch.cat(others), torch.cat(hidden)


def _by_case(rows: Tensor, owners: Sequence[int], cases: int) -> Tensor:
    """`rows` (N, width), sorted by their owners, as (cases, n, width) with zeros at the end of each case."""
    sizes = {case: len(list(mine)) for case, mine in groupby(owners)}
    found = rows.new_zeros(cases, max(sizes.values(), default=1), rows.shape[1])
    start = 0
    for case, size in sizes.items():
        found[case, :size] = rows[start : start + size]
        start += size
    return found
