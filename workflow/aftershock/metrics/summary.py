"""Scores in one row per metric, with intervals."""

import pandas as pd

from aftershock.metrics.catalogue import metric
from aftershock.metrics.intervals import RESAMPLES, estimate
from aftershock.seeds import generator
from aftershock.tables import SUMMARY

SUBSETS = ("all", "strict")


def summarise(
    scores: pd.DataFrame,
    cases: pd.DataFrame,
    run: dict[str, object],
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """SUMMARY rows of one run: the mean of each metric over all cases and over the strict ones.

    A case is strict when the old and the new fact cannot both hold. `run` names the model, dataset, editor
    and seed; `seed` is the bootstrap's. A metric that no case has a value for keeps its row, with n = 0.
    """
    values = scores.pivot(index="case_id", columns="metric", values="value")
    about = cases.set_index("case_id").loc[values.index]
    scales = {name: metric(name).scale for name in values.columns}
    rows = []
    for subset in SUBSETS:
        part = values[about["strict"]] if subset == "strict" else values
        rng = generator(seed, *run.values(), subset)
        estimates = estimate(part, about.loc[part.index, "cluster"], scales, rng, resamples)
        rows += [{**run, "subset": subset, "metric": name, **vars(e)} for name, e in estimates.items()]
    return pd.DataFrame(rows, columns=list(SUMMARY.columns))
