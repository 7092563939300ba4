"""Items of a task drawn at random, with what the model says to them at every checkpoint."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from aftershock.metrics.abilities.settings import TaskInfo
from aftershock.seeds import generator
from aftershock.tables.abilities import ITEM_EXAMPLES

LONGEST = 1_200
"""Characters of a question or an output that are kept, from its end and from its beginning."""


def examples(
    task: TaskInfo, items: pd.DataFrame, outputs: pd.DataFrame, scores: pd.DataFrame, number: int, seed: int
) -> pd.DataFrame:
    """Return ITEM_EXAMPLES of `number` items, the same for every editor and order.

    Chosen at random and not for what became of them, so that a reader sees what is usual.
    """
    names = sorted(items["item_id"])
    drawn = generator(seed, "examples", task.name).permutation(len(names))[:number]
    chosen = items.set_index("item_id").loc[[names[i] for i in sorted(drawn)]]
    headline = scores[scores["metric"] == task.headline].set_index(["checkpoint", "item_id"])
    rows = []
    for output in outputs[outputs["item_id"].isin(chosen.index)].itertuples():
        item, score = chosen.loc[output.item_id], headline.loc[(output.checkpoint, output.item_id)]
        rows.append(
            {
                "task": task.name,
                "item_id": output.item_id,
                "checkpoint": output.checkpoint,
                "question": item["question"][-LONGEST:],
                "gold": "\n".join(_right(item))[:LONGEST],
                "text": _said(output.text, output.logprobs, item["choices"])[:LONGEST],
                "prediction": score["prediction"][:LONGEST] if score["parsed"] else None,
                "value": score["value"],
            }
        )
    return pd.DataFrame(rows, columns=list(ITEM_EXAMPLES.columns))


def _right(item: pd.Series) -> list[str]:
    if len(item["choices"]) and pd.notna(item["gold"]):
        return [str(item["choices"][int(item["gold"])]).strip()]
    return [str(answer) for answer in item["answers"]]


def _said(text: str | None, logprobs: Sequence[float], choices: Sequence[str]) -> str:
    """Return the generated text, else the likeliest choice with its share of their probability."""
    if isinstance(text, str):
        return text
    values = np.asarray(logprobs, float)
    if not len(choices) or np.isnan(values).any():
        return "" if not np.isfinite(values).any() else f"{values[0]:.1f} nats"
    share = np.exp(values - values.max())
    best = int(values.argmax())
    return f"{str(choices[best]).strip()} ({share[best] / share.sum():.0%})"
