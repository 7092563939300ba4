"""Bringing the files of benchmarks here from the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftershock.lm.files.fetch_text import fetch_files
from aftershock.tasks.sources import KINDS


def download(source: Mapping[str, Any], into: Path) -> None:
    """Make the folder `into` of the files of a data set that fit the source's patterns.

    `source` has `hub`, `revision` and `files`. ValueError names the data set, why it cannot be had, and the
    local alternative.
    """
    try:
        fetch_files(source, into, KINDS)
    except ValueError as error:
        raise ValueError(
            f"{error}; or set abilities.data to a folder, and put these files below {source['hub']}/ in it, "
            "or those that the tasks' files name as local"
        ) from error
