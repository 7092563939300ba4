"""The table RANKS: the methods of a run, question by question."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from aftershock.metrics.ranking.questions import WRITE
from aftershock.metrics.ranking.ranks import common, rank
from aftershock.metrics.ranking.samples import Sample
from aftershock.metrics.settings import DEFAULTS, Statistics
from aftershock.tables.report import RANKS

ONE_CLUSTER = "one cluster: nothing can be told from chance"


def ranking(samples: Iterable[Sample], settings: Statistics = DEFAULTS) -> pd.DataFrame:
    """Return RANKS, methods in the order of their ranks and those without one last."""
    parts = [_of_sample(sample, settings) for sample in samples]
    if not parts:
        return RANKS.empty()
    rows = pd.concat(parts, ignore_index=True)
    written = rows[rows["question"] == WRITE].set_index(["model", "editor"])["value"]
    rows["written"] = [written.get(key) for key in zip(rows["model"], rows["editor"], strict=True)]
    whole = dict.fromkeys(("rank", "rank_low", "rank_high"), "Int64")
    return rows[list(RANKS.columns)].astype({**whole, "written": float})


def _of_sample(sample: Sample, settings: Statistics) -> pd.DataFrame:
    """Return RANKS of one sample, without the share that a method writes."""
    ranked, measures = common(sample.measures)
    about = {
        "model": sample.model,
        "question": sample.question.name,
        "place": sample.place,
        "metrics": ", ".join(sample.metrics),
        "better": sample.question.better,
        "power": settings.power,
    }
    rows = pd.DataFrame({"editor": sample.methods}).assign(**about, n=0, clusters=0, may_be_best=False)
    numbers = ("value", "rank", "rank_low", "rank_high", "difference", "difference_low", "difference_high")
    rows[[*numbers, "detectable"]] = np.nan
    rows["other"], rows["winner"] = None, False
    rows["note"] = [_note(sample, place, bool(ranked[place])) for place in range(len(sample.methods))]
    if ranked.any():
        found = rank(measures, sample.question.better, (sample.model,), settings)
        methods = np.array(sample.methods, dtype=object)[ranked]
        several = len(methods) > 1
        figures = {
            "value": found.value,
            "rank": found.rank,
            "rank_low": found.low,
            "rank_high": found.high,
            "difference": found.difference,
            "difference_low": found.difference - found.half,
            "difference_high": found.difference + found.half,
            "detectable": found.detectable,
            "other": [methods[place] if place >= 0 else None for place in found.other],
            "may_be_best": found.low == 1,
            "winner": (found.high == 1) & several,
        }
        for name, values in figures.items():
            rows.loc[ranked, name] = values
        rows.loc[ranked, ["n", "clusters"]] = found.n, found.clusters
        if several and np.isnan(found.half).all():
            rows.loc[ranked, "note"] = ONE_CLUSTER
    return rows.sort_values("rank", kind="stable")


def _note(sample: Sample, place: int, ranked: bool) -> str | None:
    """Return the reason why a method has no rank, or on how few of its values it rests; None for neither."""
    filled = [~np.isnan(measure.values) for measure in sample.measures]
    reached = sum(int(part[:, place].sum()) for part in filled)
    most = sum(int(part.any(1).sum()) for part in filled)
    own = sample.notes.get(sample.methods[place])
    if reached == most:
        return own
    words = f"{reached or 'none'} of {most} values" if reached else "no value"
    if ranked:
        text = f"{words}; all are ranked on those that they share"
    else:
        text = f"not ranked: {words}" + (", and none that all methods share" if 2 * reached >= most else "")
    return f"{text}; {own}" if own else text
