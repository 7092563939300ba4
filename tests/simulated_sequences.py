"""Made-up sequences of edits with the shape of real ones: edits, telemetry, observations, tasks and outputs.

Nothing is edited: a method is how much of an ability it leaves after so many edits. Used to test curves,
their figures and the page without a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.answers import answers
from aftershock.metrics.abilities.edits import made_at, sequence_health, sequence_scores
from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.seeds import generator
from aftershock.tables.sequences import (
    SEQUENCE_EDITS,
    SEQUENCE_OBSERVATIONS,
    SEQUENCE_TELEMETRY,
    TASK_ITEMS,
    TASK_OUTPUTS,
)
from aftershock.tasks.definition import make_task
from aftershock.tasks.scoring import score_items
from simulate import HOSTILE

CHECKPOINTS = (0, 1, 5, 10, 20, 50, 100)
SENTIMENT = TaskInfo("sst2", "choice", ("acc", "auc"), "SST-2", "SST-2", two_way=True)
FACTS = TaskInfo("facts", "choice", ("acc",), "Facts", "Facts")
SUMS = TaskInfo("sums", "generate", ("exact_match",), "Sums", "GSM8K")
TOXIC = TaskInfo("toxic", "choice", ("acc", "auc"), "Toxicity", "ToxiGen", two_way=True, safety=True)
TASKS = (SENTIMENT, FACTS, SUMS, TOXIC)
SKILL = {"sst2": 0.85, "facts": 0.6, "sums": 0.5, "toxic": 0.5}
"""Accuracy of the unedited model on each task; on the last it is that of chance."""

Kept = Callable[[int], float]
"""The share of an ability that is left after so many edits."""


def steady(n: int) -> float:
    """Nothing is lost."""
    return 1.0


def fading(n: int) -> float:
    """Lost by and by, most of it at 100 edits."""
    return float(np.clip(1.05 - 0.25 * np.log10(1 + n) ** 1.6, 0.0, 1.0))


def broken(n: int) -> float:
    """Lost at once between 10 and 20 edits."""
    return 1.0 if n <= 10 else 0.0


METHODS: Mapping[str, Kept] = {"rome": broken, "alphaedit": steady}
MANY: Mapping[str, Kept] = {f"method {i:02}": (steady, fading, broken)[i % 3] for i in range(15)}


@dataclass(frozen=True)
class Sequenced:
    """Tables of some runs, by run."""

    runs: list[dict]
    edits: list[pd.DataFrame]
    telemetry: list[pd.DataFrame]
    answers: list[pd.DataFrame]
    scores: list[pd.DataFrame]
    sequence_scores: list[pd.DataFrame]
    health: list[pd.DataFrame]
    outputs: list[Mapping[str, pd.DataFrame]]


def items_of(task: TaskInfo, n: int) -> pd.DataFrame:
    """TASK_ITEMS with uneven classes in two-way tasks."""
    rng = generator(0, "items", task.name)
    rows = []
    for i in range(n):
        text = HOSTILE[i % len(HOSTILE)] if i < len(HOSTILE) else f"What of {task.name} number {i}?"
        choices, gold, right = [], None, []
        if task.two_way:
            choices, gold = [" no", " yes"], int(rng.random() < 0.45)
        elif task.kind == "choice":
            choices, gold = [f" thing {i + k}" for k in range(4)], int(rng.integers(4))
        else:
            right = [str(10 + i)]
        rows.append(
            (f"{task.name}-{i:04}", None, f"{text}\nAnswer:", text, choices, gold, right, [f"Name {i}"])
        )
    return pd.DataFrame(rows, columns=list(TASK_ITEMS.columns)).astype({"gold": "Int64"})


def outputs_of(
    task: TaskInfo, items: pd.DataFrame, checkpoint: int, kept: float, names: Sequence[object]
) -> pd.DataFrame:
    """TASK_OUTPUTS of a model with `kept` of its skill; the rest says one answer, over and over."""
    luck = generator(0, "luck", task.name).random(len(items))
    moved = generator(0, "moved", task.name, checkpoint, *names).random(len(items))
    rows = []
    for i, item in enumerate(items.itertuples()):
        able = moved[i] < kept
        right = luck[i] < SKILL[task.name]
        logprobs, text = [], None
        if task.kind == "choice":
            wrong = (int(item.gold) + 1) % len(item.choices)
            said = 0 if not able else int(item.gold) if right else wrong
            logprobs = [-3.0 - 0.1 * luck[i]] * len(item.choices)
            logprobs[said] = -1.0 - luck[i]
        else:
            text = (
                "the the the the the the" if not able else f"It is {item.answers[0] if right else 'unknown'}."
            )
        k = len(logprobs)
        rows.append((checkpoint, item.item_id, logprobs, [1.0] * k, [False] * k, text, text and True, 0))
    return pd.DataFrame(rows, columns=list(TASK_OUTPUTS.columns))


def scored_of(task: TaskInfo, items: pd.DataFrame, outputs: pd.DataFrame) -> pd.DataFrame:
    """TASK_SCORES of the metrics of these tasks."""
    given = {"kind": task.kind, "metrics": list(task.metrics), "parse": {"pattern": r"It is (\w+)\."}}
    return score_items(make_task(task.name, given), items, outputs)


def edits_of(n: int) -> pd.DataFrame:
    """SEQUENCE_EDITS of `n` subjects."""
    rows = [(i, f"row {i}", "{} is from", f"Name {i}", "Rome", "Paris", "P27", True, None) for i in range(n)]
    return pd.DataFrame(rows, columns=list(SEQUENCE_EDITS.columns))


def telemetry_of(n: int, kept: Kept, order: int, stops_at: int | None = None) -> pd.DataFrame:
    """SEQUENCE_TELEMETRY of `n` edits, or of those until it stops; perplexity grows as abilities are lost."""
    ids = np.arange(n) if order == 0 else generator(order, "order").permutation(n)
    rows = []
    for position in range(1, (stops_at or n) + 1):
        last = position == stops_at
        nll = 3.0 + 4.0 * (1 - kept(position))
        rows.append(
            (position, ids[position - 1], position, not last, -0.1, 20, 0.05, 2.0, 0.01, 2.0 * position**0.6,
            50.0, 1.5, nll, 3.0, "weights are not finite" if last else None)
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(SEQUENCE_TELEMETRY.columns))


def observations_of(
    telemetry: pd.DataFrame, checkpoints: Sequence[int], kept: Kept, order: int
) -> pd.DataFrame:
    """SEQUENCE_OBSERVATIONS of the edits made by each checkpoint, of older ones fewer."""
    rows = []
    for checkpoint in checkpoints:
        rng = generator(1, "asked", checkpoint, order)
        made = telemetry[telemetry["position"] <= (checkpoint or len(telemetry))]
        for row in made.itertuples():
            holds = rng.random() < kept(checkpoint) * 0.995 ** (checkpoint - row.position) and checkpoint > 0
            kind = (("edit", 0), ("paraphrase", 0), ("paraphrase", 1), ("neighbour", 0), ("neighbour", 1))
            for role, number in kind:
                match = holds and rng.random() < (1.0 if role == "edit" else 0.8)
                if role == "neighbour":
                    match = rng.random() < (0.9 if checkpoint == 0 else 0.9 * kept(checkpoint))
                rows.append(
                    (checkpoint, row.edit_id, role, number, -1.0 if match else -6.0, 2, bool(match), -3.0, 2)
                )
    return pd.DataFrame(rows, columns=list(SEQUENCE_OBSERVATIONS.columns))


def sequenced(
    methods: Mapping[str, Kept] = METHODS,
    orders: Sequence[int] = (0, 1),
    tasks: Sequence[TaskInfo] = TASKS,
    checkpoints: Sequence[int] = CHECKPOINTS,
    items: int = 120,
    stops: Mapping[str, int] | None = None,
    model: str = "demo",
) -> Sequenced:
    """Every method and order of one plan; `stops` has the edits after which a method breaks off."""
    rows, n = [], max(checkpoints)
    what = made_at({c: range(1, c + 1) for c in checkpoints}, {})
    edits, listed = edits_of(n), {task.name: items_of(task, items) for task in tasks}
    for editor, kept in methods.items():
        for order in orders:
            stops_at = (stops or {}).get(editor)
            reached = [c for c in checkpoints if c <= (stops_at or n)]
            telemetry = telemetry_of(n, kept, order, stops_at)
            answered, scored, outputs = [], [], {}
            for task in tasks:
                parts = [
                    outputs_of(task, listed[task.name], c, kept(c), (editor, order) if c else ())
                    for c in reached
                ]
                outputs[task.name] = pd.concat(parts, ignore_index=True)
                found = scored_of(task, listed[task.name], outputs[task.name])
                about_edit = [i % 20 == 0 for i in range(items)]
                answered.append(answers(task, listed[task.name], outputs[task.name], found, about_edit))
                scored.append(found.assign(task=task.name))
            observations = observations_of(telemetry, reached, kept, order)
            rows.append(
                (
                    {"model": model, "plan": "hundred", "editor": editor, "order": order},
                    *(edits, telemetry),
                    *(pd.concat(tables, ignore_index=True) for tables in (answered, scored)),
                    sequence_scores(edits, telemetry, observations, what),
                    *(sequence_health(telemetry, what, reached), outputs),
                )
            )
    return Sequenced(*map(list, zip(*rows, strict=True)))
