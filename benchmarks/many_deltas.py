"""The price of many edits: scoring a state of 1 000 deltas of rank one against one delta of rank 1 000.

    python benchmarks/many_deltas.py [--models tiny,small] [--cases 1,8] [--rounds 7]

Both states change one module by the same matrices, on a random model and in one process and thread. They take
turns, and of each the fastest round counts, so that what else runs on the machine matters little. A row for
each model and number of cases: milliseconds of both, their ratio, and the largest difference between their
log-probabilities.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

import pandas as pd
import torch

from aftershock.lm.edits import LowRank, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.requests import Query
from benchmarks import models
from benchmarks.measure import machine, parser_of, seconds

EDITS = 1000
PROMPTS = 11


def states(lm: LanguageModel, layer: int, cases: int, edits: int) -> tuple[State, State]:
    """One delta of rank `edits`, and as many of rank one: the same change."""
    d_out, d_in = lm.weight(lm.projection(layer)).shape
    g = torch.Generator().manual_seed(0)
    U, V = (torch.randn(cases, edits, width, generator=g) / width for width in (d_in, d_out))
    each = zip(U.split(1, dim=1), V.split(1, dim=1), strict=True)
    module = lm.projection(layer)
    return (LowRank(module, U, V),), tuple(LowRank(module, u.clone(), v.clone()) for u, v in each)


def measure(name: str, cases: int, rounds: int, edits: int = EDITS) -> dict[str, Any]:
    """A row of the table."""
    size = models.SIZES[name]
    lm = models.build(size)
    requests = models.requests(cases)
    queries = [
        Query(prompt, request.target_new, i)
        for i, request in enumerate(requests)
        for prompt in models.paraphrases(request, PROMPTS - 1, i)
    ]
    one, many = states(lm, size.layers["rome"][0], cases, edits)

    said = [torch.tensor([s.logprob for s in score(lm, queries, state)]) for state in (one, many)]
    turns = [[seconds(lambda s=s: score(lm, queries, s)) for s in (one, many)] for _ in range(rounds)]
    times = [min(turn) for turn in zip(*turns, strict=True)]
    return {
        "model": f"{name} {size.name}",
        "cases": cases,
        "one_ms": 1e3 * times[0],
        "many_ms": 1e3 * times[1],
        "ratio": times[1] / times[0],
        "max_dlogp": float((said[0] - said[1]).abs().max()),
    }


def main(arguments: Sequence[str] | None = None) -> pd.DataFrame:
    """Measure and print the table."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="tiny,small")
    parser.add_argument("--cases", default="1,8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--edits", type=int, default=EDITS)
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    table = pd.DataFrame(
        measure(name, int(cases), args.rounds, args.edits)
        for name in args.models.split(",")
        for cases in args.cases.split(",")
    )
    print(machine("cpu"))
    print(table.to_string(index=False, float_format="{:.4g}".format))
    return table


if __name__ == "__main__":
    main()
