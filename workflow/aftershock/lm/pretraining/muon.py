"""Muon, an optimizer for the matrices inside a network's layers, in float32 throughout.

`torch.optim.Muon` orthogonalises in bfloat16, which a CPU without instructions for it computes some twenty
times more slowly than float32.
"""

from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5
SMALLEST = 1e-7  # norm that a matrix is divided by


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Return `matrix` with all of its singular values moved close to 1, by five Newton-Schulz iterations.

    Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks": X <- aX + bAX + cAAX with
    A = XX^T, starting from X / ||X||. An iteration multiplies X by Q = aI + bA + cAA from the left, so that
    A becomes QAQ: the products are taken of the small matrices, and X is multiplied once, at the end.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T).T
    a, b, c = COEFFICIENTS
    x = matrix / matrix.norm().clamp(min=SMALLEST)
    gram = x @ x.T
    product = None  # of all Q so far
    for step in range(STEPS):
        q = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        q.diagonal().add_(a)
        product = q if product is None else q @ product
        if step < STEPS - 1:
            gram = q @ gram @ q
    return product @ x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose updates are orthogonalised, with decoupled weight decay; for matrices only.

    An update is scaled to the root mean square that AdamW's updates typically have, .2 (Liu et al. 2025,
    "Muon is scalable for LLM training", section 2.2).
    """

    def __init__(
        self,
        params: Iterable[torch.nn.Parameter],
        lr: float,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for parameter in self._parameters():
            if parameter.ndim != 2:
                raise ValueError(f"Muon trains matrices, and one parameter is {tuple(parameter.shape)}")

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self.param_groups for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Change every parameter that has a gradient."""
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            for parameter in group["params"]:
                grad = parameter.grad
                if grad is None:
                    continue
                state = self.state[parameter]
                average = state.setdefault("average", torch.zeros_like(grad)).lerp_(grad, 1 - momentum)
                update = orthogonalize(grad.lerp(average, momentum))
                parameter.mul_(1 - lr * group["weight_decay"])
                parameter.add_(update, alpha=-lr * 0.2 * max(parameter.shape) ** 0.5)
