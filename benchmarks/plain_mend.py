"""MEND's edit on the plain path: one backward pass through the whole text, dense weights changed in place."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.prompts import following
from aftershock.requests import EditRequest
from benchmarks.plain import Plain

EPSILON = 1e-7  # beside a standard deviation


@contextmanager
def mend(plain: Plain, request: EditRequest, net: Hypernetwork) -> Iterator[dict[str, Tensor]]:
    """Inside, the model is edited; the changes by module, (d_out, d_in)."""
    changes = {}
    for name, (x, delta) in _gradients(plain, request, list(net.shapes)).items():
        x, delta = _transform(net, name, x, delta)
        changes[name] = net.rate(name).detach() * delta.T @ x
    parameters = [plain.lm.model.get_submodule(name).weight for name in changes]
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for name, change in changes.items():
            plain.lm.weight(name).add_(change.to(plain.lm.dtype))
    try:
        yield changes
    finally:
        with torch.no_grad():
            for parameter, old in zip(parameters, before, strict=True):
                parameter.copy_(old)


def _gradients(plain: Plain, request: EditRequest, names: list[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return each module's input and the gradient of its output, (tokens, width), zero rows left out."""
    lm, entered, left, handles = plain.lm, {}, {}, []
    (target,) = lm.encode_targets([request.target_new])
    ids, mask = plain.read([request.text + following(request.text, request.target_new)])

    def look(name: str):
        def hook(module, args, output):
            entered[name] = args[0].detach()[0]
            if not output.requires_grad:  # nothing below is trained
                output.requires_grad_()
            output.retain_grad()
            left[name] = output

        return hook

    try:
        handles += [lm.model.get_submodule(name).register_forward_hook(look(name)) for name in names]
        log_p = plain.forward(ids, mask).log_softmax(dim=-1)
    finally:
        for handle in handles:
            handle.remove()
    tokens = torch.tensor(target, device=lm.device)
    plain.backward(-log_p[0, -1 - len(target) : -1].gather(1, tokens[:, None]).mean())
    made = {}
    for name in names:
        x, delta = entered[name], left[name].grad[0]
        kept = (x != 0).any(dim=1) & (delta != 0).any(dim=1)
        made[name] = x[kept], delta[kept]
    return made


@torch.no_grad()
def _transform(net: Hypernetwork, name: str, x: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs that the network makes of a module's inputs and gradients."""
    network, mode = net.network(name), net.modes[name]
    parts = []
    for rows, normaliser in ((x, network.x), (delta, network.delta)):
        std = (normaliser.squares / (normaliser.count - 1)).sqrt().to(rows.dtype)
        parts.append((rows - normaliser.mean.to(rows.dtype)) / (std + EPSILON))
    z = torch.cat(parts, dim=1)
    for layer in network.layers:
        before = z @ layer.v.T @ layer.u.T + layer.bias
        z = (layer.scale[mode] * before + layer.shift[mode]).clamp(min=0.0) + z
    return z[:, : x.shape[1]], z[:, x.shape[1] :]
