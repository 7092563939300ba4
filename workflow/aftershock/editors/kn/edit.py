"""KN: the neurons that express a fact are made to write another object (Dai et al., 2022).

The score of neuron i in layer l is a_i/m * sum_k dp/da_i at (k/m) a, k = 1 ... m, where a are the layer's
activations behind its nonlinearity at the prompt's last token and p is the probability of the old object
(Eq. 3). Neurons above a share of the largest score of all layers are the fact's; each one's column of the
MLP's output matrix loses lambda_1 t and gains lambda_2 t', the embeddings of the old and the new object
(section 5.1). The paper's objects are single tokens of BERT, whose input embeddings are its head: here p is
the geometric mean of an object's token probabilities, t the mean of its tokens' rows of the head. Behind
BERT's GELU no neuron is far below zero. Those behind a gate have either sign, and a negative one would write
the opposite: in gated MLPs a column is changed with the sign of its neuron after the prompt. (A small random
Qwen 3 edited in one layer: log p of the new object rises by 4.6 with the signs, and falls by 1.2 without.)

`variant: released` is EasyEdit's code:

* a is the output of the MLP's first matrix, before the nonlinearity; of a gated MLP the gate alone.
* The factors are linspace(0, 1, m): both ends, where the paper leaves out 0.
* p is the mean over the object's tokens of their probabilities, all at the prompt's end, or each behind what
  the model itself says first (setting `continued`). An object is tokenised alone, with what the tokenizer
  puts in front: on Llama the token that begins texts counts as the object's first.
* t comes from what the model says greedily, for as many tokens as the new object has: the input embeddings of
  several are subtracted once each, that of a single one twice. Those of the new object are added once each.

In a small GPT-2 that says Rome with p = .68 and Oslo with .16, an edit to Oslo changes eleven neurons either
way: p of Oslo is .70 afterwards by the paper, and .003 in the release, which takes away twice what it adds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.contexts import ContextEditor
from aftershock.editors.contract import EditResult, Memory
from aftershock.editors.kn.objects import Objects, read_objects, read_released
from aftershock.lm.attribution import attribute
from aftershock.lm.edits import EMPTY, Rows, State
from aftershock.lm.scoring import score
from aftershock.requests import EditRequest, Query


class Kn(ContextEditor):
    """KN; several requests of a case are written in turn, each on top of the ones before."""

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """Return a delta per searched layer and position in a case; the losses are those of the new objects
        afterwards."""
        n, delta = len(cases), EMPTY
        reasons: list[str | None] = [None] * n
        diagnostics = []
        for position in range(max(map(len, cases))):
            asked = {i: case[position] for i, case in enumerate(cases) if position < len(case)}
            change, found = self._write(n, asked, state + delta)
            delta += change
            diagnostics.append(found)
            for i, reason in zip(asked, found["reasons"], strict=True):
                reasons[i] = reasons[i] or reason
        losses = self._losses(cases, state + delta)
        for i, loss in enumerate(losses):
            if loss != loss:  # NaN
                reasons[i] = reasons[i] or "the edited model's probability of the object is not finite"
        failed = torch.tensor([reason is not None for reason in reasons])
        steps = tuple(self.settings.steps * len(case) for case in cases)
        delta = tuple(change.without(failed) for change in delta)
        return EditResult(delta, steps, tuple(losses), tuple(reasons), diagnostics=tuple(diagnostics))

    def _losses(self, cases: Sequence[Sequence[EditRequest]], state: State) -> list[float]:
        """Mean negative log-probability of the tokens of each case's new objects."""
        queries = [Query(r.text, r.target_new, i) for i, case in enumerate(cases) for r in case]
        found: list[list[float]] = [[] for _ in cases]
        for query, result in zip(queries, score(self.lm, queries, state), strict=True):
            found[query.case] += result.token_logprobs
        return [-sum(logprobs) / len(logprobs) for logprobs in found]

    def _write(
        self, n_cases: int, asked: Mapping[int, EditRequest], state: State
    ) -> tuple[State, dict[str, Any]]:
        """Return the change that writes request `asked[i]` in case i, and its diagnostics."""
        settings, rows = self.settings, list(asked)
        read = read_released if settings.variant == "released" else read_objects
        objects = read(self.lm, list(asked.values()), self.templates, settings, state, rows)
        scores, activations = self._scores(objects, state, rows)  # (requests, prompts, layers, neurons)
        largest = scores.amax(dim=(2, 3), keepdim=True)
        taken = scores > settings.adaptive_threshold * largest.clamp(min=0.0)
        needed = settings.p_threshold * scores.shape[1] if settings.refine else 0
        neurons = taken.sum(dim=1) > needed  # (requests, layers, neurons)
        reasons = [
            "the attribution scores are not finite"
            if not finite
            else None
            if some
            else "no neuron is found: none raises the old object's probability after enough of the prompts"
            for finite, some in zip(
                scores.isfinite().flatten(1).all(1).tolist(), neurons.flatten(1).any(1).tolist(), strict=True
            )
        ]
        lost = torch.tensor([reason is not None for reason in reasons], device=neurons.device)
        neurons &= ~lost[:, None, None]
        signs = activations[:, 0].sign()
        if settings.variant == "released" or not self.lm.family.gated:
            signs = torch.ones_like(signs)
        change = tuple(
            _rows(self.lm.projection(layer), n_cases, rows, neurons[:, i], objects.change, signs[:, i])
            for i, layer in enumerate(settings.layers)
        )
        return change, {"scores": scores, "neurons": neurons, "value": objects.change, "reasons": reasons}

    def _scores(self, objects: Objects, state: State, cases: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Attribution scores and activations by request, prompt, layer and neuron; those of a prompt's parts
        are averaged."""
        settings, released = self.settings, self.settings.variant == "released"
        factors = torch.linspace(0, 1, settings.steps + (not released), dtype=self.lm.dtype)
        owners = torch.tensor([owner for owner, _ in objects.parts], device=self.lm.device)
        n_prompts = len(objects.prompts)
        found = [
            attribute(
                self.lm,
                [saying for _, saying in objects.parts],
                state,
                [cases[owner // n_prompts] for owner, _ in objects.parts],
                layer,
                factors if released else factors[1:],
                pre_activation=released,
                together=settings.batch_size,
            )
            for layer in settings.layers
        ]
        size = len(cases) * n_prompts
        counts = torch.bincount(owners, minlength=size)[:, None, None]

        def mean(values: Sequence[Tensor]) -> Tensor:
            stacked = torch.stack(list(values), dim=1)  # (parts, layers, neurons)
            total = stacked.new_zeros(size, *stacked.shape[1:]).index_add(0, owners, stacked)
            return (total / counts).unflatten(0, (len(cases), n_prompts))

        return mean([layer.scores for layer in found]), mean([layer.activations for layer in found])


def _rows(
    module: str, n_cases: int, rows: Sequence[int], neurons: Tensor, change: Tensor, signs: Tensor
) -> Rows:
    """The change of a module that adds `change` (requests, d) for each of the `neurons` (requests, d_in).

    It is added with the neuron's sign. Request i is case `rows[i]`'s; cases are padded with zeros.
    """
    most = max(1, int(neurons.sum(dim=1).max()))
    indices = torch.zeros(n_cases, most, dtype=torch.long, device=change.device)
    values = change.new_zeros(n_cases, most, change.shape[1])
    for request, case in enumerate(rows):
        (chosen,) = neurons[request].nonzero(as_tuple=True)
        indices[case, : len(chosen)] = chosen
        values[case, : len(chosen)] = signs[request, chosen, None] * change[request]
    return Rows(module, indices, values, neurons.shape[1])
