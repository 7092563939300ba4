"""Null spaces of second moments: directions of keys that text hardly uses.

AlphaEdit (Fang et al., 2025) projects by P = U U^T, where U has the eigenvectors of C whose eigenvalue is
below a threshold. The released code takes left singular vectors; of a symmetric matrix these are
eigenvectors, and a singular value is the size of an eigenvalue. The file holds all of them, so that editors
may differ in their threshold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.files.tensors import open_tensors
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import Moment, check_hashes
from aftershock.output import whole_file
from aftershock.progress import Progress

NAMED = 3
"""Eigenvalues and thresholds that an error names."""


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of one layer's second moments by size, smallest first, (d,), and eigenvectors, (d, d)."""

    values: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> "Spectrum":
        """Return the spectrum of a symmetric matrix, in float64."""
        values, vectors = torch.linalg.eigh(matrix.double())
        order = values.abs().argsort()
        return cls(values[order].abs(), vectors[:, order])

    def below(self, threshold: float, name: str = "") -> Tensor:
        """Return U, (d, r): eigenvectors with eigenvalues below `threshold`; ValueError if there are none."""
        r = int((self.values < threshold).sum())
        if not r:
            smallest = ", ".join(f"{value:.3g}" for value in self.values[:NAMED].tolist())
            places = [max(1, len(self.values) * part // (NAMED + 1)) for part in range(1, NAMED + 1)]
            choices = ", ".join(f"{float(self.values[n]):.3g} leaves {n}" for n in places)
            raise ValueError(
                f"no eigenvalue of the second moments {name} is below the threshold {threshold:g}: the "
                f"smallest are {smallest}; of {len(self.values)} directions a threshold of {choices}"
            )
        return self.vectors[:, :r]


def decompose(
    moments: Mapping[int, Moment], device: str | torch.device = "cpu", progress: Progress | None = None
) -> dict[int, Spectrum]:
    """Return the spectrum of each layer's second moments, on the CPU."""
    found, progress = {}, progress or Progress()
    progress.begin("Null spaces", len(moments), "layer")
    for layer, moment in moments.items():
        spectrum = Spectrum.of(moment.matrix.to(device))
        found[layer] = Spectrum(spectrum.values.cpu(), spectrum.vectors.float().cpu())
        progress.step()
    return found


def save_spectra(spectra: Mapping[int, Spectrum], path: str | Path, notes: Mapping[str, str]) -> None:
    """Write the spectra atomically; `notes` are the hashes of model and text."""
    tensors = {}
    for layer, spectrum in spectra.items():
        tensors[f"values.{layer}"] = spectrum.values.contiguous()
        tensors[f"vectors.{layer}"] = spectrum.vectors.contiguous()
    with whole_file(path) as part:
        save_file(tensors, part, metadata=dict(notes))


def load_artifact(
    path: str | Path, lm: LanguageModel, layers: Sequence[int] | None, weights_sha256: str
) -> dict[int, Spectrum]:
    """Return the spectra of `layers`, None for all; ValueError for a file of another model or without one."""
    with open_tensors(path) as file:
        check_hashes(path, file.metadata() or {}, {"weights_sha256": weights_sha256}, "null_space")
        names = list(file.keys())
        stored = {int(name.removeprefix("values.")) for name in names if name.startswith("values.")}
        layers = sorted(stored) if layers is None else layers
        if missing := sorted(set(layers) - stored):
            raise ValueError(
                f"{path} has no null space of layers {missing}; delete it and run again: rule null_space "
                "makes it"
            )
        return {
            layer: Spectrum(file.get_tensor(f"values.{layer}"), file.get_tensor(f"vectors.{layer}"))
            for layer in layers
        }
