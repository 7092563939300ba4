"""Texts that an edit should leave unchanged, from files in the format of CounterFact."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.datasets.json_fields import checked, field, label, text, texts, told
from aftershock.datasets.mend import LOCAL_COLUMNS
from aftershock.seeds import derive
from aftershock.text_files import read_json

FLAT = {"locality_prompt", "locality_ground_truth"}
LISTED = 5  # records that cannot be read, in an error
SHARES = ("dev", "test", "train", "train", "train")  # each a fifth of the subjects


def texts_to_learn(path: str | Path) -> pd.DataFrame:
    """LOCAL_COLUMNS of the train and dev texts of `mend.locality_file`, see `read_locality`."""
    return _of_splits(f"mend.locality_file {path}", path, ("train", "dev"))


def texts_to_ask(path: str | Path) -> pd.DataFrame:
    """LOCAL_COLUMNS of the test texts of `cases.locality_file`, each once; MEND is never trained on these."""
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
    form that EasyEdit reads (one text and its answer, or a list of each). A list that is empty or null gives
    no texts. ValueError names the file, as `where`, and the number and field of every record that has
    something else where texts should be. A subject's split depends on nothing but its name: what one setting
    trains on is never what another one tests.
    """
    try:
        records = read_json(path)
    except ValueError as error:
        raise ValueError(str(error).replace(str(path), where, 1)) from error
    if not isinstance(records, list) or not records:
        raise ValueError(f"{where} holds no list of records, as CounterFact's file does")
    rows, faults = [], []
    for number, record in enumerate(records):
        try:
            texts = list(_texts(record))
        except ValueError as error:
            faults.append(f"record {number}{error}")
            continue
        for subject, prompt, target in texts:
            split = SHARES[derive(0, "locality", subject) % len(SHARES)]
            rows.append((split, subject, "", prompt, target))
    if faults:
        more = f"; and {len(faults) - LISTED} others" if len(faults) > LISTED else ""
        raise ValueError(
            f"{where}: {len(faults)} of {len(records)} records cannot be read: "
            f"{'; '.join(faults[:LISTED])}{more}. Mend these records or leave them out"
        )
    return pd.DataFrame(rows, columns=LOCAL_COLUMNS)


def _texts(record: Any) -> Iterator[tuple[str, str, str]]:
    """(subject, prompt, target) of a record of either form; ValueError says in which field it is neither."""
    if not isinstance(record, dict):
        raise ValueError(f" is {told(record)}, not an object")
    if "requested_rewrite" in record:
        subject = text(record, "requested_rewrite.subject")
        target = label(record, "requested_rewrite.target_true")
        for prompt in texts(field(record, "neighborhood_prompts"), "neighborhood_prompts"):
            yield subject, prompt, target
    elif FLAT.issubset(record):
        prompts, targets = (record[name] for name in ("locality_prompt", "locality_ground_truth"))
        prompts = [prompts] if isinstance(prompts, str) else texts(prompts, "locality_prompt")
        targets = targets if isinstance(targets, list) else [targets] * len(prompts)
        if len(prompts) != len(targets):
            raise ValueError(
                f": locality_prompt has {len(prompts)} texts, locality_ground_truth {len(targets)}"
            )
        for prompt, target in zip(prompts, targets, strict=True):
            prompt = checked(prompt, "locality_prompt")
            subject = checked(record.get("subject", prompt), "subject")
            yield subject, prompt, checked(target, "locality_ground_truth")
    else:
        raise ValueError(
            f" has {', '.join(map(str, record)) or 'no keys'}; it needs requested_rewrite and "
            "neighborhood_prompts (CounterFact), or locality_prompt and locality_ground_truth (EasyEdit)"
        )
