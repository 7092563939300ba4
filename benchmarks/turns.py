"""UltraEdit's turns: edits per second of a sequence, and the dual form of its solve against the paper's.

    python benchmarks/turns.py [--models tiny,smollm2] [--folder FOLDER] [--turns 10] [--edits 100]
                                     [--widths 6400x1600]

One process and one thread; seconds are the process's own computing time. For each model a row with the edits
per second of all turns and of the last one, each turn starting from the weights and the normaliser that the
one before left. For each width a row with the seconds of both solves of a turn's rows in float64, their
ratio, and the relative difference of the changes that they make. `smollm2` is of random weights unless FOLDER
has the model.
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

from aftershock.editors.methods import default_layers, settings_of
from aftershock.editors.ultraedit.edit import UltraEdit, solve_dual, solve_primal
from aftershock.lm.edits import EMPTY, State, compact
from aftershock.lm.model import LanguageModel
from benchmarks import models, smollm2
from benchmarks.measure import Clock, machine, parser_of, seconds

ROWS = 250  # of a turn of 100 edits: target tokens


def sequence(name: str, folder: Path | None, turns: int, edits: int) -> dict[str, Any]:
    """A row of the table: `turns` turns of `edits` requests on one model."""
    real = folder is not None and name == "smollm2"
    lm = LanguageModel.load(folder) if real else models.build(models.SIZES[name])
    texts = smollm2.texts_of(lm) if real else models.DRAWN
    layers = default_layers("ultraedit", lm.n_layers)
    editor = UltraEdit(lm, settings_of("ultraedit", {"layers": layers}))
    requests = texts.requests((turns + 1) * edits)
    editor.edit([requests[:edits]])  # the first pass of a process is slower
    state: State = EMPTY
    memory, spent = None, []
    for turn in range(1, turns + 1):
        clock = Clock("cpu")
        clock.start()
        result = editor.edit([requests[turn * edits : (turn + 1) * edits]], state, memory)
        memory, state = result.memory, compact((*state, *result.delta), tokens=edits * 10)
        clock.stop()
        spent.append(clock.total)
        if any(result.reasons):
            raise RuntimeError(f"an edit failed: {result.reasons[0]}")
    return {
        "model": f"{name} {lm.n_layers}x{lm.d_model}",
        "layers": f"{layers[0]}-{layers[-1]}" if layers else "",
        "edits": turns * edits,
        "edits_per_s": turns * edits / sum(spent),
        "last_turn_per_s": edits / spent[-1],
    }


def solves(d_in: int, d_out: int, rows: int = ROWS) -> dict[str, Any]:
    """A row of the table: both forms of the solve on random rows."""
    g = torch.Generator().manual_seed(0)
    H, V = (torch.randn(1, rows, d, generator=g, dtype=torch.float64) for d in (d_in, d_out))
    made: list[torch.Tensor] = []
    spent = [
        seconds(lambda solve=solve: made.append(solve()))
        for solve in (lambda: H.mT @ solve_dual(H, V), lambda: solve_primal(H, V))
    ]
    dual, primal = made
    return {
        "matrix": f"{d_in}x{d_out}",
        "rows": rows,
        "dual_s": spent[0],
        "primal_s": spent[1],
        "ratio": spent[1] / spent[0],
        "difference": float((dual - primal).norm() / primal.norm()),
    }


def main(arguments: Sequence[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure what the arguments name, print the tables, and return them."""
    parser = parser_of(__doc__)
    parser.add_argument("--models", default="tiny,smollm2")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--edits", type=int, default=100)
    parser.add_argument("--widths", default="6400x1600")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine("cpu"), flush=True)
    widths = [tuple(map(int, width.split("x"))) for width in args.widths.split(",") if width]
    solved = pd.DataFrame([solves(*width) for width in widths])
    print(solved.to_string(index=False), flush=True)
    names = [name for name in args.models.split(",") if name]
    made = pd.DataFrame([sequence(name, args.folder, args.turns, args.edits) for name in names])
    print(made.to_string(index=False), flush=True)
    return solved, made


if __name__ == "__main__":
    main()
