"""Remarks on the weights of a model that was stored with fewer bits."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROVENANCE = "provenance.json"  # beside fetched weights, see lm/files/fetch.py


def read_origin(weights: str | Path) -> dict[str, Any]:
    """Return the recorded origin of a folder of weights, with that of the folder that it is a copy of."""
    found = _read(Path(weights))
    if "quantisation" not in found and "path" in found:
        found = {**_read(Path(found["path"])), **found}
    return found


def _read(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / PROVENANCE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def dequantised(model: str, origin: Mapping[str, Any]) -> list[str]:
    """Return a line about a model whose weights were quantised before, none about others."""
    if "quantisation" not in origin:
        return []
    file = f"{origin.get('gguf', 'a GGUF file')}, sha256 {origin.get('gguf_sha256', 'unknown')[:16]}"
    return [
        f"{model}: weights dequantised from {origin['quantisation']} ({file}) to float32. What was lost when "
        "they were quantised stays lost: the model is near the published one, and not the same."
    ]
