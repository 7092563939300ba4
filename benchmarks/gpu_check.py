"""Ten minutes of a GPU: is everything right on it, how fast is it, and what do its lower precisions change?

    python benchmarks/gpu_check.py [--device cuda|cpu] [--quick] [--folder FOLDER] [--minutes 9]

First edits and scorings of small float64 models of three families: the engine, many cases at once, against
the plain path, and the unedited model against the processor. Then SmolLM2 (in `--folder`, else random weights
of its size) and random models of GPT2-XL's and GPT-J's sizes: cases per second, TFLOP/s and peak memory of
ROME, MEMIT, FT and scoring in every precision, as many cases together as fit; and the difference that a
precision makes to the probability of what was written, in points, accepted up to half a point.

Each line of the table is printed and written to results/gpu-check/ as soon as it is known. What fails is a
line with its message, and what there is no time left for is a line that says so. No network is needed.
"""

import argparse
import copy
import gc
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

import pandas as pd
import torch

from aftershock.lm.memory import NOT_KEPT
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.metrics.precision import compare_precisions
from aftershock.requests import Query
from benchmarks import models, smollm2
from benchmarks.measure import Clock, cost, machine, parser_of
from benchmarks.tasks import Edits, Found, Scores, difference, task

METHODS = ("rome", "memit", "ft", "score-5")
PRECISIONS = ("strict", "tf32", "bf16")
MODELS = {"smollm2": 32, "gpt2-xl": 32, "gpt-j": 16}  # with the largest batch that is tried
QUICK = {"stub": 4, "stub-llama": 4}
SMALL = ("stub", "stub-gptj", "stub-llama")
STEPS = {"rome": 5, "memit": 5, "ft": 5}
SAME, SAME_LOGPROB = 1e-6, 1e-5  # relative difference of a float64 change, and of log-probabilities after it
LONGEST = 100  # seconds for one line of the table
COLUMNS = ("part", "model", "precision", "method", "B", "cases_per_s", "tflops", "peak_gib", "found", "ok")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the table; 1 when something was wrong on the device."""
    args = _parser().parse_args(arguments)
    if args.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here; --device cpu --quick tries the program.", file=sys.stderr)
        return 2
    if args.device == "cpu":
        torch.set_num_threads(1)
    table = _Table(args.out / f"{args.device}-{time.strftime('%Y%m%d-%H%M%S')}", args)
    print(machine(args.device), flush=True)
    for name in SMALL:
        for method in METHODS:
            what = {"part": "equality", "model": name, "precision": "float64", "method": method}
            table.add(what, lambda name=name, method=method: equality(name, method, args.device))
    for name, most in (QUICK if args.quick else MODELS).items():
        measure(name, min(most, args.most), table, args)
        _free()
    table.finish()
    return int(any(row["part"] == "equality" and row["ok"] is not True for row in table.rows))


def _parser() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small models only: a trial of the program")
    parser.add_argument("--folder", type=Path, help="SmolLM2, as fetch_model wrote it")
    parser.add_argument("--minutes", type=float, default=9.0, help="nothing new is begun after these")
    parser.add_argument("--most", type=int, default=1 << 20, help="cases together at most")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu-check")
    return parser


class _Table:
    """Lines that are printed and written one by one."""

    def __init__(self, stem: Path, args: argparse.Namespace) -> None:
        stem.parent.mkdir(parents=True, exist_ok=True)
        self.csv, self.text = stem.with_suffix(".csv"), stem.with_suffix(".txt")
        self.end = time.monotonic() + 60 * args.minutes
        self.device, self.rows = args.device, list[Row]()

    def add(self, what: Row, work: Callable[[], Row]) -> bool:
        """Add the line `what` with what `work` finds, or with why it did not; True for the former."""
        left = self.end - time.monotonic()
        found: Row = {"found": "left out: no time"}
        if left > 0:
            try:
                with _at_most(min(left, LONGEST)):
                    found = work()
            except Exception as error:
                found = {"found": f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"}
        row = dict.fromkeys(COLUMNS) | what | found
        self.rows.append(row)
        print("  ".join(_shown(row[column]) for column in COLUMNS), flush=True)
        pd.DataFrame(self.rows).to_csv(self.csv, index=False)
        return found.get("ok") is not None or found.get("cases_per_s") is not None

    def finish(self) -> None:
        """Write the table for reading."""
        frame = pd.DataFrame(self.rows).map(_shown)
        self.text.write_text(f"{machine(self.device)}\n\n{frame.to_string(index=False)}\n", encoding="utf-8")
        print(f"written: {self.text}, {self.csv}")


def _shown(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Inside, TimeoutError is raised after `seconds`."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"not done after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def equality(name: str, method: str, device: str) -> Row:
    """Compare the engine on the device with the plain path there, and the model with the processor's."""
    size, cases = models.SIZES[name], range(4)
    lm = models.build(size, "cpu", torch.float64)
    work = task(_on(lm, device), size, method, len(cases), 4)
    queries = [Query(request.text, request.target_new) for request in work.requests]
    said = [[x for s in score(each, queries) for x in s.token_logprobs] for each in (lm, work.lm)]
    weights = {key: value.clone() for key, value in work.lm.model.state_dict().items()}
    clock, worst = Clock(device), [0.0, max(abs(a - b) for a, b in zip(*said, strict=True))]
    together = work.by_engine(cases, clock)
    for case in cases:
        alone = work.by_engine([case], clock)
        for other in (work.by_plain(case, clock), _of(together, case)):
            dw, dp = difference(other, alone)
            worst = [max(worst[0], 0.0 if math.isnan(dw) else dw), max(worst[1], dp)]
    kept = all(torch.equal(weights[key], value) for key, value in work.lm.model.state_dict().items())
    told = f"weights differ by {worst[0]:.1e}, log-probabilities by {worst[1]:.1e}"
    return {
        "B": len(cases),
        "found": told if kept else "the model's own weights were changed",
        "ok": kept and worst[0] <= SAME and worst[1] <= SAME_LOGPROB,
    }


def _on(lm: LanguageModel, device: str) -> LanguageModel:
    """Return the same weights on another device."""
    model = models.as_published(lm).model
    return LanguageModel(copy.deepcopy(model).to(device), lm.tokenizer)


def _of(together: Found, case: int) -> Found:
    """One case of a batch; its change is compared by what the model says."""
    return Found([together.updates[case]], [[]], [together.logprobs[case]])


def measure(name: str, most: int, table: _Table, args: argparse.Namespace) -> None:
    """Add the lines of one model."""
    loaded: list[tuple[LanguageModel, models.Texts]] = []
    what = {"part": "model", "model": name}

    def load() -> Row:
        folder = args.folder if name == "smollm2" else None
        if folder:
            lm = LanguageModel.load(folder, args.device)
            loaded.append((lm, smollm2.texts_of(lm)))
        else:
            loaded.append((models.build(models.SIZES[name], args.device), models.DRAWN))
        return {"found": "its own weights" if folder else "random weights", "ok": True}

    if not table.add(what, load):
        return
    lm, texts = loaded[0]
    for method in METHODS:
        made: list[Edits | Scores] = []

        def prepare(method: str = method, made: list = made) -> Row:
            steps = 2 if args.quick else STEPS.get(method)
            made.append(task(lm, models.SIZES[name], method, most, steps, texts))
            return {"found": "prepared", "ok": True}

        if not table.add({"part": "prepare", "model": name, "method": method}, prepare):
            continue
        strict: list[Found] = []
        for precision in PRECISIONS:
            lm.precision = precision
            what = {"part": "speed", "model": name, "precision": precision, "method": method}
            found: list[Found] = []
            table.add(what, lambda work=made[0], found=found: speed(work, most, args.device, found))
            if precision == "strict":
                strict = found
            elif strict and found:
                gate = {**what, "part": "precision"}
                table.add(gate, lambda one=strict[0], other=found[0]: precision_gate(one, other))
        lm.precision = "strict"
        made.clear()
        _free()


def speed(work: Edits | Scores, most: int, device: str, kept: list[Found]) -> Row:
    """Measure as many cases together as fit, half as many after each time that memory runs out."""
    size = most
    while True:
        try:
            need = cost(device, lambda n=size: work.by_engine(range(n), Clock(device), ask=False))
            clock = Clock(device)
            found = work.by_engine(range(size), clock)
            break
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            full = isinstance(error, (torch.OutOfMemoryError, MemoryError))
            if size == 1 or not (full or any(sign in str(error) for sign in NOT_KEPT)):
                raise
        size //= 2
        _free()
    kept.append(found)
    return {
        "B": size,
        "cases_per_s": size / clock.total,
        "tflops": need.flops / clock.total / 1e12,
        "peak_gib": need.peak_bytes / 2**30,
        "found": f"{work.steps} evaluations"
        if isinstance(work, Edits)
        else f"{len(work.asked[0][1])} targets",
    }


def precision_gate(strict: Found, reduced: Found) -> Row:
    """Compare the probabilities of what was written, over the cases that both have."""
    n = min(len(strict.logprobs), len(reduced.logprobs))
    frames = [
        pd.DataFrame(
            {
                "case_id": range(n),
                "metric": "probability",
                "value": [math.exp(sum(row) / len(row)) for row in found.logprobs[:n]],
                "dataset": "drawn",
            }
        )
        for found in (strict, reduced)
    ]
    (row,) = compare_precisions(*frames).to_dict("records")
    both = zip(strict.logprobs[:n], reduced.logprobs[:n], strict=True)
    largest = max(abs(a - b) for one, other in both for a, b in zip(one, other, strict=True))
    told = f"{row['points']:+.2f} points, largest difference of a log-probability {largest:.1e}"
    return {"B": n, "found": told, "ok": bool(row["accepted"])}


if __name__ == "__main__":
    sys.exit(main())
