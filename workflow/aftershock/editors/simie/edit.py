"""SimIE: a one-shot editor's changes of the unedited weights, added up by recursive least squares (2025).

For edit t the base method edits the unedited model, as if there were no earlier edit, which gives W~_t. With
K_t the inputs of an edited matrix at all tokens of the edit's texts and targets, in the unedited model too,

    P_t = P_{t-1} + K_t K_t^T,  P_0 = lambda 1
    W_t = W_{t-1} + (W~_t - W_{t-1}) K_t K_t^T P_t^-1

so that W_t minimises lambda |W - W_0|^2 + sum_t |(W - W~_t) K_t|^2. The change is of the rank of K_t.

lambda = 1e4, as released, suits models whose keys are large: on a GPT-2 of four layers whose edits were
recorded it leaves almost nothing of three edits, where lambda = 1 writes them.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from aftershock.editors.changes import change_of, times
from aftershock.editors.contract import Contexts, Editor, EditResult, Memory
from aftershock.editors.multi_layer import sound
from aftershock.editors.multi_layer_settings import PROBE_SHARE
from aftershock.editors.previous_keys import PreviousKeys, SummedFactors, adjust_beside
from aftershock.editors.solvers import adjust_by_ridge
from aftershock.lm.edits import EMPTY, LowRank, State
from aftershock.lm.edits.state import in_weights
from aftershock.lm.hooks import BATCH_TOKENS, batches, record_activations
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.probe_keys import probe_keys
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.requests import EditRequest


class SimIe(Editor):
    """The base method's editor, and a least-squares problem for each layer."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: Any,
        artifacts: Mapping[str, Any] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        super().__init__(lm, settings, artifacts, seed, contexts)
        self.base = settings.method.make(lm, settings.edited_by, artifacts, seed, contexts)
        if beyond := sorted({*self.base.changed_modules} - {*self.changed_modules}):
            raise ValueError(
                f"simie.base: {settings.base} changes {', '.join(beyond)}, and only MLP output matrices "
                "can be added up; set base_settings so that it changes no others"
            )

    @cached_property
    def ridges(self) -> dict[int, float]:
        """lambda by layer; measured, a share of the median squared norm of the probe keys."""
        layers = sorted(set(self.settings.layers))
        if self.settings.ridge != "auto":
            return dict.fromkeys(layers, self.settings.ridge)
        found = probe_keys(self.lm, layers)
        return {
            layer: PROBE_SHARE * float(k.double().square().sum(dim=1).median()) for layer, k in found.items()
        }

    @property
    def measured(self) -> dict[str, dict[int, float]]:
        """lambda by layer where it is measured; the base method's own settings are not listed."""
        return {"ridge": self.ridges} if self.settings.ridge == "auto" else {}

    def edit(
        self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY, memory: Memory | None = None
    ) -> EditResult:
        """One delta per layer; steps and losses are those of the base method."""
        result = self.base.edit(cases)
        for change in result.delta:
            if not in_weights(change) or change.bias is not None:
                raise ValueError(
                    f"simie.base: {self.settings.base} changes more than matrices: {change.name}"
                )
        failed = torch.tensor([reason is not None for reason in result.reasons], device=self.lm.device)
        delta: State = EMPTY
        found: list[dict[str, Any]] = []
        for layer, keys in self.keys(cases).items():
            K, module = keys.masked_fill(failed[:, None, None], 0.0), self.lm.projection(layer)
            aim, before = change_of(module, result.delta), change_of(module, state)
            lacking = K.new_zeros(*K.shape[:2], self.lm.weight(module).shape[0])
            lacking = lacking if aim is None else times(aim, K)
            lacking = lacking if before is None else lacking - times(before, K)
            rows = self._adjust(layer, K, PreviousKeys.read(memory, layer, self.lm.device))
            delta += (LowRank(module, rows.to(self.lm.dtype), lacking.to(self.lm.dtype)),)
            found.append({"layer": layer, "K": K, "base": aim, "ridge": self.ridges[layer]})
        delta, reasons = sound(delta, result.reasons)
        broken = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)
        learnt: dict[str, Tensor] = {}
        for known in found:
            rows = known["K"].masked_fill(broken[:, None, None], 0.0)
            kept = PreviousKeys.read(memory, known["layer"], self.lm.device).add(rows)
            learnt |= kept.entries(known["layer"])
        return EditResult(delta, result.steps, result.losses, tuple(reasons), learnt, tuple(found))

    @torch.no_grad()
    def keys(self, cases: Sequence[Sequence[EditRequest]]) -> dict[int, Tensor]:
        """Return the inputs of each layer's matrix at all tokens of a case, (B, tokens, d_in) float64.

        Those of the unedited model; rows of zeros fill up cases of fewer tokens.
        """
        layers = sorted(set(self.settings.layers))
        names = {layer: self.lm.projection(layer) for layer in layers}
        pairs = encode_pairs(self.lm, [(r.text, r.target_new) for case in cases for r in case])
        texts = [[*pair.prompt, *pair.target] for pair in pairs]
        owner = [i for i, case in enumerate(cases) for _ in case]
        found: dict[int, list[list[Tensor]]] = {layer: [[] for _ in cases] for layer in layers}
        for part in batches([len(text) for text in texts], BATCH_TOKENS):
            ids, mask = self.lm.pad([texts[i] for i in part])
            with record_activations(self.lm, list(names.values()), stop=names[layers[-1]]) as seen:
                self.lm.run(ids, mask, use_cache=False)
            for layer, name in names.items():
                for i, rows in zip(part, seen["in", name], strict=True):
                    found[layer][owner[i]].append(rows[: len(texts[i])].double())
        return {
            layer: torch.nn.utils.rnn.pad_sequence([torch.cat(rows) for rows in mine], batch_first=True)
            for layer, mine in found.items()
        }

    def _adjust(self, layer: int, K: Tensor, previous: PreviousKeys) -> Tensor:
        """((lambda 1 + S + K K^T)^-1 K)^T of each case, (B, tokens, d_in)."""
        if previous.matrix is None:
            return adjust_by_ridge(self.ridges[layer], K, previous.keys)
        return adjust_beside(self._summed.of(layer, previous.matrix), K, previous.keys)

    @cached_property
    def _summed(self) -> SummedFactors:
        """Factors of lambda 1 + S."""
        return SummedFactors(
            lambda layer: (
                self.ridges[layer]
                * torch.eye(self.lm.weight(self.lm.projection(layer)).shape[1], dtype=torch.float64).to(
                    self.lm.device
                )
            )
        )
