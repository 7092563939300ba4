"""Speed of training a small model, beside what this machine's float32 products allow.

A step that emulates a number type reaches a small share of the products' rate: 12 % on a processor with AVX2
only while Muon orthogonalised in bfloat16, 56 % since it does so in float32.
"""

from statistics import median
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from aftershock.lm.pretraining.fitting import fit, new_model
from aftershock.lm.pretraining.rows import Rows
from aftershock.lm.pretraining.settings import TrainSettings
from aftershock.lm.pretraining.tokenizer import train_tokenizer
from benchmarks.measure import seconds

SIDE = 512  # of the square product whose rate is the measure
ARCHITECTURE = {"n_layer": 4, "n_embd": 128, "n_head": 4, "n_positions": 128, "vocab_size": 1500}
ARCHITECTURE |= {"activation_function": "gelu_pytorch_tanh"}  # the embedded default's


def training_rate(quick: bool = False) -> dict[str, Any]:
    """Steps per second, FLOP/s of a step and of a product, and their ratio, on one thread of the CPU.

    Steps and products take turns, so that a busy machine slows both; medians of their rounds.
    """
    rounds, steps = (1, 1) if quick else (5, 3)
    settings = TrainSettings()
    model = new_model(ARCHITECTURE, train_tokenizer(["a"], 300, 128), 0)
    model.resize_token_embeddings(ARCHITECTURE["vocab_size"])
    draw = np.random.default_rng(0)
    shape = (steps * settings.batch_rows, settings.row_tokens)
    rows = Rows(draw.integers(0, ARCHITECTURE["vocab_size"], shape), np.ones(shape, dtype=np.float32))
    one, other = torch.randn(2, SIDE, SIDE)
    with FlopCounterMode(display=False) as counter:
        fit(model, rows, settings)
    flops = counter.get_total_flops() / steps
    seconds(lambda: one @ other)
    times = [
        (seconds(lambda: fit(model, rows, settings)) / steps, seconds(lambda: one @ other))
        for _ in range(rounds)
    ]
    step, product = (median(column) for column in zip(*times, strict=True))
    reached, possible = flops / step / 1e9, 2 * SIDE**3 / product / 1e9
    return {
        "what": "training",
        "steps_per_s": 1 / step,
        "step_gflops": reached,
        "product_gflops": possible,
        "share": reached / possible,
    }


def shown(row: dict[str, Any]) -> str:
    """A rate in a line."""
    return (
        f"training {row['steps_per_s']:.2f} steps/s: {row['step_gflops']:.1f} GFLOP/s, {row['share']:.0%} of "
        f"the {row['product_gflops']:.1f} GFLOP/s of a float32 product"
    )
