"""Editing of several layers: a value is optimised for the last one, and written by all of them in turn.

What MEMIT (Meng et al., 2023) and the methods after it share. Each layer changes by Delta = R X^T, where R is
a share of what the last layer's output still lacks, and X^T, (n, d_in), comes from the n keys K of the
requests. Methods differ in X: `MultiLayerEditor.adjust_keys`.

A case with several requests is one edit of all of them at once. With all true objects of one subject as its
requests this is the multi-label edit of Li et al. (2024). Its keys are equal, so that the least squares of n
requests are those of one, to the mean of the n values, with the second moments weighing lambda / n.
"""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.conflicts import name_conflicts
from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.optimised import ValueEditor
from aftershock.editors.previous_keys import PreviousKeys
from aftershock.editors.request_batch import RequestBatch, mean_by
from aftershock.lm.edits import EMPTY, Delta, LowRank, State, scatter_cases, select
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.hooks import Streams, at_subjects
from aftershock.lm.optimisation.values import Values, solve_values
from aftershock.lm.statistics.probe_keys import PROMPT, SUBJECTS
from aftershock.lm.texts.tokens import locate
from aftershock.prompts import fill
from aftershock.requests import EditRequest


@dataclass(frozen=True)
class AdjustedKeys:
    """X^T of each case, its diagnostics, and the reasons why some cases have none."""

    rows: Tensor  # (B, n, d_in), float64
    diagnostics: Mapping[str, Any]
    reasons: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerChange:
    """The change of one layer, how it came about, and why some cases have none."""

    delta: WeightDelta
    diagnostics: Mapping[str, Any]
    reasons: Mapping[int, str] = field(default_factory=dict)


class MultiLayerEditor(ValueEditor):
    """Base of methods that spread the value of the last edited layer over several layers.

    Values and residuals are of the last edited layer's output.

    Where a norm follows the MLP (Gemma 2, OLMo 2), the MLP's output is not added to it unchanged: there
    they are of the MLP's output, as in ROME. What was collected from text stays that of the unedited model,
    whatever state an edit starts from.
    """

    @abstractmethod
    def adjust_keys(self, layer: int, K: Tensor, previous: PreviousKeys) -> AdjustedKeys:
        """Return X^T of a layer for the keys K^T (B, n, d_in) of each case, and those of its earlier edits.

        Rows of zeros, which stand for failed cases and fill up those with fewer requests, stay zeros.
        """

    def change(self, layer: int, K: Tensor, R: Tensor, state: State, memory: Memory | None) -> LayerChange:
        """Return the change that writes R^T (B, n, d_out) at the keys K^T (B, n, d_in) of a layer: R X^T."""
        adjusted = self.adjust_keys(layer, K, PreviousKeys.read(memory, layer, self.lm.device))
        U, V = adjusted.rows.to(self.lm.dtype), R.to(self.lm.dtype)
        found = {"adj_k": adjusted.rows, **adjusted.diagnostics}
        return LayerChange(LowRank(self.lm.projection(layer), U, V), found, adjusted.reasons)

    def learn(
        self,
        memory: Memory | None,
        layers: Sequence[Mapping[str, Any]],
        reasons: Sequence[str | None],
        state: State,
    ) -> Memory | None:
        """Return the memory after an edit that led to `state`, from what is known of its `layers`."""
        return self._remember(memory, self._known_keys(layers, reasons))

    def remembered_keys(self, layer: int, K: Tensor) -> Tensor | None:
        """Return the form of a layer's keys K^T that later edits need, (B, n, any width); None if nothing.

        A layer's keys depend on the layers below it alone. The ones that it was solved with are therefore
        those of the edited model as well, which some released code reads again after the last layer.
        """
        return None

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return one delta per layer, of the rank of the largest case."""
        if self.multi_label == "sequential":
            return self._one_by_one(cases, state, memory)
        batch = RequestBatch.of(cases, self.multi_label, self.lm.device)
        values, unit = self._solve(batch, state)
        reasons: list[str | None] = [None] * len(cases)
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        found = zip(values.reasons, values.updates.tolist(), values.final_losses.tolist(), strict=True)
        for i, (reason, updates, loss) in zip(batch.owner[unit].tolist(), found, strict=True):
            reasons[i] = reasons[i] or reason
            steps[i] += updates
            losses[i] += loss
        of_case = torch.bincount(batch.owner[unit], minlength=len(cases)).tolist()
        losses = [loss / n for loss, n in zip(losses, of_case, strict=True)]
        delta, reasons, layers = self._spread(batch, values, unit, reasons, state, memory)
        solved = {"v0": values.init, "delta": values.delta, "z": values.target}
        solved |= {"log_p0": values.log_p0, "losses": values.losses}
        solved |= {"norm": values.norms, "skipped": values.skipped}
        solved["conflicts"] = name_conflicts(cases)
        learnt = self.learn(memory, layers, reasons, state + delta)
        return EditResult(delta, tuple(steps), tuple(losses), tuple(reasons), learnt, (solved, *layers))

    def _one_by_one(
        self, cases: Sequence[Sequence[EditRequest]], state: State, memory: Memory | None
    ) -> EditResult:
        """Write the requests of a case one at a time, each on top of those before it."""
        delta: State = EMPTY
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        reasons: list[str | None] = [None] * len(cases)
        diagnostics: tuple = ()
        now, learnt = memory, list[dict[int, Tensor]]()
        for position in range(max(map(len, cases))):
            able = [i for i, case in enumerate(cases) if position < len(case) and reasons[i] is None]
            if not able:
                break
            alone = [[cases[i][position]] for i in able]
            batch = RequestBatch.of(alone, "joint", self.lm.device)
            start = select(state + delta, able)
            values, unit = self._solve(batch, start)
            known = now and {name: tensor[able] for name, tensor in now.items()}
            change, why, layers = self._spread(batch, values, unit, values.reasons, start, known)
            delta += scatter_cases(change, able, len(cases))
            diagnostics += ({"z": values.target, "v0": values.init, "losses": values.losses}, *layers)
            learnt.append(
                {
                    layer: keys.new_zeros(len(cases), *keys.shape[1:]).index_put(
                        (torch.tensor(able, device=keys.device),), keys
                    )
                    for layer, keys in self._known_keys(layers, why).items()
                }
            )
            now = self._remember(now, learnt[-1])
            for row, i in enumerate(able):
                reasons[i] = why[row]
                steps[i] += int(values.updates[row])
                losses[i] = float(values.final_losses[row])
        broken = torch.tensor([reason is not None for reason in reasons])
        delta = tuple(change.without(broken) for change in delta)
        for keys in learnt:  # but those of cases that broke later
            sound = {layer: _without(rows, broken) for layer, rows in keys.items()}
            memory = self._remember(memory, sound)
        found = memory if learnt and learnt[0] else None
        return EditResult(delta, tuple(steps), tuple(losses), tuple(reasons), found, diagnostics)

    def _solve(self, batch: RequestBatch, state: State) -> tuple[Values, Tensor]:
        """The values of the last layer at subjects, with the keys of the first, and the unit of each.

        A value of a mixture serves all labels of one unit; else each label has a value of its own.
        """
        layers = sorted(self.settings.layers)
        labels, units = None, batch.units
        sizes = torch.tensor([len(unit) for unit in units], device=self.lm.device)
        if self.multi_label == "mixture":
            labels = [[request.target_new for request in unit] for unit in units]
            sizes = torch.ones_like(sizes)
            units = [unit[:1] for unit in units]
        unit = torch.arange(len(units), device=self.lm.device).repeat_interleave(sizes)
        requests = [request for mine in units for request in mine]
        cases = batch.owner[unit].tolist()
        objective = self.objective(layers[-1])
        found = solve_values(
            self.lm, requests, self.templates, objective, state, cases, key_layer=layers[0], labels=labels
        )
        return found, unit

    @property
    def multi_label(self) -> str:
        """The way to write several labels of one subject and prompt."""
        return self.settings.multi_label

    @property
    def site(self) -> str:
        """The last edited layer as a whole, or its MLP where a norm follows it."""
        return "mlp" if self.lm.family.mlp_norm else "layer"

    @property
    def value_layers(self) -> tuple[int, ...]:
        """The last edited layer."""
        return (max(self.settings.layers),)

    def _spread(
        self,
        batch: RequestBatch,
        values: Values,
        unit: Tensor,
        reasons: Sequence[str | None],
        state: State,
        memory: Memory | None,
    ) -> tuple[State, list[str | None], list[dict[str, Any]]]:
        """Change the layers in turn, each by a share of the current residual. Failed cases have no change."""
        layers, why = sorted(self.settings.layers), list(reasons)
        failed = torch.tensor([reason is not None for reason in why], device=self.lm.device)
        target = mean_by(values.target.double(), unit)
        delta: State = EMPTY
        diagnostics, streams = [], None
        # those of the first layer are known already
        keys, hidden = mean_by(self._mean_keys(values.keys), unit), mean_by(values.init, unit)
        for done, layer in enumerate(layers):
            if done:
                keys, hidden, streams = self._look(batch, layer, state + delta, streams)
            residual = (target - hidden.double()).masked_fill(failed[batch.owner, None], 0.0)
            share = residual / (len(layers) - done) / self.lm.mlp_scale  # in units of the MLP's output
            K, R = batch.by_case(keys, failed), batch.by_case(share, failed)
            change = self.change(layer, K, R, state + delta, memory)
            for i, reason in change.reasons.items():
                why[i] = why[i] or reason
            delta += (self.after_layer(change.delta, state + delta),)
            found = {"layer": layer, "K": K, "hidden": hidden, "residual": residual, "R": R}
            diagnostics.append({**found, **change.diagnostics})
        delta, why = sound(delta, why)
        return delta, why, diagnostics

    # --- keys -----------------------------------------------------------------------------------------------
    @cached_property
    def probe_keys(self) -> dict[int, Tensor]:
        """Keys of well-known subjects in each edited layer, read as those of an edit are, (N, d_in)."""
        return self.probe_keys_of(self.lm.projection)

    def probe_keys_of(self, projection: Callable[[int], str]) -> dict[int, Tensor]:
        """Return keys of well-known subjects at the `projection` of each edited layer, (N, d_in)."""
        cases = [[EditRequest(PROMPT, subject, subject)] for subject in SUBJECTS]  # keys have no target
        batch = RequestBatch.of(cases, "joint", self.lm.device)
        found, streams = {}, None
        for layer in sorted(self.settings.layers):
            keys, _, streams = self._look(batch, layer, EMPTY, streams, projection(layer))
            found[layer] = keys.double()
        return found

    def _known_keys(
        self, layers: Sequence[Mapping[str, Any]], reasons: Sequence[str | None]
    ) -> dict[int, Tensor]:
        """The keys of each layer as later edits need them, zeros in failed cases."""
        failed = torch.tensor([reason is not None for reason in reasons])
        known = {found["layer"]: self.remembered_keys(found["layer"], found["K"]) for found in layers}
        return {layer: _without(keys, failed) for layer, keys in known.items() if keys is not None}

    def _remember(self, memory: Memory | None, keys: Mapping[int, Tensor]) -> Memory | None:
        """The memory after an edit with these keys, by layer; None where nothing is remembered."""
        found: dict[str, Tensor] = {}
        for layer, rows in keys.items():
            found |= PreviousKeys.read(memory, layer, self.lm.device).add(rows).entries(layer)
        return found or None

    def _mean_keys(self, keys: Tensor) -> Tensor:
        """The mean over kinds of contexts of the mean within each: (N, contexts, d_in) -> (N, d_in)."""
        kinds = keys.split([len(kind) for kind in self.contexts], dim=1)
        return torch.stack([kind.mean(dim=1) for kind in kinds]).mean(dim=0)

    def _look(
        self,
        batch: RequestBatch,
        layer: int,
        state: State,
        below: Streams | None,
        projection: str | None = None,
        written: str | None = None,
    ) -> tuple[Tensor, Tensor, Streams | None]:
        """Mean keys at `layer` (N, d_in) and the last edited layer's output for the plain prompt (N, d).

        Keys are inputs of `projection`, by default the MLP's; the output is that of `written`, by default
        what values are of.

        No layer under `layer` will be edited any more: their streams are kept for the next look.
        """
        templates = self.templates
        firsts = (unit[0] for unit in batch.units)
        wanted = [(i, r.prompt, r.subject) for i, r in zip(batch.owner.tolist(), firsts, strict=True)]
        # requests of a case that share subject and prompt share their keys
        texts = list(dict.fromkeys(wanted))
        last = max(self.settings.layers)
        projection = projection or self.lm.projection(layer)
        written = written or (self.lm.mlp if self.site == "mlp" else self.lm.layer)(last)
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


def _without(keys: Tensor, failed: Tensor) -> Tensor:
    """`keys` (B, n, d) with zeros in failed cases (B,)."""
    return keys.masked_fill(failed.to(keys.device)[:, None, None], 0.0)


def sound(delta: State, reasons: Sequence[str | None]) -> tuple[State, list[str | None]]:
    """Return `delta` with zeros where it is not finite in some layer, and the `reasons` why cases failed."""
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
