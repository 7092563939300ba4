"""Files of tensors that this project writes, opened so that a damaged one is named."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open


@contextmanager
def open_tensors(path: str | Path, device: str = "cpu") -> Iterator[Any]:
    """Yield an open safetensors file; ValueError names one that is damaged, cut short or something else."""
    try:
        with safe_open(path, framework="pt", device=device) as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); delete it and run again") from error
