"""A whole simulated run, scored and summarised, for tests of what is made from it."""

from dataclasses import dataclass

import pandas as pd

from aftershock.datasets.table import DATASETS
from aftershock.figures import Drawn
from aftershock.metrics.run import score_run
from aftershock.metrics.summary import summarise
from simulate import EDITORS, failed, simulate


@dataclass(frozen=True)
class SimulatedRun:
    """What tables and figures are made from; lists go by run."""

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
        }
        return Drawn(**given | changed)

    def _of_rounds(self, tables):
        pairs = zip(self.runs, tables, strict=True)
        return [table if run["dataset"].startswith("round") else None for run, table in pairs]


def simulated_run(model="demo", n=24, editors=EDITORS, fails=(), datasets=DATASETS) -> SimulatedRun:
    """Every dataset and editor with `n` cases; `fails` has (editor, dataset) whose edits all break off."""
    made = SimulatedRun([], None, [], [], [])
    summaries = []
    for dataset in datasets:
        sim = simulate(dataset, n, editors=editors)
        for editor in editors:
            if editor.endswith("_mle") and not dataset.startswith("round"):
                continue
            observed = sim.observations[editor], sim.telemetry[editor]
            observations, telemetry = failed(sim) if (editor, dataset) in fails else observed
            shard = f"00000-{n - 1:05d}"
            given = sim.cases, sim.probes, sim.unedited, {shard: observations}, telemetry
            probabilities, scores = score_run(*given, dataset, [shard])
            made.runs.append({"model": model, "dataset": dataset, "editor": editor, "seed": 0})
            made.probabilities.append(probabilities)
            made.scores.append(scores)
            made.cases.append(sim.cases)
            summaries.append(summarise(scores, sim.cases, made.runs[-1]))
    return SimulatedRun(**{**vars(made), "summary": pd.concat(summaries, ignore_index=True)})
