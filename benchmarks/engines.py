"""Both engines of tasks beside the raw scorer: CPU seconds in turns, and whether they say the same.

python benchmarks/engines.py [--items 500] [--rounds 5]
python benchmarks/engines.py --model FOLDER --prepared results/KG/tasks --tasks mmlu,gsm8k --items 40

Without a folder a small random model is asked made-up choices. With one, that model is asked items that a
study has prepared. "own" is lm-evaluation-harness with its own model class: how far it is from ours.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]
os.environ |= dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")

import numpy as np
import pandas as pd
import torch
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM

from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.requests import Query
from aftershock.tasks import builtin, harness
from aftershock.tasks.definition import make_task, read_task
from aftershock.tasks.reading import Asked
from tiny import CITIES, NAMES, tiny

ENGINES = {"builtin": builtin.run_items, "harness": harness.run_items}


def main() -> None:
    """Print each task's CPU seconds, their ratios, and on how many items the engines differ."""
    args = _arguments()
    torch.set_num_threads(1)
    lm = LanguageModel.load(args.model) if args.model else tiny("gpt2", torch.float32)
    for task, items in _from_study(args) if args.model else [_made_up(args.items)]:
        _compare(lm, task, items, args.rounds)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--items", type=int, default=500, help="items of each task")
    parser.add_argument("--rounds", type=int, default=5, help="turns after the one that warms up")
    parser.add_argument("--model", help="folder of a model's weights")
    parser.add_argument("--prepared", type=Path, help="a study's folder of tasks")
    parser.add_argument("--tasks", type=lambda text: text.split(","), default=[], help="names of tasks there")
    return parser.parse_args()


def _made_up(n_items: int) -> tuple[Asked, pd.DataFrame]:
    prompts = [f"As for {NAMES[i % 8]}, {i} and {NAMES[i // 8 % 8]}, home is" for i in range(n_items)]
    items = pd.DataFrame({"item_id": list(map(str, range(n_items))), "prompt": prompts, "question": prompts})
    choices = [f" {city}" for city in CITIES[:4]]
    return make_task("trial", {"kind": "choice"}), items.assign(
        choices=[choices] * n_items, gold=0, answers=[[]] * n_items
    )


def _from_study(args: argparse.Namespace) -> Iterator[tuple[Asked, pd.DataFrame]]:
    for name in args.tasks:
        yield read_task(name), pd.read_parquet(args.prepared / name / "items.parquet").head(args.items)


def _compare(lm: LanguageModel, task: Asked, items: pd.DataFrame, rounds: int) -> None:
    ways: dict[str, Callable[[], object]] = {
        name: (lambda run=run: run(lm, task, items)) for name, run in ENGINES.items()
    }
    if task.kind == "choice":
        queries = [Query(p, c) for p, cs in zip(items["prompt"], items["choices"], strict=True) for c in cs]
        ways = {"raw": lambda: score(lm, queries), **ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    found = {}
    for turn in range(rounds + 1):
        for name, run in ways.items():
            start = time.process_time()
            found[name] = run()
            if turn or not rounds:
                seconds[name].append(time.process_time() - start)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    unit = middle.get("raw", middle["builtin"])
    times = ", ".join(f"{name} {value:.2f} s ({value / unit:.2f})" for name, value in middle.items())
    print(f"{task.name}: {len(items)} items; {times}")
    pd.testing.assert_frame_equal(found["builtin"], found["harness"], check_exact=True)
    print(
        f"  builtin and harness: equal, bit for bit; own: {_own(lm, task, items, found['builtin'])}",
        flush=True,
    )


def _own(lm: LanguageModel, task: Asked, items: pd.DataFrame, found: pd.DataFrame) -> str:
    """Return how far the harness with its own model class is from what the engines found."""
    model = HFLM(
        pretrained=lm.model, tokenizer=lm.tokenizer, max_length=lm.context, batch_size=1, device="cpu"
    )
    asked = {"tasks": {task.name: harness.PreparedItems(task, items)}}
    samples = evaluate(model, asked, bootstrap_iters=0, log_samples=True)["samples"][task.name]
    answers = [each["resps"] for each in sorted(samples, key=lambda sample: sample["doc_id"])]
    if task.kind == "generate":
        same = sum(each[0][0] == text for each, text in zip(answers, found["text"], strict=True))
        return f"{same} of {len(items)} texts equal"
    theirs = [[one[0] if isinstance(one[0], float) else one[0][0] for one in row] for row in answers]
    pairs = list(zip(theirs, found["logprobs"], strict=True))
    furthest = max(float(np.abs(np.subtract(*pair)).max()) for pair in pairs)
    best = sum(int(np.argmax(one)) == int(np.argmax(other)) for one, other in pairs)
    return f"log-probabilities within {furthest:.1e}, {best} of {len(items)} answers equal"


if __name__ == "__main__":
    main()
