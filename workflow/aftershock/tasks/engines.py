"""The engines that ask a task's items of a model, by name."""

from collections.abc import Callable, Iterator
from importlib import import_module

import pandas as pd

ENGINES = {"builtin": "aftershock.tasks.builtin:run_items", "harness": "aftershock.tasks.harness:run_items"}


def find_engine(name: str) -> Callable[..., pd.DataFrame]:
    """Return the function `run_items` of an engine, which only its own jobs import."""
    module, _, function = ENGINES[name].partition(":")
    return getattr(import_module(module), function)


def remarks(outputs: pd.DataFrame) -> Iterator[str]:
    """Yield that prompts were cut, and that outputs are not finite, if so."""
    if n_cut := int((outputs["truncated"] > 0).sum()):
        most = outputs["truncated"].max()
        yield (
            f"{n_cut} of {len(outputs)} prompts are longer than the context and lost their beginning, "
            f"up to {most} tokens"
        )
    if n_broken := sum(any(value != value for value in some) for some in outputs["logprobs"]):
        yield f"{n_broken} of {len(outputs)} items have log-probabilities that are not finite"
