"""Results do not depend on how the cases of a run are divided into jobs."""

from functools import cache

import pandas as pd
import pytest
import torch

from aftershock.config.shards import shard_ranges
from aftershock.datasets.table import CONFLICT_STATES, ROUND_STATES
from aftershock.experiments.cases import run_cases, score_unedited
from aftershock.metrics.observed import lean
from aftershock.metrics.run import score_cases
from aftershock.tables.cases import EDITS
from aftershock.tables.graph import PROMPTS
from editing import make
from simulate import simulate
from tiers import some
from tiny import CITIES, NAMES, TEMPLATES, tiny

CASES = 64
CUTS = {1: 64, 2: 32}  # shards, and cases of each
RUNS = {
    "ft": ("reverse", {"steps": 2}),
    "rome": ("reverse", {"steps": 3}),
    "memit": ("round_easy", {"steps": 3}),
}


@cache
def dataset(name, cases=CASES):
    """A simulated dataset about things that the tiny models can say, with edits of its cases."""
    sim = simulate(name, cases)
    probes = sim.probes.copy()
    for column, labels in (("subject", NAMES), ("object", CITIES)):
        codes = probes[f"{column}_id"].astype("category").cat.codes
        probes[column] = [labels[code % len(labels)] for code in codes]
    edits = []
    roles = [("e1", "target", "original"), ("e2", "original", "target"), ("multi", "original", "target")]
    if name == "reverse":
        roles = [("e1", "old", "e1_true"), ("e2", "new_exp", "e2_true"), ("control", "e2_true", "new_exp")]
    facts = probes.drop_duplicates(["case_id", "role"]).set_index(["case_id", "role"])
    for case in range(cases):
        for edit, new, true in roles:
            to, old = facts.loc[case, new], facts.loc[case, true]
            row = to["subject_id"], to["subject"], to["relation_id"], TEMPLATES[case % len(TEMPLATES)]
            edits.append(
                (case, edit, 0, *row, to["object_id"], to["object"], old["object_id"], old["object"])
            )
    prompts = [
        (relation, i, template, "sheet")
        for relation in sorted(set(probes["relation_id"]))
        for i, template in enumerate(TEMPLATES)
    ]
    tables = (
        pd.DataFrame(edits, columns=list(EDITS.columns)),
        pd.DataFrame(prompts, columns=list(PROMPTS.columns)),
    )
    return sim.cases, probes, *tables


def run(lm, method, shards):
    """Observations and telemetry of each shard, edited by an editor of its own as in a job of its own."""
    name, changes = RUNS[method]
    _, probes, edits, prompts = dataset(name)
    states = CONFLICT_STATES if name == "reverse" else ROUND_STATES
    parts = {}
    for shard in shards:
        first, last = map(int, shard.split("-"))
        mine, asked = (frame[frame["case_id"].between(first, last)] for frame in (edits, probes))
        parts[shard] = run_cases(lm, make(method, lm, **changes), mine, asked, prompts, states)
    return parts


@pytest.fixture(scope="module")
def lm():
    torch.set_num_threads(1)
    return tiny(dtype=torch.float32)


@pytest.mark.parametrize("method", some(RUNS, ["memit"]))
def test_one_and_two_shards_give_equal_tables(lm, method):
    name, _ = RUNS[method]
    cases, probes, _, prompts = dataset(name)
    unedited = score_unedited(lm, probes, prompts)
    found = {}
    for n, size in CUTS.items():
        ranges = shard_ranges(CASES, size)
        assert len(ranges) == n
        parts = run(lm, method, ranges)
        observations, telemetry = (
            pd.concat([part[i] for part in parts.values()], ignore_index=True) for i in range(2)
        )
        assert set(observations["case_id"]) == set(range(CASES))
        scored = score_cases(
            cases,
            probes,
            lean(unedited),
            {shard: lean(part[0]) for shard, part in parts.items()},
            telemetry,
            name,
            ranges,
        )
        found[n] = observations, telemetry, scored.facts.table, scored.scores
    assert found[1][3]["value"].notna().mean() > 0.5  # something is scored
    for whole, cut in zip(found[1], found[2], strict=True):
        pd.testing.assert_frame_equal(whole, cut)  # bit for bit: no shard cuts a block of 32 cases
