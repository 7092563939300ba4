"""Nudge: the embedding of the target's first token, added to an MLP's output at the subject.

Not a method that anybody published: the example of docs/methods.md.
"""

from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Editor, EditResult, Method
from aftershock.editors.settings import STRICT, Layers, Positive


@dataclass(frozen=True, config=STRICT)
class NudgeSettings:
    """Hyperparameters of Nudge."""

    layers: Layers = (0,)
    strength: Positive = 1.0
    """Norm of what is added, in norms of the MLP output projection's own output at the subject."""


class Nudge(Editor):
    """Each request adds a rank-one change that reads the subject's key and writes the target's embedding."""

    def edit(self, cases, state=(), memory=None):
        """Return one delta per layer, of the rank of the largest case."""
        import torch

        from aftershock.lm.edits import LowRank
        from aftershock.lm.hooks import at_subjects
        from aftershock.lm.tokens import locate

        lm, n = self.lm, len(cases)
        asked = [(i, j, request) for i, case in enumerate(cases) for j, request in enumerate(case)]
        rows = locate(lm, [(request.prompt, request.subject) for _, _, request in asked])
        first = [ids[0] for ids in lm.encode_targets([request.target_new for _, _, request in asked])]
        embedding = lm.model.get_input_embeddings().weight[first]  # (requests, d_model)
        deltas = []
        for layer in self.settings.layers:
            module = lm.projection(layer)
            owners = [i for i, _, _ in asked]
            seen, _ = at_subjects(lm, rows, (*state, *deltas), owners, inputs=[module], outputs=[module])
            key, output = seen["in", module], seen["out", module]  # (requests, d_in), (requests, d_out)
            size = self.settings.strength * output.norm(dim=1) / embedding.norm(dim=1)
            U = key.new_zeros(n, max(map(len, cases)), key.shape[1])
            V = output.new_zeros(n, U.shape[1], output.shape[1])
            for row, (i, j, _) in enumerate(asked):
                U[i, j] = key[row] / key[row].square().sum()  # maps this very key to 1
                V[i, j] = size[row] * embedding[row]
            deltas.append(LowRank(module, U, V))
        lost = [not all(bool(d.V[i].isfinite().all()) for d in deltas) for i in range(n)]
        reasons = tuple("the model's output is not finite" if broken else None for broken in lost)
        deltas = [d.without(torch.tensor(lost)) for d in deltas]
        return EditResult(tuple(deltas), (1,) * n, (0.0,) * n, reasons)


METHOD = Method(
    settings=NudgeSettings,
    editor=":Nudge",
    title="Nudge",
    source="docs/methods.md",
    changes="rank one per request at an MLP output matrix",
    layers=lambda n_layers: (n_layers // 2,),
)
