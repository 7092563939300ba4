"""Gradient step: one step of gradient descent on the edit, at the MLP output matrices of some layers.

The example of docs/methods.md, and the simplest method that writes anything.
"""

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Editor, EditResult, Method
from aftershock.editors.settings import STRICT, Layers, Positive


@dataclass(frozen=True, config=STRICT)
class GradientStepSettings:
    """Hyperparameters of a gradient step."""

    layers: Layers = (0,)
    rate: Positive = 1.0
    """Factor on the gradient of the target's mean negative log-probability."""


class GradientStep(Editor):
    """The change -rate * sum of g x^T over a case's tokens, x and g being inputs and output gradients."""

    def edit(self, cases, state=(), memory=None):
        """Return one delta per layer, of the rank of the case with the most tokens."""
        import torch

        from aftershock.lm.edits import LowRank
        from aftershock.lm.gradients import Texts, module_gradients
        from aftershock.lm.texts.tokens import encode_pairs

        lm, n = self.lm, len(cases)
        requests = [(i, request) for i, case in enumerate(cases) for request in case]
        pairs = encode_pairs(lm, [(request.text, request.target_new) for _, request in requests])
        texts = Texts.of(lm, pairs, [i for i, _ in requests])
        modules = [lm.projection(layer) for layer in self.settings.layers]
        losses, gradients = module_gradients(lm, texts, modules, state, n)
        broken = ~losses.isfinite()  # (n,)
        deltas = []
        for module in modules:
            x, g = gradients[module]  # (requests, tokens, d_in) and (requests, tokens, d_out)
            U, V = (
                [rows[texts.cases == i].flatten(0, 1) for i in range(n)]
                for rows in (x, -self.settings.rate * g)
            )
            U, V = (torch.nn.utils.rnn.pad_sequence(rows, batch_first=True) for rows in (U, V))
            U, V = (rows.nan_to_num() for rows in (U, V))
            deltas.append(LowRank(module, U, V).without(broken))
        reasons = tuple("the loss was not finite" if b else None for b in broken.tolist())
        return EditResult(tuple(deltas), (1,) * n, tuple(losses.tolist()), reasons)


METHOD = Method(
    settings=GradientStepSettings,
    editor=":GradientStep",
    title="Gradient step",
    source="docs/methods.md",
    changes="rank of the number of tokens at MLP output matrices",
    layers=lambda n_layers: (n_layers // 2,),
    example={"rate": 0.5},
)
