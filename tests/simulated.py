"""A whole simulated run, scored and summarised, for tests of what is made from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import pandas as pd

from aftershock.datasets.table import DATASETS
from aftershock.figures import Drawn
from aftershock.metrics.health import Thresholds, summarise_health
from aftershock.metrics.summary import summarise
from simulate import EDITORS, Simulated, failed, health_of, run_of, score, simulate


@dataclass(frozen=True)
class SimulatedRun:
    """Sources of tables and figures; lists go by run."""

    runs: list[dict]
    summary: pd.DataFrame
    probabilities: list[pd.DataFrame]
    scores: list[pd.DataFrame]
    cases: list[pd.DataFrame]

    def drawn(self, **changed) -> Drawn:
        """The same as figures want it, with seconds of every editing job."""
        seconds = {"ft": 8.0, "rome": 30.0, "memit": 31.0, "memit_mle": 40.0}
        timings = [
            {"rule": "edit", "seconds": seconds.get(run["editor"], 5.0),
             "wildcards": {"kg": "world", "shard": "00000-00023", **{k: str(v) for k, v in run.items()}}}
            for run in self.runs
        ]  # fmt: skip
        given = {
            "summary": self.summary,
            "runs": self.runs,
            "probabilities": self._of_rounds(self.probabilities),
            "scores": self._of_rounds(self.scores),
            "cases": self._of_rounds(self.cases),
            "timings": timings,
            "kg": "world",
            "examples": 2,
            "health": health_summary(self.runs, len(self.cases[0])),
        }
        return Drawn(**given | changed)

    def _of_rounds(self, tables):
        pairs = zip(self.runs, tables, strict=True)
        return [table if run["dataset"].startswith("round") else None for run, table in pairs]


@cache
def simulated_dataset(dataset: str, n: int) -> Simulated:
    """`n` cases of a dataset as every editor leaves them; not to be changed."""
    return simulate(dataset, n)


def editors_of(dataset: str) -> list[str]:
    """Those that run on a dataset: all labels are written in rounds alone."""
    return [editor for editor in EDITORS if dataset.startswith("round") or not editor.endswith("_mle")]


@cache
def scored(dataset: str, editor: str, n: int, fails: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Probabilities and scores of one editor, whose edits all break off if it `fails`; not to be changed."""
    sim = simulated_dataset(dataset, n)
    rows, telemetry = failed(sim) if fails else (sim.observations[editor], sim.telemetry[editor])
    found = score(sim, rows, [f"00000-{n - 1:05d}"], editor, telemetry=telemetry)
    return found.facts.table, found.scores


def health_summary(runs: Iterable[dict], n: int, fails: Iterable[tuple[str, str]] = ()) -> pd.DataFrame:
    """HEALTH_SUMMARY of `runs` of `n` cases; `fails` has (editor, dataset) whose edits all break off."""
    kept = [run for run in runs if (run["editor"], run["dataset"]) not in set(fails)]
    frames = [health_of(simulated_dataset(run["dataset"], n), run["editor"]) for run in kept]
    return summarise_health(kept, frames, Thresholds())


@cache
def summarised(dataset: str, editor: str, n: int, fails: bool = False) -> pd.DataFrame:
    """SUMMARY of one editor's run by the model `demo`; not to be changed."""
    cases = simulated_dataset(dataset, n).cases
    return summarise(scored(dataset, editor, n, fails)[1], cases, run_of(dataset, editor))


def simulated_run(model="demo", n=24, fails=(), datasets=DATASETS) -> SimulatedRun:
    """Every dataset and editor with `n` cases; `fails` has (editor, dataset) whose edits all break off."""
    made = SimulatedRun([], None, [], [], [])
    summaries = []
    for dataset in datasets:
        for editor in editors_of(dataset):
            what = dataset, editor, n, (editor, dataset) in fails
            probabilities, scores = scored(*what)
            made.runs.append(run_of(dataset, editor, model=model))
            made.probabilities.append(probabilities)
            made.scores.append(scores)
            made.cases.append(simulated_dataset(dataset, n).cases)
            summaries.append(summarised(*what).assign(model=model))
    return SimulatedRun(**{**vars(made), "summary": pd.concat(summaries, ignore_index=True)})
