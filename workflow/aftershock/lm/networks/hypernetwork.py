"""MEND's hypernetwork: maps fine-tuning gradients of a matrix to an edit (Mitchell et al., 2022).

The gradient of a loss at a matrix is a sum of products x delta^T, one for each token. The network turns every
normalised pair (x, delta) into another; their products, times a learned rate of the matrix, are the edit:

    z = [(x - mean) / std; (delta - mean) / std]
    z <- max(scale_m * (U V z + b) + shift_m, 0) + z        n_hidden + 1 times
    W <- W + rate * sum over tokens of delta~ x~^T          [x~; delta~] = z

Matrices of one shape share a network; scale and shift belong to the matrix. As in the released code the last
layer is rectified like the others, and the sign of the edit is the network's to learn.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from aftershock.lm.edits import LowRank
from aftershock.lm.files.tensors import open_tensors
from aftershock.lm.gradients import Gradients
from aftershock.lm.model import LanguageModel
from aftershock.output import whole_file

EPSILON = 1e-7  # beside the standard deviation (released code)
FEWEST = 2  # rows that a standard deviation needs


class TooFewTokensError(ValueError):
    """A standard deviation was needed before enough tokens had been seen."""


class Normaliser(nn.Module):
    """Running mean and standard deviation of rows, over all that were ever observed; kept in float64."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.count: Tensor
        self.mean: Tensor
        self.squares: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer(
            "squares", torch.zeros(width, dtype=torch.float64)
        )  # squared distances from the mean

    def observe(self, rows: Tensor) -> None:
        """Add `rows` (N, width): equal to Welford's update by one row after the other (Chan et al.)."""
        if not len(rows):
            return
        rows = rows.double()
        count, mean = self.count + len(rows), rows.mean(dim=0)
        distance = mean - self.mean
        self.squares = (
            self.squares
            + (rows - mean).square().sum(dim=0)
            + distance.square() * self.count * len(rows) / count
        )
        self.mean = self.mean + distance * len(rows) / count
        self.count = count

    def forward(self, rows: Tensor) -> Tensor:
        """Rows in standard deviations from the mean."""
        std = (self.squares / (self.count - 1)).sqrt()
        return (rows - self.mean.to(rows.dtype)) / (std.to(rows.dtype) + EPSILON)


class _Layer(nn.Module):
    """A residual layer of low rank, with a scale and a shift for each of `modes` matrices."""

    def __init__(self, width: int, rank: int, modes: int, random: torch.Generator) -> None:
        super().__init__()
        self.u = nn.Parameter(torch.zeros(width, min(rank, width)))  # zeros: the identity, to begin with
        self.v = nn.Parameter(torch.randn(min(rank, width), width, generator=random))
        self.bias = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(modes, width))
        self.shift = nn.Parameter(torch.zeros(modes, width))

    def forward(self, rows: Tensor, mode: int) -> Tensor:
        before = (rows @ self.v.T) @ self.u.T + self.bias
        # A clamp passes gradients at zero, where everything begins; a relu would not.
        return (before * self.scale[mode] + self.shift[mode]).clamp(min=0.0) + rows


class _Network(nn.Module):
    """Normaliser and layers shared by the matrices of one shape."""

    def __init__(
        self, shape: tuple[int, int], rank: int, n_hidden: int, modes: int, random: torch.Generator
    ) -> None:
        super().__init__()
        self.x, self.delta = Normaliser(shape[0]), Normaliser(shape[1])
        self.layers = nn.ModuleList(_Layer(sum(shape), rank, modes, random) for _ in range(n_hidden + 1))

    def forward(self, x: Tensor, delta: Tensor, mode: int) -> tuple[Tensor, Tensor]:
        rows = torch.cat([self.x(x), self.delta(delta)], dim=1)
        for layer in self.layers:
            rows = layer(rows, mode)
        return rows[:, : x.shape[1]], rows[:, x.shape[1] :]


class Hypernetwork(nn.Module):
    """Networks, normalisers and learned rates for the matrices `shapes`: module -> (d_in, d_out), in order.

    A rate belongs to the matrix of its name. (The released wrapper counts matrices in the model's order, but
    the file has them in the configuration's, so that for GPT-2 XL the two rates of a layer are exchanged.)
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, int]],
        rank: int = 1920,
        n_hidden: int = 1,
        edit_lr: float = 1e-4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.shapes = {name: (n_in, n_out) for name, (n_in, n_out) in shapes.items()}
        self.rank, self.n_hidden = rank, n_hidden
        random = torch.Generator().manual_seed(seed)
        groups: dict[tuple[int, int], list[str]] = {}
        for name, shape in self.shapes.items():
            groups.setdefault(shape, []).append(name)
        self.modes = {name: mode for names in groups.values() for mode, name in enumerate(names)}
        self.networks = nn.ModuleDict(
            {
                _key(shape): _Network(shape, rank, n_hidden, len(names), random)
                for shape, names in groups.items()
            }
        )
        self.rates = nn.Parameter(torch.full((len(self.shapes),), edit_lr))

    @classmethod
    def of(cls, lm: LanguageModel, layers: Sequence[int], **options: Any) -> "Hypernetwork":
        """Make a network for the first and last matrices of the MLPs of `layers`."""
        shapes = {name: tuple(reversed(lm.weight(name).shape)) for name in matrices(lm, layers)}
        return _cast(cls(shapes, **options), torch.promote_types(lm.dtype, torch.float32)).to(lm.device)

    def network(self, module: str) -> _Network:
        """The network that a module shares with those of its shape."""
        return self.networks[_key(self.shapes[module])]

    def rate(self, module: str) -> Tensor:
        """The learned rate of a module."""
        return self.rates[list(self.shapes).index(module)]

    def statistics(self) -> dict[str, Tensor]:
        """Return copies of the normalisers' statistics, each (1, ...), by name."""
        return {name: buffer[None].clone() for name, buffer in self.named_buffers()}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Set the normalisers' statistics to those of this network in `statistics`."""
        for name, buffer in self.named_buffers():
            buffer.copy_(statistics[name][0])

    def forward(
        self, gradients: Gradients, cases: Tensor, n_cases: int, observe: bool = False, scale: float = 1.0
    ) -> tuple[LowRank, ...]:
        """The edit of every case: deltas whose rank is the largest number of tokens of any case.

        `cases` (rows,) is ascending. A token counts where neither x nor delta is all zeros. With `observe`
        the normalisers see the tokens of a matrix before these are normalised, as in training.
        """
        state = []
        for module in self.shapes:
            x, delta = (tensor.to(self.rates.dtype) for tensor in gradients[module])
            kept = (x != 0).any(dim=-1) & (delta != 0).any(dim=-1)  # (rows, positions)
            owner = cases[:, None].expand(kept.shape)[kept]
            x, delta = x[kept], delta[kept]
            network = self.network(module)
            if observe:
                network.x.observe(x)
                network.delta.observe(delta)
            if network.x.count < FEWEST:
                seen = int(network.x.count)
                raise TooFewTokensError(f"{module}: nothing can be normalised after {seen} tokens")
            x, delta = network(x, delta, self.modes[module])
            counts = torch.bincount(owner, minlength=n_cases)
            slot = torch.arange(len(owner), device=owner.device) - (counts.cumsum(0) - counts)[owner]
            most = max(1, int(counts.max()))
            U, V = (
                rows.new_zeros(n_cases, most, rows.shape[1]).index_put((owner, slot), rows)
                for rows in (x, delta * (scale * self.rate(module)))
            )
            state.append(LowRank(module, U, V))
        return tuple(state)

    def nothing(self, n_cases: int) -> tuple[LowRank, ...]:
        """Deltas that change nothing."""
        return tuple(
            LowRank(name, *(self.rates.new_zeros(n_cases, 1, width) for width in shape))
            for name, shape in self.shapes.items()
        )


def matrices(lm: LanguageModel, layers: Sequence[int]) -> list[str]:
    """The modules that MEND edits: first and last matrices of each layer's MLP, from the lowest layer on."""
    names = (*lm.family.inputs, lm.family.projection)
    return [name.format(layer) for layer in sorted(layers) for name in names]


def save_hypernetwork(
    net: Hypernetwork, path: str | Path, weights_sha256: str, about: Mapping[str, Any]
) -> None:
    """Write `net` atomically, with the hash of its model and the metadata `about` it."""
    metadata = {
        "weights_sha256": weights_sha256,
        "shapes": json.dumps(net.shapes),
        "rank": str(net.rank),
        "n_hidden": str(net.n_hidden),
        "about": json.dumps(about, sort_keys=True, default=str),
    }
    with whole_file(path) as part:
        save_file(
            {name: t.contiguous().cpu() for name, t in net.state_dict().items()}, part, metadata=metadata
        )


def load_hypernetwork(path: str | Path, lm: LanguageModel, weights_sha256: str) -> Hypernetwork:
    """The hypernetwork of a file; ValueError when it was made for other weights than the model's."""
    with open_tensors(path) as file:
        found = file.metadata() or {}
        if found.get("weights_sha256") != weights_sha256:
            raise ValueError(
                f"{path} was trained for a model with weights_sha256 {found.get('weights_sha256')}, not "
                f"{weights_sha256}; delete it and run again: rule train_mend makes it"
            )
        net = Hypernetwork(json.loads(found["shapes"]), int(found["rank"]), int(found["n_hidden"]))
        net = _cast(net, torch.promote_types(lm.dtype, torch.float32))
        net.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    return net.to(lm.device).requires_grad_(False)


def load_artifact(
    path: str | Path, lm: LanguageModel, layers: Sequence[int] | None, weights_sha256: str
) -> Hypernetwork:
    """Return a trained hypernetwork, which edits the layers that it was trained for."""
    return load_hypernetwork(path, lm, weights_sha256)


def _cast(net: Hypernetwork, dtype: torch.dtype) -> Hypernetwork:
    for parameter in net.parameters():
        parameter.data = parameter.data.to(dtype)
    return net


def _key(shape: tuple[int, int]) -> str:
    return f"{shape[0]}x{shape[1]}"
