"""MEMIT: the value of the last edited layer, spread over several layers (Meng et al., 2023).

A case with several requests is one edit of all of them at once. With all true objects of one subject as its
requests this is the multi-label edit of Li et al. (2024). Its keys are equal, so that the least squares of n
requests are those of one, to the mean of the n values, with the second moments weighing lambda / n.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contexts import ContextEditor
from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.memit import PROBE_SHARE
from aftershock.editors.solvers import adjust, rounding
from aftershock.lm.edits import EMPTY, Delta, LowRank, State, scatter_cases, select
from aftershock.lm.hooks import Streams, at_subjects
from aftershock.lm.probe_keys import PROMPT, SUBJECTS
from aftershock.lm.tokens import locate
from aftershock.lm.values import Objective, Values, solve_values
from aftershock.prompts import fill
from aftershock.requests import EditRequest


class Memit(ContextEditor):
    """The second moments stay those of the unedited model, whatever state an edit starts from.

    Values and residuals are of the last edited layer's output. Where a norm follows the MLP (Gemma 2,
    OLMo 2), nothing that the MLP puts out adds to it as it is: there they are of the MLP's output, as in
    ROME.
    """

    @cached_property
    def mom2_weights(self) -> dict[int, float]:
        """The weight of the second moments in each layer."""
        layers, weight = sorted(self.settings.layers), self.settings.mom2_weight
        return self._probe(layers) if weight == "auto" else dict.fromkeys(layers, weight)

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """lambda by layer, where it is measured."""
        return {"mom2_weight": self.mom2_weights} if self.settings.mom2_weight == "auto" else {}

    def _probe(self, layers: Sequence[int]) -> dict[int, float]:
        """PROBE_SHARE of the median k^T C^-1 k of the probe set's keys, read as those of an edit are."""
        cases = [[EditRequest(PROMPT, subject, subject)] for subject in SUBJECTS]  # keys know no target
        asked = _Asked.of(cases, "joint", self.lm.device)
        found, streams = {}, None
        for layer in layers:
            keys, _, streams = self._look(asked, layer, EMPTY, streams)
            keys = keys.double()
            scale = float((keys * self.factor(layer).solve(keys)).sum(dim=1).median())
            if not 0 < scale < math.inf:
                raise ValueError(
                    f"mom2_weight: auto cannot be measured: k^T C^-1 k at layer {layer} is {scale}; take "
                    "second moments of more text, or give a number"
                )
            found[layer] = PROBE_SHARE * scale
        return found

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """One delta per layer, of the rank of the largest case."""
        if self.settings.multi_label == "sequential":
            return self._one_by_one(cases, state)
        asked = _Asked.of(cases, self.settings.multi_label, self.lm.device)
        values, unit = self._solve(asked, state)
        reasons: list[str | None] = [None] * len(cases)
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        found = zip(values.reasons, values.updates.tolist(), values.final_losses.tolist(), strict=True)
        for i, (reason, updates, loss) in zip(asked.owner[unit].tolist(), found, strict=True):
            reasons[i] = reasons[i] or reason
            steps[i] += updates
            losses[i] += loss
        of_case = torch.bincount(asked.owner[unit], minlength=len(cases)).tolist()
        losses = [loss / n for loss, n in zip(losses, of_case, strict=True)]
        failed = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        delta, diagnostics = self._spread(asked, values, unit, failed, state)
        delta, reasons = _sound(delta, reasons)
        solved = {"v0": values.init, "delta": values.delta, "z": values.target}
        solved |= {"log_p0": values.log_p0, "losses": values.losses}
        return EditResult(
            delta, tuple(steps), tuple(losses), tuple(reasons), diagnostics=(solved, *diagnostics)
        )

    def _one_by_one(self, cases: Sequence[Sequence[EditRequest]], state: State) -> EditResult:
        """Each request of a case by itself, on top of those before it."""
        delta: State = EMPTY
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        reasons: list[str | None] = [None] * len(cases)
        diagnostics: tuple = ()
        for position in range(max(map(len, cases))):
            able = [i for i, case in enumerate(cases) if position < len(case) and reasons[i] is None]
            if not able:
                break
            alone = [[cases[i][position]] for i in able]
            asked = _Asked.of(alone, "joint", self.lm.device)
            start = select(state + delta, able)
            values, unit = self._solve(asked, start)
            failed = torch.tensor([r is not None for r in values.reasons], device=self.lm.device)
            change, found = self._spread(asked, values, unit, failed, start)
            change, why = _sound(change, values.reasons)
            delta += scatter_cases(change, able, len(cases))
            diagnostics += ({"z": values.target, "v0": values.init, "losses": values.losses}, *found)
            for row, i in enumerate(able):
                reasons[i] = why[row]
                steps[i] += int(values.updates[row])
                losses[i] = float(values.final_losses[row])
        broken = torch.tensor([reason is not None for reason in reasons])
        delta = tuple(change.without(broken) for change in delta)
        return EditResult(delta, tuple(steps), tuple(losses), tuple(reasons), diagnostics=diagnostics)

    def _solve(self, asked: "_Asked", state: State) -> tuple[Values, Tensor]:
        """What the last layer should put out at subjects, with the keys of the first, and whose each is.

        A value of a mixture serves all labels of one unit; else each label has a value of its own.
        """
        settings, layers = self.settings, sorted(self.settings.layers)
        objective = Objective(
            layers[-1],
            self._site,
            settings.steps,
            settings.lr,
            settings.weight_decay,
            settings.clamp,
            settings.kl_factor,
            settings.loss_layer,
        )
        contexts = self.templates
        labels, units = None, asked.units
        sizes = torch.tensor([len(unit) for unit in units], device=self.lm.device)
        if settings.multi_label == "mixture":
            labels = [[request.target_new for request in unit] for unit in units]
            sizes = torch.ones_like(sizes)
            units = [unit[:1] for unit in units]
        unit = torch.arange(len(units), device=self.lm.device).repeat_interleave(sizes)
        requests = [request for mine in units for request in mine]
        cases = asked.owner[unit].tolist()
        found = solve_values(
            self.lm, requests, contexts, objective, state, cases, key_layer=layers[0], labels=labels
        )
        return found, unit

    @property
    def _site(self) -> str:
        return "mlp" if self.lm.family.mlp_norm else "layer"

    def _spread(
        self, asked: "_Asked", values: Values, unit: Tensor, failed: Tensor, state: State
    ) -> tuple[State, list[dict[str, Any]]]:
        """The change of each layer in turn: a share of what is then missing, nothing in `failed` cases."""
        layers, owner, slot = sorted(self.settings.layers), asked.owner, asked.slot
        lost, weight = failed[owner, None], asked.weight.sqrt()[:, None]
        target = _mean_by(values.target.double(), unit)
        delta: State = ()
        diagnostics, streams = [], None
        # those of the first layer are known already
        keys, hidden = _mean_by(self._mean_keys(values.keys), unit), _mean_by(values.init, unit)
        for done, layer in enumerate(layers):
            if done:
                keys, hidden, streams = self._look(asked, layer, state + delta, streams)
            residual = (target - hidden.double()).masked_fill(lost, 0.0)
            spread = residual / (len(layers) - done) / self.lm.mlp_scale  # of what the MLP is to put out
            K = keys.new_zeros(len(failed), int(slot.max()) + 1, keys.shape[1], dtype=torch.float64)
            R = K.new_zeros(*K.shape[:2], spread.shape[1])
            K[owner, slot], R[owner, slot] = keys.double().masked_fill(lost, 0.0) * weight, spread * weight
            factor, mom2_weight = self.factor(layer), self.mom2_weights[layer]
            adjusted = adjust(factor, mom2_weight, K)
            U, V = adjusted.to(self.lm.dtype), R.to(self.lm.dtype)
            change = LowRank(self.lm.projection(layer), U, V)
            delta += (self.after_layer(change, state + delta),)
            found = {
                "layer": layer,
                "K": K,
                "hidden": hidden,
                "residual": residual,
                "R": R,
                "adj_k": adjusted,
            }
            found |= {"rank": factor.rank, "mom2_weight": mom2_weight}
            found |= {"condition": factor.condition, "method": factor.method}
            found["rounding"] = rounding(factor, mom2_weight, K, adjusted, self.lm.dtype)
            diagnostics.append(found)
        return delta, diagnostics

    def _mean_keys(self, keys: Tensor) -> Tensor:
        """The mean over kinds of contexts of the mean within each: (N, contexts, d_in) -> (N, d_in)."""
        kinds = keys.split([len(kind) for kind in self.contexts], dim=1)
        return torch.stack([kind.mean(dim=1) for kind in kinds]).mean(dim=0)

    def _look(
        self, asked: "_Asked", layer: int, state: State, below: Streams | None
    ) -> tuple[Tensor, Tensor, Streams | None]:
        """Mean keys at `layer` (N, d_in) and the last edited layer's output for the plain prompt (N, d).

        No layer under `layer` will be edited any more: their streams are kept for the next look.
        """
        templates = self.templates
        wanted = [
            (i, r.prompt, r.subject)
            for i, r in zip(asked.owner.tolist(), (unit[0] for unit in asked.units), strict=True)
        ]
        texts = list(
            dict.fromkeys(wanted)
        )  # requests of a case that share subject and prompt share their keys
        last = max(self.settings.layers)
        projection = self.lm.projection(layer)
        written = {"mlp": self.lm.mlp, "layer": self.lm.layer}[self._site](last)
        found, streams = at_subjects(
            self.lm,
            locate(self.lm, [(fill(t, prompt), subject) for _, prompt, subject in texts for t in templates]),
            state,
            [i for i, _, _ in texts for _ in templates],
            inputs=[projection],
            outputs=[written],
            stop=self.lm.layer(last),
            below=below,
            keep=layer - 1,
        )
        keys, hidden = (
            found[key].unflatten(0, (len(texts), -1)) for key in (("in", projection), ("out", written))
        )
        back = [texts.index(text) for text in wanted]
        return self._mean_keys(keys)[back], hidden[back, 0], streams


@dataclass(frozen=True)
class _Asked:
    """What all cases ask for, in N units: the requests of a unit are one row of a case's least squares."""

    units: list[list[EditRequest]]
    owner: Tensor  # (N,), the case of each unit
    slot: Tensor  # (N,), its place in that case
    weight: Tensor  # (N,), how many rows it counts for, float64

    @classmethod
    def of(cls, cases: Sequence[Sequence[EditRequest]], multi_label: str, device: torch.device) -> "_Asked":
        """Each request by itself if "joint", else as one those of a case that share prompt and subject."""
        units: list[list[EditRequest]] = []
        owner, slot = [], list[int]()
        for i, case in enumerate(cases):
            mine: dict[object, list[EditRequest]] = {}
            for j, request in enumerate(case):
                mine.setdefault(
                    j if multi_label == "joint" else (request.prompt, request.subject), []
                ).append(request)
            units += mine.values()
            owner += [i] * len(mine)
            slot += range(len(mine))
        weight = [float(len(unit)) if multi_label == "mean_scaled" else 1.0 for unit in units]
        return cls(
            units,
            torch.tensor(owner, device=device),
            torch.tensor(slot, device=device),
            torch.tensor(weight, device=device, dtype=torch.float64),
        )


def _mean_by(rows: Tensor, unit: Tensor) -> Tensor:
    """The mean of the rows of each unit, (n, width) -> (units, width)."""
    if len(unit) == int(unit[-1]) + 1:
        return rows
    total = rows.new_zeros(int(unit[-1]) + 1, rows.shape[1]).index_add(0, unit, rows)
    return total / torch.bincount(unit)[:, None]


def _sound(delta: State, reasons: Sequence[str | None]) -> tuple[State, list[str | None]]:
    """`delta` with zeros where it is not finite in some layer, and the `reasons` why cases failed."""
    found = list(reasons)
    for d in delta:
        finite = torch.stack([t.flatten(1).isfinite().all(dim=1) for t in d.tensors().values()]).all(dim=0)
        for i in (~finite).nonzero()[:, 0].tolist():
            module = getattr(d, "module", d.name)
            found[i] = found[i] or f"the update of {module} is not finite: its equations have no solution"
    failed = torch.tensor([reason is not None for reason in found])
    return tuple(_cleared(change, failed) for change in delta), found


def _cleared(change: Delta, failed: Tensor) -> Delta:
    """`change` with zeros in the `failed` cases, also where a factor is not finite there."""
    if isinstance(change, LowRank):
        change = replace(change, U=change.U.masked_fill(failed.to(change.U.device)[:, None, None], 0.0))
    return change.without(failed)
