"""Long sequences of edits: how many a minute, what they keep, and AlphaEdit's form against the released one.

    python benchmarks/sequences.py [--model tiny] [--methods memit,alphaedit] [--edits 1000]
                                         [--batches 1,100] [--width 6400] [--rounds 3]

Each method edits a random model in a sequence, every edit on top of those before, and remembers their keys. A
row for each method and number of requests per edit: requests a minute, the share of that time that goes to
values, and the bytes of memory and state at half of the sequence and at its end. Values stop at no
probability, so that all take their full number of steps.

Then one solution of AlphaEdit for keys of `--width` entries: in the null space and as released, in turns,
with few earlier keys and with a matrix of many, which is factorised anew; and how far the two are apart. All
times are of the process's own computing, in one thread.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

import pandas as pd
import torch
from torch import Tensor

from aftershock.editors.alphaedit.edit import as_released
from aftershock.editors.methods import method_of, settings_of
from aftershock.editors.multi_layer import MultiLayerEditor
from aftershock.editors.previous_keys import SHARE
from aftershock.editors.solvers import Factor, adjust, adjust_by_ridge
from aftershock.lm.edits import EMPTY, compact
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.null_space import decompose
from benchmarks import models
from benchmarks.measure import Clock, machine, parser_of, seconds

METHODS: dict[str, dict[str, Any]] = {
    "memit": {"previous_keys": True, "mom2_weight": "auto"},
    "encore": {"mom2_weight": "auto", "ridge": "auto", "prob_cutoff": 0},
    "alphaedit": {"threshold": "auto", "l2": "auto"},
}
"""Methods that remember keys, and the settings with which they do."""
MANY_TOKENS = 1e9  # that a state is compacted for: a long sequence becomes one matrix for each weight
NULL_SHARE = 0.8  # of the directions of the solution that is timed


def make(name: str, lm: LanguageModel, size: models.Size) -> MultiLayerEditor:
    """The editor of a method with random second moments."""
    settings = settings_of(name, {"layers": list(size.layers["memit"]), **METHODS[name]})
    moments = models.moments(lm, settings.layers)
    artifacts = {"moments": moments, "null_space": decompose(moments)}
    return method_of(name).load()(lm, settings, artifacts, contexts=models.contexts("memit"))


def sequence(name: str, model: str, edits: int, batch: int) -> dict[str, Any]:
    """A row of the table of sequences."""
    size = models.SIZES[model]
    lm = models.build(size)
    editor = make(name, lm, size)
    asked = models.requests(edits)
    editor.edit([asked[:batch]])  # what is made once
    clock, state, memory = Clock("cpu"), EMPTY, None
    kept: list[tuple[int, int]] = []
    steps = 0
    for start in range(0, edits, batch):
        clock.start()
        result = editor.edit([asked[start : start + batch]], state, memory)
        state, memory = compact(state + result.delta, MANY_TOKENS), result.memory
        clock.stop()
        kept.append((size_of(memory or {}), sum(size_of(delta.tensors()) for delta in state)))
        steps += sum(result.steps)
        if result.reasons != (None,):
            raise RuntimeError(f"edit {start} failed: {result.reasons[0]}")
    half, end = kept[len(kept) // 2 - 1], kept[-1]
    return {
        "method": name,
        "model": f"{model} {size.name}",
        "batch": batch,
        "edits": edits,
        "per_minute": 60 * edits / clock.total,
        "updates_each": steps / edits,
        "memory_half_mib": half[0] / 2**20,
        "memory_mib": end[0] / 2**20,
        "state_half_mib": half[1] / 2**20,
        "state_mib": end[1] / 2**20,
    }


def size_of(tensors: Mapping[str, Tensor]) -> int:
    """Bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def reflected_basis(width: int, directions: int) -> Tensor:
    """Orthonormal columns with no zeros among them, (width, directions): those of a reflection."""
    g = torch.Generator().manual_seed(0)
    normal = torch.nn.functional.normalize(torch.randn(width, dtype=torch.float64, generator=g), dim=0)
    basis = torch.eye(width, dtype=torch.float64)[:, :directions]
    return basis.addr_(normal, normal[:directions], alpha=-2.0)


def compare(width: int, keys: int, known: int, rounds: int, ridge: float = 10.0) -> dict[str, Any]:
    """A row of AlphaEdit's two forms: `keys` keys, after `known` earlier ones."""
    basis = reflected_basis(width, int(width * NULL_SHARE))
    g = torch.Generator().manual_seed(1)
    K = torch.randn(1, keys, width, dtype=torch.float64, generator=g) * (ridge / width) ** 0.5
    earlier = torch.randn(1, known, width, dtype=torch.float64, generator=g) * (ridge / width) ** 0.5
    S = earlier.mT @ earlier if known else earlier.new_zeros(1, width, width)
    inside = earlier @ basis
    few = known <= basis.shape[1] // SHARE
    one, P = torch.eye(basis.shape[1], dtype=torch.float64), basis.float() @ basis.float().T

    def reduced() -> Tensor:
        if few:
            return adjust_by_ridge(ridge, K @ basis, inside) @ basis.T
        factor = Factor.of(ridge * one + inside[0].T @ inside[0])
        return adjust(factor, 1.0, K @ basis) @ basis.T

    def released() -> Tensor:
        return as_released(P, ridge, K, S)

    times: dict[str, list[float]] = {"reduced": [], "released": []}
    made: dict[str, Tensor] = {}
    for _ in range(rounds):
        for name, run in (("reduced", reduced), ("released", released)):
            times[name].append(seconds(lambda name=name, run=run: made.update({name: run()})))
    one, other = map(median, times.values())
    off = (made["reduced"] - made["released"]).norm() / made["reduced"].norm()
    return {
        "width": width,
        "directions": basis.shape[1],
        "keys": keys,
        "known": known,
        "reduced_s": one,
        "released_s": other,
        "ratio": other / one,
        "difference": float(off),
    }


def main(arguments: Sequence[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure and print both tables."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--methods", default="memit,alphaedit")
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--batches", default="1,100")
    parser.add_argument("--width", type=int, default=6400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine("cpu"), flush=True)
    sequences = pd.DataFrame(
        sequence(name, args.model, args.edits, int(batch))
        for name in filter(None, args.methods.split(","))
        for batch in args.batches.split(",")
    )
    print(sequences.to_string(index=False, float_format="{:.4g}".format), flush=True)
    forms = pd.DataFrame(
        compare(args.width, keys, known, args.rounds)
        for keys, known in ((1, 0), (100, args.width // 32), (100, args.width // 2))
    )
    print(forms.to_string(index=False, float_format="{:.4g}".format))
    return sequences, forms


if __name__ == "__main__":
    main()
