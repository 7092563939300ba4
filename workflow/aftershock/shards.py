"""Concatenation of tables that several jobs wrote in parts."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import pandas as pd

from aftershock.tables import Table


def gather(table: Table, paths: Sequence[str | PathLike], wanted: pd.DataFrame) -> pd.DataFrame:
    """The rows of all `paths`, one for each key of `wanted` and in that order.

    A file that cannot be read whole is removed, so that the next run makes it anew; ValueError names it.
    ValueError also names the files when a key is in none or in two of them.
    """
    frames, damaged = [], []
    for path in paths:
        try:
            frames.append(table.read(path).assign(path=str(path)))
        except ValueError as error:
            Path(path).unlink(missing_ok=True)
            damaged.append(str(error).partition("\n")[0].removesuffix("; delete it and run again"))
    if damaged:
        raise ValueError(f"{'; '.join(damaged)}. Removed what was damaged: run again, which makes it anew")
    found, key = pd.concat(frames, ignore_index=True), list(table.key)
    repeated = found[found.duplicated(key, keep=False)]
    missing = len(wanted.merge(found[key], on=key, how="left", indicator=True).query("_merge == 'left_only'"))
    if len(repeated) or missing or len(found) != len(wanted):
        where = ", ".join(sorted(set(repeated["path"]))) or ", ".join(map(str, paths))
        raise ValueError(
            f"table {table.name}: of {len(wanted)} rows asked for, {missing} are in no file, and "
            f"{len(repeated)} of {len(found)} rows read repeat a key: delete {where} and run again"
        )
    return wanted[key].merge(found, on=key)[list(table.columns)]
