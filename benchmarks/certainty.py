"""Intervals, tests and tables of a study as large as the paper, in one process and one thread.

    python benchmarks/certainty.py [--cases 12000] [--seeds 1] [--datasets coverage …]

The scores are those of a small simulated study, repeated with noise for all cases of five datasets and five
editors, in clusters as uneven as those of the released cases: one of every 17 cases, the rest small. They are
written to a temporary folder and read back as the rule `tables` does. Prints seconds of computing time and
peak memory of each step.
"""

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

import numpy as np
import pandas as pd

from aftershock.datasets.table import DATASETS
from aftershock.metrics.analysis import analyse
from aftershock.metrics.stability import EQUAL
from aftershock.metrics.study import families
from aftershock.seeds import generator
from aftershock.tables import Table
from aftershock.tables.cases import CASES
from aftershock.tables.runs import FACETS, SCORES, VARIANTS
from simulate import EDITORS, Behaviour, run_of, score, simulate

SMALL = 96
METHODS = {**EDITORS, "mend": Behaviour(write=4.0, erase=3.0, spill=-0.6, others=-1.4)}
FACET_LEVELS = {
    "rule": 7, "relation": 10, "n_objects": 9, "popularity": 3,
    **dict.fromkeys(("target_tokens", EQUAL, "e1_success", "e2_success", "tied_known", "knows_first",
                     "knows_head", "in_context", "strict"), 2),
}  # fmt: skip
VARIED = [(s, p) for s in ("geometric_mean", "joint", "first_token") for p in ("all", "edit", "paraphrases")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the study, analyse it, print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=12000, help="of all datasets together")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        with measured("make the scores"):
            runs = [
                run
                for dataset in args.datasets
                for run in made(Path(folder), dataset, args.cases // len(args.datasets), args.seeds)
            ]
        with measured("read them"):
            tables = [
                [table.read(Path(folder, name(run, table))) for run in runs]
                for table in (CASES, SCORES, FACETS, VARIANTS)
            ]
            tables[0] = [cases.assign(subject_id=cases["case_id"]) for cases in tables[0]]
        with measured("analyse them"):
            found = analyse(runs, *tables)
        with measured("write the tables"):
            for title, (schema, table) in found.items():
                schema.write(table, Path(folder, f"{title}.parquet"))
                table.to_csv(Path(folder, f"{title}.csv"), index=False)
    rows = sum(map(len, tables[1]))
    print(f"{len(runs)} runs, {rows} scores; rows: { ({k: len(t) for k, (_, t) in found.items()}) }")
    return 0


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print how long a step computed, and the most memory this process has held so far."""
    start = time.process_time()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what}: {time.process_time() - start:.1f} s, peak {peak:.2f} GiB", flush=True)


def name(run: dict[str, object], table: Table) -> str:
    """The file of one table of a run."""
    return ".".join([*map(str, run.values()), table.name, "parquet"])


def made(folder: Path, dataset: str, n: int, seeds: int) -> list[dict[str, object]]:
    """Write CASES, SCORES, FACETS and VARIANTS of one dataset for all editors and seeds; the runs."""
    rng = generator(0, "certainty", dataset)
    few = min(SMALL, n)
    small = simulate(dataset, few, 0, METHODS)
    cases = small.cases.iloc[np.arange(n) % few].assign(case_id=np.arange(n), cluster=clustered(n, rng))
    levels = {f: rng.integers(0, k, n) for f, k in FACET_LEVELS.items()}
    facets = pd.DataFrame(
        {"case_id": np.arange(n), **{f: np.where(v == 1, "yes", v.astype(str)) for f, v in levels.items()}}
    ).melt("case_id", var_name="facet", value_name="level")
    runs = []
    for editor in METHODS:
        scores = score(small, shards=[f"00000-{few - 1:05d}"], editor=editor).scores
        for seed in range(seeds):
            run = run_of(dataset, editor, seed)
            whole = repeated(scores, n, rng)
            for table, rows in (
                (CASES, cases), (SCORES, whole), (FACETS, facets), (VARIANTS, varied(whole, dataset, rng))
            ):  # fmt: skip
                table.write(rows, folder / name(run, table))
            runs.append(run)
    return runs


def clustered(n: int, rng: np.random.Generator) -> np.ndarray:
    """Clusters of `n` cases: one of a 17th, as in the released composite cases, and one for two others."""
    clusters = rng.integers(1, max(2, n // 2), n)
    clusters[: n // 17] = 0
    return rng.permutation(clusters)


def repeated(scores: pd.DataFrame, n: int, rng: np.random.Generator) -> pd.DataFrame:
    """SCORES of `n` cases from those of a few: rates as they are, other values with noise."""
    wide = scores.pivot(index="case_id", columns="metric", values="value")
    big = wide.iloc[rng.integers(0, len(wide), n)].set_axis(pd.RangeIndex(n, name="case_id"))
    smooth = [column for column in wide if not wide[column].dropna().isin([0, 1]).all()]
    big[smooth] += rng.normal(0, 0.01, (n, len(smooth)))
    return big.stack(future_stack=True).rename("value").reset_index()


def varied(scores: pd.DataFrame, dataset: str, rng: np.random.Generator) -> pd.DataFrame:
    """VARIANTS of the metrics that the paper's tables show, each with a little noise."""
    shown = families(dataset, [])["table2" if dataset.startswith("round") else "table1"]
    rows = scores[scores["metric"].isin(shown)]
    return pd.concat(
        [rows.assign(scoring=s, prompts=p, value=rows["value"] + rng.normal(0, 0.01, len(rows)))
         for s, p in VARIED],
        ignore_index=True,
    )[list(VARIANTS.columns)]  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
