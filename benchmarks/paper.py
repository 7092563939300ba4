"""Time of the conflict and round studies of Li et al. (2024, Tables 1 and 2) at measured rates.

Counts are of one model and one method: 12 000 cases, 28 500 edits, 63 600 scorings of eleven prompts, and
19 600 targets of the multi-label edit, each as costly as one edit of MEMIT. Beside these, once per model:
second moments from 200 vectors per dimension, verification of 24 000 facts (both objects of every case,
eleven prompts each), and the training of MEND's hypernetwork for as many batches as its settings allow.
"""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from aftershock.editors.mend import MendTraining
from aftershock.editors.mend.training import Batch, new_optimizer, train_step
from aftershock.lm.gradients import Texts
from aftershock.lm.model import LanguageModel
from aftershock.lm.statistics.moments import second_moments
from aftershock.lm.texts.tokens import encode_pairs
from benchmarks import models
from benchmarks.measure import Clock
from benchmarks.tasks import observed

CASES, EDITS, SCORINGS, LABELS = 12_000, 28_500, 63_600, 19_600
VECTORS_PER_DIMENSION = 200  # tokens behind second moments, for each dimension of the widest matrix
VERIFIED = 2 * CASES
PUBLISHED_STEPS = {"ft": 25, "rome": 20, "memit": 20, "mend": 1}


def rates(
    lm: LanguageModel, size: models.Size, methods: Sequence[str], device: str, quick: bool
) -> list[dict[str, Any]]:
    """Once-per-model work of a second: tokens of second moments, training batches of MEND."""
    rows = []
    if "memit" in methods or "rome" in methods:
        draw, words = Clock(device), models.vocabulary()
        starts = range(2 if quick else 64)
        documents = [" ".join(words[i % len(words)] for i in range(j, j + 100)) for j in starts]
        layers = size.layers["memit"]
        second_moments(lm, documents[:2], layers)  # what is slow the first time
        draw.start()
        moments = second_moments(lm, documents, layers)
        draw.stop()
        tokens = next(iter(moments.values())).count
        width = lm.weight(lm.projection(0)).shape[1]
        rows.append({"what": "moments", "rate": tokens / draw.total, "number": VECTORS_PER_DIMENSION * width})
    if "mend" in methods:
        settings = MendTraining()
        rows.append(
            {"what": "training", "rate": _training(lm, settings, device, quick), "number": settings.steps}
        )
    return rows


def _training(lm: LanguageModel, settings: MendTraining, device: str, quick: bool) -> float:
    """Batches of MEND's training per second: one edit, another wording of it, and one other text."""
    layers = range(lm.n_layers - min(3, lm.n_layers - 1), lm.n_layers)
    net = observed(lm, layers).requires_grad_(True)
    asked = models.requests(3)
    pairs = [(request.text, request.target_new) for request in asked]
    inner, outer, local = (Texts.of(lm, [pair], [0]) for pair in encode_pairs(lm, pairs))
    batch, optimizer, clock = Batch(1, inner, outer, local), new_optimizer(net, settings), Clock(device)
    steps = 2 if quick else 3 * settings.accumulate
    train_step(lm, net, batch, settings, optimizer, 0)
    clock.start()
    for step in range(1, steps + 1):
        train_step(lm, net, batch, settings, optimizer, step)
    clock.stop()
    return steps / clock.total


def project(table: pd.DataFrame) -> pd.DataFrame:
    """Hours of every part of the paper, by model and precision, from the fastest batch size of each method.

    An edit's time grows with its steps: one measured at fewer than published is scaled up. `plain` hours are
    of the float32 plain path, and of edits and scorings alone.
    """
    parts = []
    for (model, precision), rows in table.groupby(["model", "precision"], sort=False):
        best = rows[rows["B"].notna()].sort_values("engine_per_s").groupby("method").last()
        hours: dict[str, tuple[float, float]] = {}
        per_edit = {
            method: tuple(
                PUBLISHED_STEPS[method] / row["steps"] / row[speed] / 3600
                for speed in ("engine_per_s", "plain_per_s")
            )
            for method, row in best.iterrows()
            if method in PUBLISHED_STEPS
        }
        for method, (engine, plain) in per_edit.items():
            hours[f"{method}: {EDITS} edits"] = (engine * EDITS, plain * EDITS)
        if "memit" in per_edit:
            engine, plain = per_edit["memit"]
            hours[f"mle: {LABELS} targets"] = (engine * LABELS, plain * LABELS)
        if "score-1" in best.index:
            engine, plain = (1 / best.loc["score-1", s] / 3600 for s in ("engine_per_s", "plain_per_s"))
            for method in [*per_edit, *(["mle"] if "memit" in per_edit else [])]:
                hours[f"{method}: {SCORINGS} scorings"] = (engine * SCORINGS, plain * SCORINGS)
            hours[f"verification: {VERIFIED} scorings"] = (engine * VERIFIED, math.nan)
        if "what" in rows:
            for row in rows[rows["what"].notna()].itertuples():
                hours[f"{row.what}: {int(row.number)}"] = (row.number / row.rate / 3600, math.nan)
        both = pd.DataFrame(hours, index=["engine", "plain"]).T
        both.loc["all"] = both.sum(skipna=True)
        parts.append(both.rename_axis("part").reset_index().assign(model=model, precision=precision))
    return pd.concat(parts, ignore_index=True)[["model", "precision", "part", "engine", "plain"]]
