"""Editors tried at one layer after another, on dev cases."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from aftershock.editors.artifacts import with_sources
from aftershock.editors.contract import layers_of
from aftershock.editors.methods import make_editor, method_of, settings_of
from aftershock.experiments.tuning import Development
from aftershock.tables.models import LAYERS

MEASURES = ("success", "paraphrase", "locality", "objective")
Editors = Mapping[str, Mapping[str, Any]]
"""By label: {method, settings}, and regularisers where it has some."""


def sweep(
    development: Development,
    editors: Editors,
    layers: Sequence[int],
    artifacts: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """LAYERS rows of every editor: dev cases edited at each of `layers`, all other settings as given.

    An editor of several layers edits each with as many before it. The objective is success x paraphrase x
    locality, as in tuning.
    """
    rows, n = [], len(development.requests)
    for label, chosen in editors.items():
        method = chosen["method"]
        for place in _places(chosen, layers):
            settings = settings_of(method, chosen["settings"], {"layers": place})
            entries = chosen.get("regularisers", ())
            editor = make_editor(method, settings, development.lm, artifacts, seed, entries)
            found = development.measure(editor)
            for measure, value in zip(MEASURES, (*found, math.prod(found)), strict=True):
                rows.append((label, measure, place[-1], json.dumps(place), value, math.nan, math.nan, n))
    return pd.DataFrame(rows, columns=list(LAYERS.columns))


def layers_with(artifact: str, editors: Editors, layers: Sequence[int]) -> list[int]:
    """The layers for which `sweep` needs an artifact, for an editor or to make another artifact from it."""
    needing = [chosen for chosen in editors.values() if artifact in with_sources(_needs(chosen))]
    return sorted({layer for chosen in needing for place in _places(chosen, layers) for layer in place})


def _needs(chosen: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the artifacts that an editor needs."""
    return method_of(chosen["method"]).method.needs(settings_of(chosen["method"], chosen["settings"]))


def _places(chosen: Mapping[str, Any], layers: Iterable[int]) -> list[tuple[int, ...]]:
    """The layers that are edited together, for each last one that has enough before it."""
    width = len(layers_of(settings_of(chosen["method"], chosen["settings"])))
    if not width:
        raise ValueError(
            f"{chosen['method']} edits no layer, so that there is none to find; leave it out of "
            "find_layers.editors"
        )
    places = [tuple(range(last - width + 1, last + 1)) for last in layers if last >= width - 1]
    if not places:
        raise ValueError(
            f"{chosen['method']} edits {width} layers together; layers {list(layers)} are too low"
        )
    return places
