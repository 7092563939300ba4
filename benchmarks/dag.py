"""Time and memory that Snakemake takes to plan a large study: a dry run, nothing is computed.

    python benchmarks/dag.py [--jobs 20000] [CONFIG.yaml ...]

Without files, a synthetic study of about so many jobs: the embedded world, more seeds, shards of 32 cases.
Seconds of the wall clock and of the process's own computing, and its largest resident size.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RUNS, SHARDS = 22, 50  # models times datasets times editors of the embedded study; shards of each


def synthetic(jobs: int) -> dict:
    """The embedded study with test cases for SHARDS shards, and as many seeds as give `jobs` jobs."""
    quotas = dict.fromkeys(("coverage", "reverse", "composite", "round_easy", "round_hard"), 32 * SHARDS)
    seeds = max(1, round(jobs / (RUNS * (SHARDS + 1))))
    return {
        "study": "synthetic",
        "seeds": list(range(seeds)),
        "cases": {"quotas": {"test": quotas}},
        "shards": {"cases": 32},
        "report": {"bars": []},
    }


@dataclass(frozen=True)
class DryRun:
    """Return a dry run's text, seconds by the wall clock and of its own, and largest resident megabytes."""

    text: str
    wall: float
    own: float
    memory: float

    @property
    def jobs(self) -> int:
        """All jobs that would run."""
        return int(next(line.split()[1] for line in self.text.splitlines() if line.startswith("total ")))


def dry_run(files: Sequence[Path], folder: Path) -> DryRun:
    """A dry run of the embedded study with `files` over it, in `folder`."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules"]
    command += ["--snakefile", str(ROOT / "Snakefile"), "--configfile", *map(str, files)]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return DryRun(done.stdout, time.perf_counter() - started, own, after.ru_maxrss / 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure one dry run and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", nargs="*", type=Path, help="configuration files; the last wins")
    parser.add_argument("--jobs", type=int, default=20_000)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "wikipedia.txt").write_text("A text that some models ask for.\n")
        (folder / "contact.yaml").write_text("kgs: {wdqs: {contact: you@example.org}}\n")
        (folder / "synthetic.yaml").write_text(yaml.safe_dump(synthetic(args.jobs)))
        given = [path.resolve() for path in args.config]
        files = [*given, folder / "contact.yaml"] if given else [folder / "synthetic.yaml"]
        found = dry_run(files, folder)
    print(f"{found.jobs} jobs: {found.wall:.1f} s, {found.own:.1f} s of computing, {found.memory:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
