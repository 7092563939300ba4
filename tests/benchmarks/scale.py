"""How long scoring takes at the study's full size: 12 000 simulated cases and five methods.

    python tests/benchmarks/scale.py FOLDER [--cases 12000]

Observations of all states and prompts are simulated once into FOLDER, as the files that `edit` writes. Then
every run is read, scored and written as the rule `score` does it, one after the other in one process; seconds
are of its own computing on one core, memory is its largest, both without the simulation.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests")]

import pandas as pd

from aftershock.metrics.observed import LEAN, lean
from aftershock.metrics.run import ROUND, score_cases
from aftershock.tables import rows_of
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.runs import FACETS, HOLES, OBSERVATIONS, PROBABILITIES, SCORES, TELEMETRY, VARIANTS
from simulate import EDITORS, Behaviour, simulate

SHARES = {"coverage": 5, "reverse": 5, "composite": 4, "round_easy": 5, "round_hard": 5}
BEHAVIOURS = EDITORS | {"mend": Behaviour(write=4.0, erase=1.5, spill=-0.5)}


def make(folder: Path, cases: int) -> None:
    """Simulated files of every dataset and method."""
    for dataset, share in SHARES.items():
        n = cases * share // sum(SHARES.values())
        editors = BEHAVIOURS
        sim = simulate(dataset, n, 0, editors)
        place = folder / dataset
        place.mkdir(parents=True, exist_ok=True)
        CASES.write(sim.cases, place / "cases.parquet")
        PROBES.write(sim.probes, place / "probes.parquet")
        EDITS.write(_edits(sim.probes, dataset), place / "edits.parquet")
        OBSERVATIONS.write(sim.unedited, place / "unedited.parquet")
        for editor in editors:
            (place / editor).mkdir(exist_ok=True)
            OBSERVATIONS.write(sim.observations[editor], place / editor / f"00000-{n - 1:05d}.parquet")
            TELEMETRY.write(
                sim.telemetry[editor].astype({"reason": "str"}), place / editor / "telemetry.parquet"
            )


def _edits(probes: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """The edits that the simulated probes imply."""
    names = {"target": "e1", "original": "e2"} if dataset in ROUND else {"old": "e1", "new_exp": "e2"}
    rows = probes[probes["role"].isin(names)]
    rows = rows.assign(edit=rows["role"].map(names), prompt="{} is", target_true="x", target_true_id="x")
    rows = rows.rename(columns={"object": "target_new", "object_id": "target_new_id"})
    return rows[list(EDITS.columns)]


def runs(folder: Path) -> Iterator[tuple[str, Path]]:
    """Dataset and folder of every run."""
    for dataset in SHARES:
        for editor in BEHAVIOURS:
            yield dataset, folder / dataset / editor


def score(dataset: str, place: Path) -> None:
    """One run, as the rule does it."""
    above = place.parent
    (shard,) = (path for path in place.glob("*-*.parquet"))
    edits = EDITS.read(above / "edits.parquet")
    scored = score_cases(
        CASES.read(above / "cases.parquet"),
        PROBES.read(above / "probes.parquet"),
        lean(OBSERVATIONS.read_arrow(above / "unedited.parquet", LEAN)),
        {shard.stem: lean(OBSERVATIONS.read_arrow(shard, LEAN))},
        TELEMETRY.read(place / "telemetry.parquet"),
        dataset,
        [shard.stem],
        second=edits[edits["edit"] == "e2"],
    )
    graph = edits.rename(columns={"target_new_id": "object_id"})[["subject_id", "object_id"]]
    PROBABILITIES.write(scored.facts.table, place / "probabilities.parquet")
    SCORES.write(scored.scores, place / "scores.parquet")
    VARIANTS.write(scored.variants(), place / "variants.parquet")
    FACETS.write(scored.facets(edits, graph), place / "facets.parquet")
    HOLES.write(scored.holes, place / "holes.parquet")


def measure(folder: Path) -> dict[str, float]:
    """Seconds and memory of scoring every run in `folder`."""
    started, wall = time.process_time(), time.perf_counter()
    for dataset, place in runs(folder):
        score(dataset, place)
    rows = sum(rows_of(path) for _, place in runs(folder) for path in [*place.glob("*-*.parquet")]) + sum(
        rows_of(folder / dataset / "unedited.parquet") for dataset in SHARES
    )
    return {
        "runs": len(list(runs(folder))),
        "observations": rows,
        "scores": sum(rows_of(place / "scores.parquet") for _, place in runs(folder)),
        "cpu_seconds": round(time.process_time() - started, 1),
        "wall_seconds": round(time.perf_counter() - wall, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> None:
    """Simulate where nothing is there yet, then measure in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--cases", type=int, default=12_000)
    parser.add_argument("--measure", action="store_true", help="only score what is in FOLDER")
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.folder)))
        return
    if not options.folder.is_dir():
        make(options.folder, options.cases)
    command = [sys.executable, __file__, str(options.folder), "--measure"]
    print(subprocess.run(command, check=True, capture_output=True, text=True).stdout, end="")


if __name__ == "__main__":
    main()
