"""Cost of the stages that ask a model about facts beside the asking itself, and their memory.

    python benchmarks/knowledge.py [--model stub|tiny|small|FOLDER] [--facts N] [--candidates C]
                                         [--rounds R] [--memory]

One process and one thread. The stage reads its tables, verifies N facts (eleven prompts, C labels at the edit
prompt) and writes its answers; the direct call hands the same prompts and the same (prompt, target) pairs,
all at once, to the package's batched generation and scoring. Both take turns; the ratio is that of the
medians. Starting Python and loading the model are left out of both. With --memory only the stage runs, and
the largest resident size of the process is printed with that before the first question.
"""

import os
import random
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT), str(ROOT / "workflow")]

import pandas as pd
import torch

from aftershock.experiments import knowledge
from aftershock.experiments.knowledge import Ranking, verify_facts
from aftershock.lm.generation import continue_greedily
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.requests import Query
from aftershock.tables.graph import PROMPTS
from aftershock.tables.models import FACT_ANSWERS, TAUGHT
from benchmarks import models
from benchmarks.measure import machine, parser_of, seconds

TOKENS, RELATIONS = 24, 14


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for and print it."""
    parser = parser_of(__doc__)
    parser.add_argument("--model", default="tiny", help=f"{', '.join(models.SIZES)}, or a model's folder")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--facts", type=int, default=3000)
    parser.add_argument("--candidates", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(machine(args.device), flush=True)
    if args.model in models.SIZES:
        lm = models.build(models.SIZES[args.model], args.device)
    else:
        lm = LanguageModel.load(args.model, args.device)
    facts, prompts = made(args.facts)
    ranking = Ranking(args.candidates)
    with tempfile.TemporaryDirectory() as folder:
        TAUGHT.write(facts, f"{folder}/facts.parquet")
        PROMPTS.write(prompts, f"{folder}/prompts.parquet")
        if args.memory:
            before = peak()
            run_stage(lm, folder, ranking)
            print(f"{args.facts} facts: {before:.0f} MiB before, {peak():.0f} MiB at most")
            return 0
        prompts_asked, queries = recorded(lm, folder, ranking)
        times: dict[str, list[float]] = {"stage": [], "direct": []}
        for _ in range(args.rounds):
            for name, run in (
                ("stage", lambda: run_stage(lm, folder, ranking)),
                ("direct", lambda: (continue_greedily(lm, prompts_asked, TOKENS), score(lm, queries))),
            ):
                times[name].append(seconds(run, args.device))
    stage, direct = (median(times[name]) for name in ("stage", "direct"))
    print(f"{args.facts} facts, {len(prompts_asked)} prompts, {len(queries)} (prompt, target) pairs")
    print(f"stage {stage:.2f} s, direct {direct:.2f} s, ratio {stage / direct:.3f}")
    return 0


def made(n: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """TAUGHT rows of n facts of RELATIONS relations, every fifth key with two objects, and their PROMPTS."""
    draw = random.Random("facts")
    labels = models.targets(min(2000, 40 + n // 4), 0)
    rows = []
    while len(rows) < n:
        i = len(rows)
        relation_id, subject = f"R{i % RELATIONS}", " ".join([*models.words(draw, 3), str(i)])
        for label in draw.sample(labels, 2 if i % 5 == 0 else 1):
            rows.append((f"E{i}", relation_id, f"T{labels.index(label)}", subject, label))
    texts = [models.requests(11 * RELATIONS, 1)[i].prompt for i in range(11 * RELATIONS)]
    prompts = [(f"R{i % RELATIONS}", i // RELATIONS, text, "made") for i, text in enumerate(texts)]
    return (
        pd.DataFrame(rows[:n], columns=list(TAUGHT.columns)),
        pd.DataFrame(prompts, columns=list(PROMPTS.columns)),
    )


def run_stage(lm: LanguageModel, folder: str, ranking: Ranking) -> None:
    """Do what the script verify_facts does once the model is loaded."""
    facts, prompts = TAUGHT.read(f"{folder}/facts.parquet"), PROMPTS.read(f"{folder}/prompts.parquet")
    FACT_ANSWERS.write(verify_facts(lm, facts, prompts, TOKENS, ranking), f"{folder}/answers.parquet")


def recorded(lm: LanguageModel, folder: str, ranking: Ranking) -> tuple[list[str], list[Query]]:
    """The prompts and queries that the stage asks, from a run of it that warms both paths up."""
    prompts: list[str] = []
    queries: list[Query] = []

    def grow(lm: LanguageModel, texts: Sequence[str], n: int) -> list[str]:
        prompts.extend(texts)
        return continue_greedily(lm, texts, n)

    def ask(lm: LanguageModel, some: Sequence[Query]):
        queries.extend(some)
        return score(lm, some)

    knowledge.continue_greedily, knowledge.score = grow, ask
    try:
        run_stage(lm, folder, ranking)
    finally:
        knowledge.continue_greedily, knowledge.score = continue_greedily, score
    return prompts, queries


def peak() -> float:
    """The largest resident size of this process so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    sys.exit(main())
