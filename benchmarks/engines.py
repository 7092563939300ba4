"""Cost of asking a task beside the raw scorer: CPU seconds of both engines, in turns, on a small model.

python benchmarks/engines.py [items]
"""

import os
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]
os.environ |= dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1")

import pandas as pd
import torch

from aftershock.lm.scoring import score
from aftershock.requests import Query
from aftershock.tasks import builtin, harness
from aftershock.tasks.definition import make_task
from tiny import CITIES, NAMES, tiny

ROUNDS = 5


def main(n_items: int) -> None:
    """Print the CPU seconds of the raw scorer and of both engines, and their ratios."""
    torch.set_num_threads(1)
    lm = tiny("gpt2", torch.float32)
    prompts = [f"As for {NAMES[i % 8]}, {i} and {NAMES[i // 8 % 8]}, home is" for i in range(n_items)]
    choices = [f" {city}" for city in CITIES[:4]]
    items = pd.DataFrame({"item_id": list(map(str, range(n_items))), "prompt": prompts, "question": prompts})
    items = items.assign(choices=[choices] * n_items, gold=0, answers=[[]] * n_items)
    task = make_task("trial", {"kind": "choice"})
    queries = [Query(prompt, choice) for prompt in prompts for choice in choices]
    ways = {
        "raw": lambda: score(lm, queries),
        "builtin": lambda: builtin.run_items(lm, task, items),
        "harness": lambda: harness.run_items(lm, task, items),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(ROUNDS + 1):
        for name, run in ways.items():
            start = time.process_time()
            run()
            if turn:  # the first one warms up
                seconds[name].append(time.process_time() - start)
    middle = {name: statistics.median(values) for name, values in seconds.items()}
    for name, value in middle.items():
        print(f"{name:8} {value:6.2f} s of CPU, {value / middle['raw']:.2f} of the raw scorer")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
