"""Fetching of text data sets from the Hub, to be read without a network."""

import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from aftershock.lm.files.hub import find_repository, place
from aftershock.lm.texts.documents import KINDS, kind_of
from aftershock.output import whole_folder


def fetch_text(source: Mapping[str, Any], into: Path) -> None:
    """Make the folder `into`: files with text of a data set of the Hub; see `fetch_files`."""
    fetch_files(source, into, KINDS)


def fetch_files(source: Mapping[str, Any], into: Path, kinds: Sequence[str]) -> None:
    """Make the folder `into`: the files of a data set of the Hub whose names fit one of the patterns.

    All of these must be of the `kinds`, endings of names. `source` is {hub: id, revision: commit, tag or
    branch, files: [patterns such as data/train-*.parquet]}.
    What has arrived when a run is killed lies in a hidden folder beside `into`, where the next run goes on.
    """
    repository = find_repository(source["hub"], source["revision"], kind="dataset")
    names = [
        name
        for name in repository.sha256
        if any(fnmatch(name, pattern) for pattern in source["files"]) and ".." not in name.split("/")
    ]
    if not names or any(kind_of(Path(name)) not in kinds for name in names):
        listed = ", ".join(sorted(names or repository.sha256)[:8])
        raise ValueError(
            f"{repository}: files {source['files']} must fit some and only {', '.join(kinds)}; among "
            f"{'those that fit' if names else 'its files'}: {listed}"
        )
    work = into.with_name(f".{into.name}.{repository.commit[:12]}.fetching")
    paths = repository.download(names, work)
    with whole_folder(into) as folder:
        for name, path in paths.items():
            place(path, folder / name)
    for unfinished in into.parent.glob(f".{into.name}.*.fetching"):
        shutil.rmtree(unfinished)
