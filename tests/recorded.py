"""Recorded cases of the released code, and how far an output may be from the recorded one."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from aftershock.lm.model import LanguageModel, TargetIds
from aftershock.lm.statistics.moments import Moment
from aftershock.requests import EditRequest

CLOSED_FORM, VALUE, DELTA = 1e-5, 1e-3, 5e-4  # relative, of norms
LOSS, LOGPROB = 1e-4, 1e-3  # absolute
PROBABILITY = 1e-5  # relative
EXACT = 0.0


@dataclass(frozen=True)
class Check:
    """Difference between one output and the recorded one."""

    output: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        """True if the error is within tolerance; NaN is not."""
        return self.error <= self.tolerance


class NotCoveredError(Exception):
    """A recorded case asks for something that no implemented method does."""


def relative(found: Tensor, wanted: Tensor) -> float:
    """|found - wanted| / |wanted|."""
    found, wanted = found.double().flatten(), wanted.double().flatten()
    if found.shape != wanted.shape:
        return float("inf")
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-30))


def absolute(found: Sequence[float] | Tensor, wanted: Sequence[float] | Tensor) -> float:
    """The largest difference; infinite when the lengths differ."""
    found, wanted = torch.as_tensor(found).double(), torch.as_tensor(wanted).double()
    return float((found - wanted).abs().max()) if found.shape == wanted.shape else float("inf")


def worst(checks: Sequence[Check]) -> list[Check]:
    """One check per output: the largest error, NaN above all."""
    by_output: dict[str, Check] = {}
    for check in checks:
        old = by_output.get(check.output)
        if old is None or not check.error <= old.error:
            by_output[check.output] = check
    return list(by_output.values())


def unpadded(entry: Mapping[str, Any]) -> list[list[int]]:
    """The ids of each recorded text without its padding."""
    rows = zip(entry["input_ids"], entry["attention_mask"], strict=True)
    return [[token for token, m in zip(ids, mask, strict=True) if m] for ids, mask in rows]


@dataclass(frozen=True)
class Recorded:
    """A case folder: inputs, outputs and tensors."""

    path: Path
    root: Path
    inputs: Mapping[str, Any]
    outputs: Mapping[str, Any]
    tensors: Mapping[str, Tensor]

    @classmethod
    def read(cls, path: Path, root: Path) -> "Recorded":
        """Read a case of the collection at `root`."""
        inputs, outputs = (json.loads((path / f"{name}.json").read_text()) for name in ("inputs", "outputs"))
        tensors = path / "golden.safetensors"
        return cls(path, root, inputs, outputs, load_file(tensors) if tensors.is_file() else {})

    @property
    def lm(self) -> LanguageModel:
        """The case's model."""
        return self.load()

    def load(self, target_ids: TargetIds = "text") -> LanguageModel:
        """The case's model, with targets tokenised so."""
        return load(str(self.root / self.inputs["model"]), target_ids)

    @property
    def requests(self) -> list[EditRequest]:
        """The case's requests."""
        return [
            EditRequest(
                r["prompt"], r["subject"], r["target_new"]["str"], r.get("target_true", {}).get("str", "")
            )
            for r in self.inputs["requests"]
        ]

    @property
    def moments(self) -> dict[int, Moment]:
        """The recorded second moments of what enters the MLPs' output matrices, by layer."""
        return self.moments_of(self.lm.projection)

    def moments_of(self, projection: Callable[[int], str]) -> dict[int, Moment]:
        """The same of other matrices."""
        path = self.path / "mom2.safetensors"
        found = load_file(path) if path.is_file() else {}
        return {
            layer: Moment(found[f"mom2.{name}"], int(found[f"count.{name}"]))
            for layer in range(self.lm.n_layers)
            if f"mom2.{(name := projection(layer))}" in found
        }

    def ours(self, tensor: Tensor) -> Tensor:
        """A recorded weight, or a change of one, as (d_out, d_in)."""
        return tensor.T if self.lm.family.transposed and tensor.ndim == 2 else tensor

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors recorded under one prefix."""
        return {k.removeprefix(f"{name}."): v for k, v in self.tensors.items() if k.startswith(f"{name}.")}

    @property
    def optimisations(self) -> list[Mapping[str, Any]]:
        """The recorded value optimisations, in order."""
        return [x for x in self.inputs["intermediate"] if "target_ids" in x]

    @property
    def optimised(self) -> Iterator[tuple[dict[str, Tensor], Sequence[Mapping[str, float]]]]:
        """The tensors and the steps of each value optimisation, in order."""
        parts = [self.part(entry["name"]) for entry in self.optimisations]
        return zip(parts, self.outputs["trace"], strict=True)


def without(case: Recorded, *names: str) -> tuple[Recorded, dict[str, Any]]:
    """A case without some hyperparameters, and these."""
    hparams = dict(case.inputs["hparams"])
    taken = {name: hparams.pop(name) for name in names if name in hparams}
    return replace(case, inputs={**case.inputs, "hparams": hparams}), taken


@cache
def load(folder: str, target_ids: TargetIds) -> LanguageModel:
    """A model, loaded once."""
    return LanguageModel.load(folder, target_ids=target_ids)
