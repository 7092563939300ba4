"""The headline metrics under every way to combine an object's tokens and its prompts.

Whether methods keep their order under all of them says how far a finding hangs on this choice.
"""

import pandas as pd

from aftershock.metrics.conflict import conflict_headlines
from aftershock.metrics.observed import PROMPTS, SCORINGS, Facts, Readings, column, scores
from aftershock.metrics.rounds import round_headlines
from aftershock.tables.runs import VARIANTS


def score_variants(cases: pd.DataFrame, facts: Facts, conflict: bool, single: bool) -> pd.DataFrame:
    """VARIANTS of `cases`; those of the geometric mean over all prompts are the values in SCORES."""
    every = Readings(cases, facts)
    parts = [VARIANTS.empty()]
    for scoring in SCORINGS:
        for prompts in PROMPTS:
            read = every.under(column(scoring, prompts))
            found = conflict_headlines(read, single) if conflict else round_headlines(read)
            parts.append(scores(found).assign(scoring=scoring, prompts=prompts))
    return pd.concat(parts, ignore_index=True)[list(VARIANTS.columns)].astype({"case_id": "int64"})
