"""Texts that an edit should leave alone, from files in the format of CounterFact."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.datasets.mend import LOCAL_COLUMNS
from aftershock.seeds import derive
from aftershock.text_files import read_json

SHARES = ("dev", "test", "train", "train", "train")  # each a fifth of the subjects


def texts_to_learn(path: str | Path) -> pd.DataFrame:
    """LOCAL_COLUMNS of the train and dev texts of `mend.locality_file`, see `read_locality`."""
    return _of_splits(f"mend.locality_file {path}", path, ("train", "dev"))


def texts_to_ask(path: str | Path) -> pd.DataFrame:
    """LOCAL_COLUMNS of the test texts of `cases.locality_file`, each once: MEND never learns one of these."""
    found = _of_splits(f"cases.locality_file {path}", path, ("test",))
    return found.drop_duplicates(["prompt", "target"], ignore_index=True)


def _of_splits(where: str, path: str | Path, splits: tuple[str, ...]) -> pd.DataFrame:
    found = read_locality(path, where)
    for split in splits:
        if split not in set(found["split"]):
            raise ValueError(
                f"{where} has too few subjects for split {split!r}: give a file with more of them"
            )
    return found[found["split"].isin(splits)].reset_index(drop=True)


def read_locality(path: str | Path, where: str) -> pd.DataFrame:
    """LOCAL_COLUMNS of a JSON file, splits disjoint by subject; no relation is known.

    Records are those of the published CounterFact (neighbours and the object that they share) or of the flat
    form that EasyEdit reads (one text and its answer). ValueError names the file, as `where`, and the record
    that is neither. A subject's split depends on nothing but its name: what one setting trains on is never
    what another one tests.
    """
    try:
        records = read_json(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), where, 1)) from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"{where} holds no list of records, as CounterFact's file does")
    rows = []
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f"{where}: record {number} is {record!r}, not an object")
        for subject, prompt, target in _texts(record, f"{where}: record {number}"):
            split = SHARES[derive(0, "locality", subject) % len(SHARES)]
            rows.append((split, subject, "", prompt, target))
    return pd.DataFrame(rows, columns=LOCAL_COLUMNS)


def _texts(record: Mapping[str, Any], where: str) -> Iterator[tuple[str, str, str]]:
    """(subject, prompt, target) of a record of either form."""
    if "requested_rewrite" in record:
        rewrite = record["requested_rewrite"]
        try:
            subject, target = rewrite["subject"], rewrite["target_true"]["str"]
            prompts = record["neighborhood_prompts"]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{where} lacks {error} of CounterFact's form") from error
        yield from ((_text(subject, where), _text(p, where), _text(target, where)) for p in prompts)
    elif {"locality_prompt", "locality_ground_truth"} <= set(record):
        subject = record.get("subject", record["locality_prompt"])
        yield tuple(
            _text(v, where) for v in (subject, record["locality_prompt"], record["locality_ground_truth"])
        )
    else:
        raise ValueError(
            f"{where} has {', '.join(map(str, record)) or 'no keys'}; it needs requested_rewrite and "
            "neighborhood_prompts (CounterFact), or locality_prompt and locality_ground_truth (EasyEdit)"
        )


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where} has {value!r} where a text is needed")
    return value
