"""MEMIT: the value of the last edited layer, spread over several layers (Meng et al., 2023).

A case with several requests is one edit of all of them at once. With all true objects of one subject as its
requests this is the multi-label edit of Li et al. (2024): equal keys, so the change moves towards the mean.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from aftershock.editors.base import Contexts, Editor, EditResult, sample_contexts
from aftershock.editors.settings import MemitSettings
from aftershock.lm.deltas import EMPTY, LowRankDelta, State
from aftershock.lm.hooks import at_subjects
from aftershock.lm.model import LanguageModel
from aftershock.lm.moments import Moment
from aftershock.lm.tokens import locate
from aftershock.lm.values import Objective, solve_values
from aftershock.prompts import fill
from aftershock.requests import EditRequest


class Memit(Editor):
    """The second moments stay those of the unedited model, whatever state an edit starts from."""

    def __init__(
        self,
        lm: LanguageModel,
        settings: MemitSettings,
        moments: Mapping[int, Moment] | None = None,
        seed: int = 0,
        contexts: Contexts | None = None,
    ) -> None:
        if contexts is None:
            contexts = sample_contexts(lm, settings.context_openings, settings.context_lengths, seed)
        super().__init__(lm, settings, moments, seed, contexts)

    def edit(self, cases: Sequence[Sequence[EditRequest]], state: State = EMPTY) -> EditResult:
        """One delta per layer, of the rank of the largest case."""
        settings, layers = self.settings, sorted(self.settings.layers)
        requests = [request for case in cases for request in case]
        owner = torch.tensor([i for i, case in enumerate(cases) for _ in case], device=self.lm.device)
        slot = torch.tensor([j for case in cases for j in range(len(case))], device=self.lm.device)
        values = solve_values(
            self.lm,
            requests,
            [template for kind in self.contexts for template in kind],
            Objective(
                layers[-1],
                "layer",
                settings.steps,
                settings.lr,
                settings.weight_decay,
                settings.clamp,
                settings.kl_factor,
                settings.loss_layer,
            ),
            state,
            owner.tolist(),
            key_layer=layers[0],
        )
        details: list[dict] = [{"v0": values.init, "delta": values.delta, "z": values.target}]
        details[0] |= {"log_p0": values.log_p0, "losses": values.losses}
        reasons: list[str | None] = [None] * len(cases)
        for i, reason in zip(owner.tolist(), values.reasons, strict=True):
            reasons[i] = reasons[i] or reason
        failed = torch.tensor([reason is not None for reason in reasons], device=self.lm.device)

        delta: State = EMPTY
        keys, hidden = self._mean_keys(values.keys), values.init  # those of the first layer are known already
        for done, layer in enumerate(layers):
            if done:
                keys, hidden = self._look(requests, owner, layer, state + delta)
            residual = (values.target.double() - hidden.double()).masked_fill(failed[owner, None], 0.0)
            spread = residual / (len(layers) - done)
            K = keys.new_zeros(len(cases), int(slot.max()) + 1, keys.shape[1], dtype=torch.float64)
            R = K.new_zeros(*K.shape[:2], spread.shape[1])
            K[owner, slot], R[owner, slot] = keys.double().masked_fill(failed[owner, None], 0.0), spread
            adjusted = adjust(self.factor(layer), settings.mom2_weight, K)
            delta += (
                LowRankDelta(self.lm.projection(layer), adjusted.to(self.lm.dtype), R.to(self.lm.dtype)),
            )
            details.append(
                {"layer": layer, "K": K, "hidden": hidden, "residual": residual, "R": R, "adj_k": adjusted}
            )
        steps, losses = [0] * len(cases), [0.0] * len(cases)
        for i, updates, loss in zip(
            owner.tolist(), values.updates.tolist(), values.final_losses.tolist(), strict=True
        ):
            steps[i] += updates
            losses[i] += loss / len(cases[i])
        return EditResult(delta, tuple(steps), tuple(losses), tuple(reasons), tuple(details))

    def _mean_keys(self, keys: Tensor) -> Tensor:
        """The mean over kinds of contexts of the mean within each: (N, contexts, d_in) -> (N, d_in)."""
        kinds = keys.split([len(kind) for kind in self.contexts], dim=1)
        return torch.stack([kind.mean(dim=1) for kind in kinds]).mean(dim=0)

    def _look(
        self, requests: Sequence[EditRequest], owner: Tensor, layer: int, state: State
    ) -> tuple[Tensor, Tensor]:
        """Mean keys at `layer` (N, d_in) and the last edited layer's output for the plain prompt (N, d)."""
        templates = [template for kind in self.contexts for template in kind]
        seen: dict[tuple[int, str, str], int] = {}  # requests that share subject and prompt share their keys
        for i, request in zip(owner.tolist(), requests, strict=True):
            seen.setdefault((i, request.prompt, request.subject), len(seen))
        rows = locate(self.lm, [(fill(t, prompt), subject) for _, prompt, subject in seen for t in templates])
        projection, last = self.lm.projection(layer), self.lm.layer(max(self.settings.layers))
        found = at_subjects(
            self.lm,
            rows,
            state,
            [i for i, _, _ in seen for _ in templates],
            inputs=[projection],
            outputs=[last],
            stop=last,
        )
        back = [
            seen[i, request.prompt, request.subject]
            for i, request in zip(owner.tolist(), requests, strict=True)
        ]
        keys = self._mean_keys(found["in", projection].unflatten(0, (len(seen), -1)))
        return keys[back], found["out", last].unflatten(0, (len(seen), -1))[back, 0]


def adjust(factor: Tensor, weight: float, keys: Tensor) -> Tensor:
    """((weight * C + K K^T)^-1 K)^T for each case, (B, n, d_in), from the Cholesky factor of C; float64.

    `keys` are K^T, (B, n, d_in); rows of zeros stay zeros. By Woodbury's identity this is
    B (1 + K^T B)^-1 with B = (weight * C)^-1 K: one factorisation per layer serves all cases.
    """
    b, n, width = keys.shape
    solved = torch.cholesky_solve(keys.reshape(b * n, width).T, factor).T.reshape(b, n, width) / weight
    inner = torch.eye(n, dtype=keys.dtype, device=keys.device) + solved @ keys.mT
    return torch.linalg.solve(inner, solved)
