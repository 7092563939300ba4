"""Speed of this machine in the figures of resources/devices.yaml: an entry for `aftershock plan`.

Edits and scorings of random models are timed, and what each needs is reckoned as `aftershock.budget` does.
Rates of products and of memory, and the time of a layer and of an observation, are those not below zero that
explain the times best (least squares of relative errors). Products in other precisions are timed by
themselves, and as much of that is taken to be reached as in float32.
"""

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import save_file
from scipy.optimize import nnls

from aftershock.budget.devices import GB
from aftershock.budget.edits import Editing
from aftershock.budget.work import Work, score
from aftershock.config.sizes import Sizes
from aftershock.editors.methods import method_of
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from benchmarks import models
from benchmarks.measure import Clock, machine, seconds
from benchmarks.tasks import EDITS, PROMPTS, SCORES, Edits, Scores, task

MODELS = {"cpu": ("tiny", "small"), "cuda": ("tiny", "small", "gpt2-xl")}
BATCHES, STEPS, ROUNDS = {"cpu": (1, 4), "cuda": (1, 32)}, 3, 2
METHODS = (*EDITS, "score-5")


def sizes_of(lm: LanguageModel) -> Sizes:
    """The sizes of a loaded model that is a GPT-2 or a GPT-J."""
    inner = lm.weight(lm.projection(0)).shape[1]
    tied = bool(lm.model.config.tie_word_embeddings)
    return Sizes(lm.n_layers, lm.d_model, inner, lm.model.config.vocab_size, lm.d_model, tied=tied)


def work_of(lm: LanguageModel, done: Edits | Scores, method: str, cases: int) -> Work:
    """Return the estimated work of the first `cases` cases of a task."""
    sizes = sizes_of(lm)
    if isinstance(done, Scores):
        return score(sizes, cases * PROMPTS, SCORES[method], unchanged=lm.layer_of(done.module))
    # without an early end
    exact = replace(method_of(method).method, passes=lambda settings: float(getattr(settings, "steps", 1)))
    return Editing(exact, done.settings, sizes, cases=cases).work()


def fit(rows: Sequence[tuple[Work, float]]) -> tuple[float, ...]:
    """Return operations and bytes in a second, and seconds of a layer and of an observation.

    rows: works and the seconds that they took.

    Figures are those not below zero with the least squares of relative errors. What takes no time in any row
    is taken for a millionth of the row that has most of it.
    """
    needs = np.array([[w.flops, w.bytes, w.passes, w.rows] for w, _ in rows])
    needs = needs / np.array([[seconds] for _, seconds in rows])
    scale = needs.max(axis=0).clip(min=1e-300)
    found = nnls(needs / scale, np.ones(len(rows)))[0] / scale
    slow = np.maximum(found, 1e-6 / scale)
    return 1 / slow[0], 1 / slow[1], *map(float, found[2:])


def calibrate(device: str, quick: bool = False) -> dict[str, dict[str, Any]]:
    """An entry of devices.yaml for the machine, by a name of its own."""
    names, rounds = (("stub",), 1) if quick else (MODELS[device], ROUNDS)
    rows = [row for name in names for row in _timed(name, device, rounds)]
    strict, bandwidth, layer, row = fit(rows)
    plain = _products(device, torch.float32)
    share = min(1.0, strict / plain)
    gpu = device == "cuda"
    rates = {
        "strict": strict,
        "tf32": strict,
        "bf16": strict,
        "float64": _products(device, torch.float64) * share,
    }
    if gpu:
        rates |= {
            "tf32": _products(device, torch.float32, "high") * share,
            "bf16": _products(device, torch.bfloat16) * share,
        }
    memory = torch.cuda.get_device_properties(0).total_memory if gpu else _host_memory()
    name = torch.cuda.get_device_name().lower().replace(" ", "-") if gpu else "cpu"
    figures = {
        "description": machine(device),
        "accelerator": gpu,
        "memory_gb": round(memory / GB, 1),
        "tflops": {key: _rounded(rate / 1e12) for key, rate in rates.items()},
        "bandwidth_gb_s": _rounded(bandwidth / GB),
        "pass_seconds": _rounded(layer),
        "row_seconds": _rounded(row),
        "start_seconds": _rounded(_start(device)),
        "read_gb_s": _rounded(_reading() / GB),
        "measured": True,
    }
    return {name: figures}


def _timed(name: str, device: str, rounds: int) -> list[tuple[Work, float]]:
    size = models.SIZES[name]
    lm, rows = models.build(size, device), []
    for method in METHODS:
        done = task(lm, size, method, max(BATCHES[device]), STEPS)
        for cases in BATCHES[device]:
            done.by_engine(range(cases), Clock(device), ask=False)
            found = []
            for _ in range(rounds):
                clock = Clock(device)
                done.by_engine(range(cases), clock, ask=False)
                found.append(clock.total)
            rows.append((work_of(lm, done, method, cases), float(np.median(found))))
    return rows


def _products(device: str, dtype: torch.dtype, precision: str = "highest") -> float:
    """Operations in a second of products as large as a batch of a model of middle size has them."""
    torch.set_float32_matmul_precision(precision)
    n, k = (512, 1024) if device == "cpu" else (4096, 8192)
    left, right = (torch.ones(*shape, dtype=dtype, device=device) for shape in ((n, k), (k, k)))
    fastest = _fastest(device, lambda: left @ right)
    torch.set_float32_matmul_precision("highest")
    return 2 * n * k * k / fastest


def _fastest(device: str, work: Callable[[], object]) -> float:
    return min([seconds(work, device) for _ in range(5)][1:])


def _start(device: str) -> float:
    """Seconds from nothing to a job that may load its model."""
    gpu = "torch.zeros(1, device='cuda'); " if device == "cuda" else ""
    code = f"import torch, transformers, pandas; {gpu}import transformers.modeling_utils"
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return own if device == "cpu" else time.perf_counter() - started


def _reading() -> float:
    """Bytes of weights in a second that a job checks; reading them from a disk may take longer."""
    with tempfile.TemporaryDirectory() as folder:
        save_file({"weight": torch.ones(1 << 25)}, Path(folder) / "model.safetensors")
        return 4 * (1 << 25) / seconds(lambda: sha256_of_weights(folder))


def _host_memory() -> int:
    import psutil

    return psutil.virtual_memory().total


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def write(entry: dict[str, dict[str, Any]], path: Path) -> None:
    """Write an entry where `aftershock plan` looks for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(entry, sort_keys=False))
