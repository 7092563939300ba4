"""From observations to all tables of the report, for a study as large as the paper.

    python benchmarks/scale.py FOLDER [--cases 12000] [--roles few]

Observations of 12 000 cases under five methods are simulated once into FOLDER, as the files that `edit`
writes, in clusters as uneven as those of the released cases. Then the scripts of the rules `score` (a process
per run) and `tables` (one process for all) run on them as in the workflow, one after the other on one core.
Computing and clock seconds are those of the scripts with their imports; memory is the largest of any process.

With `--roles few` only what the main metrics need is observed, which comes near the number of rows that the
paper's size stands for; without it every role that a run of this project scores.
"""

import argparse
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

SHARES = {"coverage": 5, "reverse": 5, "composite": 4, "round_easy": 5, "round_hard": 5}
METHODS = ("ft", "rome", "memit", "memit_mle", "mend")
FEW = {
    "coverage": ("old", "new_exp", "new_imp"),
    "reverse": ("old", "new_exp"),
    "composite": ("old", "new_exp", "tied"),
    "round_easy": ("target", "original", "object"),
    "round_hard": ("target", "original", "object"),
}
"""Roles of `--roles few`; of several facts in one role only the first."""
MADE = ("scores", "probabilities", "variants", "facets", "holes", "health")


def make(folder: Path, cases: int, few: bool) -> None:
    """Simulated files of every dataset and method."""
    import numpy as np

    from aftershock.seeds import generator
    from aftershock.tables.cases import CASES, EDITS, PROBES
    from aftershock.tables.graph import FACTS
    from aftershock.tables.models import OBJECT_SCORES
    from aftershock.tables.runs import HEALTH, OBSERVATIONS, TELEMETRY
    from simulate import EDITORS, Behaviour, health_of, simulate

    behaviours = EDITORS | {"mend": Behaviour(write=4.0, erase=1.5, spill=-0.5)}
    for dataset, share in SHARES.items():
        n = cases * share // sum(SHARES.values())
        sim = simulate(dataset, n, 0, {name: behaviours[name] for name in METHODS})
        rng = generator(0, "scale", dataset)
        clusters = rng.integers(1, max(2, n // 2), n)
        clusters[: n // 17] = 0  # as many of the released composite cases hang together
        probes = sim.probes
        if few:
            probes = probes[probes["role"].isin(FEW[dataset]) & (probes["position"] == 0)]
        asked = probes["case_id"] * 1000 + probes["probe_id"]

        def kept(rows, asked=asked, few=few):
            """The rows about facts that are asked; of all states but the control one where roles are few."""
            there = (rows["case_id"] * 1000 + rows["probe_id"]).isin(asked)
            return rows[there & ~rows["state"].isin(["control", "random"])] if few else rows

        place = folder / dataset
        place.mkdir(parents=True, exist_ok=True)
        CASES.write(sim.cases.assign(cluster=rng.permutation(clusters)), place / "cases.parquet")
        PROBES.write(probes, place / "probes.parquet")
        EDITS.write(_edits(sim.probes, dataset), place / "edits.parquet")
        facts = sim.probes.drop_duplicates(["subject_id", "relation_id", "object_id"])
        facts = facts.assign(
            kept=True,
            reason=None,
            probability=0.5,
            rank=1,
            known=rng.random(len(facts)) < 0.8,
            similarity=np.nan,
        )
        FACTS.write(facts.astype({"reason": "str"})[list(FACTS.columns)], place / "facts.parquet")
        OBJECT_SCORES.write(facts[list(OBJECT_SCORES.columns)], place / "objects.parquet")
        OBSERVATIONS.write(kept(sim.unedited), place / "unedited.parquet")
        for editor in METHODS:
            (place / editor).mkdir(exist_ok=True)
            (folder / "m" / dataset / editor / "s0").mkdir(parents=True, exist_ok=True)
            OBSERVATIONS.write(kept(sim.observations[editor]), place / editor / f"00000-{n - 1:05d}.parquet")
            telemetry = sim.telemetry[editor].astype({"reason": "str"})
            TELEMETRY.write(telemetry, place / editor / "telemetry.parquet")
            HEALTH.write(health_of(sim, editor), place / editor / "observed_health.parquet")


def _edits(probes: Any, dataset: str) -> Any:
    """EDITS that the simulated probes imply."""
    from aftershock.datasets.table import ROUND
    from aftershock.tables.cases import EDITS

    names = {"target": "e1", "original": "e2"} if dataset in ROUND else {"old": "e1", "new_exp": "e2"}
    rows = probes[probes["role"].isin(names)]
    rows = rows.assign(edit=rows["role"].map(names), prompt="{} is", target_true="x", target_true_id="x")
    rows = rows.rename(columns={"object": "target_new", "object_id": "target_new_id"})
    return rows[list(EDITS.columns)]


def _made(run: dict[str, Any]) -> str:
    """Return the path of a run's scores: what a table was made for is part of it."""
    return f"{run['model']}/{run['dataset']}/{run['editor']}/s{run['seed']}"


def jobs() -> Iterator[dict[str, Any]]:
    """Return what the workflow would give to the scripts, from FOLDER as working directory."""
    from aftershock.metrics.health import Thresholds
    from aftershock.metrics.settings import Statistics

    paper = [f"{ROOT}/resources/paper/{name}" for name in ("reported.csv", "study.yaml", "claims.yaml")]
    runs = [
        {"model": "m", "dataset": dataset, "editor": editor, "seed": 0}
        for dataset in SHARES
        for editor in METHODS
    ]
    for run in runs:
        above, place = run["dataset"], f"{run['dataset']}/{run['editor']}"
        (shard,) = (path.stem for path in Path(place).glob("*-*.parquet"))
        names = ("cases", "edits", "probes", "objects", "unedited")
        yield {
            "rule": "score",
            "wildcards": {name: str(value) for name, value in run.items()},
            "input": {name: f"{above}/{name}.parquet" for name in names}
            | {
                "facts": f"{above}/facts.parquet",
                "observations": [f"{place}/{shard}.parquet"],
                "telemetry": [f"{place}/telemetry.parquet"],
                "health": [f"{place}/observed_health.parquet"],
            },
            "output": {name: f"{_made(run)}/{name}.parquet" for name in MADE},
            "params": {
                "ranges": [shard],
                "second_edit": "plain",
                "labels": "all",
                "ignore_margin": 0.1,
                "incomplete": False,
            },
        }
    yield {
        "rule": "tables",
        "wildcards": {},
        "input": {
            **{
                name: [f"{_made(run)}/{name}.parquet" for run in runs]
                for name in ("scores", "facets", "variants", "health")
            },
            "cases": [f"{run['dataset']}/cases.parquet" for run in runs],
            "relations": f"{ROOT}/resources/relations.tsv",
            **dict.fromkeys(("task_answers", "task_scores", "sequence_scores", "sequence_health"), []),
            **dict.fromkeys(("scores_among", "verdicts"), []),
            "paper": paper,
            **dict.fromkeys(("recall", "scored"), []),
        },
        "output": {"summary": "summary.parquet", "tables": "tables"},
        "params": {
            "runs": runs,
            "namespace": "world",
            "seed": 0,
            "statistics": asdict(Statistics()),
            "health": asdict(Thresholds()),
            "paper": {"hubs": {"m": None}, "editors": {name: {"method": name[:5]} for name in METHODS}},
            "sequences": {"runs": [], "tasks": []},
            "kg": "world",
            "collapse": {},
            **dict.fromkeys(("recalled", "scored"), []),
        },
    }


def run_script(job: dict[str, Any]) -> None:
    """Run the script of a job in this process, which Snakemake would have started."""

    class Items(SimpleNamespace):
        items = property(lambda self: vars(self).items)
        get = property(lambda self: vars(self).get)

        def __iter__(self):
            return iter(vars(self).values())

    given = {name: Items(**job[name]) for name in ("wildcards", "input", "output", "params")}
    snakemake = SimpleNamespace(
        **given, rule=job["rule"], log=[f"logs/{job['rule']}.log"], threads=1, resources={}
    )
    runpy.run_path(str(ROOT / "workflow" / "scripts" / f"{job['rule']}.py"), {"snakemake": snakemake})


def measure(folder: Path) -> dict[str, Any]:
    """Seconds and memory of every script, each in a process of its own on one core."""
    os.chdir(folder)
    spent = {
        rule: {"processes": 0, "cpu_seconds": 0.0, "seconds": 0.0, "peak_mib": 0}
        for rule in ("score", "tables")
    }
    unit = 1024 if sys.platform == "darwin" else 1
    for job in jobs():
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder), "--job", json.dumps(job)], env=os.environ | ONE_THREAD
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(
                f"{job['rule']} {job['wildcards']} failed; see {folder}/logs/{job['rule']}.log"
            )
        part = spent[job["rule"]]
        part["processes"] += 1
        part["cpu_seconds"] += usage.ru_utime + usage.ru_stime
        part["seconds"] += time.perf_counter() - start
        part["peak_mib"] = max(part["peak_mib"], round(usage.ru_maxrss / 1024 / unit))
    return {
        **spent,
        "all": {
            **{name: sum(part[name] for part in spent.values()) for name in ("cpu_seconds", "seconds")},
            "peak_mib": max(part["peak_mib"] for part in spent.values()),
        },
    }


def sizes(folder: Path) -> dict[str, int]:
    """Return the numbers of rows that went in and came out."""
    from aftershock.tables import rows_of

    def rows(pattern: str) -> int:
        return sum(rows_of(path) for path in folder.glob(pattern))

    return {
        "cases": rows("*/cases.parquet"),
        "observations": rows("*/*/*-*.parquet") + rows("*/unedited.parquet"),
        "scores": rows("m/*/*/s0/scores.parquet"),
        "summary": rows("summary.parquet"),
        **{path.stem: rows_of(path) for path in sorted(folder.glob("tables/*.parquet"))},
    }


def main() -> None:
    """Simulate where nothing is there yet, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--cases", type=int, default=12_000)
    parser.add_argument("--roles", choices=("all", "few"), default="all")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--make", action="store_true", help="only simulate")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if options.job:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        run_script(options.job)
        return
    if options.make:
        make(folder, options.cases, options.roles == "few")
        return
    if not folder.is_dir():  # in a process of its own: a child's peak memory is no less than its parent's
        subprocess.run([sys.executable, __file__, *sys.argv[1:], "--make"], check=True)
    found = measure(folder)
    print(json.dumps({**found, "rows": sizes(folder)}, indent=1))


if __name__ == "__main__":
    main()
