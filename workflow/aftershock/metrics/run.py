"""The scores of one run: one model, dataset, editor and seed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftershock.datasets.table import find_dataset
from aftershock.metrics.conflict import score_conflict
from aftershock.metrics.facets import facets
from aftershock.metrics.holes import cases_in, gather
from aftershock.metrics.observed import (
    ALONE,
    CONTROL,
    FIRST,
    RANDOM,
    SECOND,
    Facts,
    lean,
    probabilities,
    scores,
)
from aftershock.metrics.rounds import MARGIN, held_out_objects, known_objects, score_round
from aftershock.metrics.variants import score_variants


@dataclass(frozen=True)
class Scored:
    """Test cases of a run with their probabilities and scores."""

    dataset: str
    cases: pd.DataFrame
    facts: Facts  # with PROBABILITIES
    scores: pd.DataFrame
    holes: pd.DataFrame

    def variants(self) -> pd.DataFrame:
        """VARIANTS."""
        return score_variants(
            self.cases, self.facts, find_dataset(self.dataset).kind == "conflict", self.dataset == "coverage"
        )

    def facets(self, edits: pd.DataFrame, graph: pd.DataFrame | None = None) -> pd.DataFrame:
        """FACETS, from EDITS and, where the graph is at hand, subject and object of its facts."""
        return facets(self.cases, edits, self.facts, graph)


def score_cases(
    cases: pd.DataFrame,
    probes: pd.DataFrame,
    unedited: pd.DataFrame,
    shards: Mapping[str, pd.DataFrame],
    telemetry: pd.DataFrame,
    dataset: str,
    ranges: Sequence[str],
    objects: pd.DataFrame | None = None,
    margin: float = MARGIN,
    second: pd.DataFrame | None = None,
    incomplete: bool = False,
    states: Sequence[str] | None = None,
) -> Scored:
    """Return the probabilities, scores and holes of the test cases in `ranges`.

    `shards` maps the range in a shard's file name to its OBSERVATIONS, lean or not; `objects` has
    OBJECT_SCORES, which say what a model knows; `second` the EDITS rows that make up the second edits, which
    say what a multi-label edit was given. ValueError names the shard of a case that is missing, not whole or
    there twice; with `incomplete` it is left out, its values are empty, `missing` is 1 and HOLES lists it.
    `states` are those that every case must have; None for those of the dataset's headline metrics.
    """
    conflict = find_dataset(dataset).kind == "conflict"
    failed = telemetry[telemetry["reason"].notna()]
    states = states or ((FIRST, SECOND, ALONE) if conflict else (FIRST, SECOND))
    shards = {shard: _lean(rows) for shard, rows in shards.items()}
    observations, holes = gather(cases, _lean(unedited), shards, ranges, failed, states, incomplete)
    in_ranges = cases["case_id"].isin([case for shard in ranges for case in cases_in(shard)])
    tested = cases[in_ranges & (cases["split"] == "test")]
    facts = probabilities(probes, observations)
    if conflict:
        table = score_conflict(tested, facts, dataset)
    else:
        known = known_objects(probes, objects) if objects is not None else None
        held_out = held_out_objects(probes, second) if second is not None else None
        table = score_round(tested, facts, known, margin, held_out)
    flags = {"edit_failed": edit_failed(tested, failed), "missing": missing(tested, holes)}
    return Scored(dataset, tested, facts, pd.concat([table, scores(flags)], ignore_index=True), holes)


def _lean(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if "first_logprob" in rows else lean(rows)


def edit_failed(cases: pd.DataFrame, failed: pd.DataFrame) -> pd.Series:
    """1.0 for each case of which an edit failed, controls aside."""
    counted = failed.loc[~failed["state"].isin([CONTROL, RANDOM]), "case_id"]
    return _flag(cases, counted)


def missing(cases: pd.DataFrame, holes: pd.DataFrame) -> pd.Series:
    """1.0 for each case of which something was not observed although no edit failed."""
    return _flag(cases, holes.loc[~holes["failed"], "case_id"])


def _flag(cases: pd.DataFrame, chosen: pd.Series) -> pd.Series:
    index = pd.Index(cases["case_id"], name="case_id")
    return pd.Series(index.isin(chosen).astype(float), index=index)
