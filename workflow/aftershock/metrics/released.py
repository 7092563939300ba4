"""Metrics of result files in the format of the study's released evaluators.

A file `<METHOD>_<dataset>.json` holds one record per case with the probabilities of the facts it asks for,
each as {rewrite: p, generation: [10 p]}; `<dataset>_model.json` has those of the unedited model for round
cases, by position, and `<METHOD>_<dataset>_multi.json` those after a multi-label edit. The numbers go by the
released names: CS, CM and Succ as in the paper's tables, TFD for what the code calls FFD, D divided by the
number of objects, JS not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.metrics import formulas
from aftershock.metrics.conflict import LOWEST_DROP
from aftershock.text_files import read_json

EXPECTED = "expected.json"
BASELINE = "_model"


@dataclass(frozen=True)
class Released:
    """Per-row values and their means, by file name without its ending."""

    rows: dict[str, pd.DataFrame]
    summary: dict[str, dict[str, float]]


def released_metrics(folder: str | PathLike) -> Released:
    """The numbers that the released summary prints of a folder of result files, and those behind them."""
    files = {path.stem: path for path in sorted(Path(folder).glob("*.json")) if path.name != EXPECTED}
    rows = {}
    for name, path in files.items():
        if name.endswith(BASELINE):
            continue
        records = _records(path)
        if "edit2" not in records[0]:
            rows[name] = conflict_rows(records)
            continue
        dataset = name.removesuffix("_multi").rsplit("_", 1)[-1]
        baseline = files.get(dataset + BASELINE)
        if baseline is None:
            raise ValueError(
                f"{path} needs the unedited model's probabilities: {dataset}{BASELINE}.json beside it"
            )
        rows[name] = round_rows(records, _records(baseline))
    return Released(rows, {name: released_summary(frame) for name, frame in rows.items()})


def _records(path: Path) -> list[dict[str, Any]]:
    records = read_json(path)
    if not isinstance(records, list) or not records:
        raise ValueError(f"{path} holds no list of results")
    return records


def p(reading: Mapping[str, Any]) -> float:
    """p(k): the mean over the edit prompt and the paraphrases, equally weighted."""
    return sum([*reading["generation"], reading["rewrite"]]) / (len(reading["generation"]) + 1)


def conflict_rows(records: list[dict[str, Any]]) -> pd.DataFrame:
    """Per case CS, CM, and Succ (coverage) or TFD (composite), with the probabilities they come from."""

    def column(name: str) -> pd.Series:
        return pd.Series([p(record[name]) for record in records], dtype=float)

    rows = {"cs_pre": column("CS_pre"), "cs_post": column("CS_post")}
    rows |= {"cm_pre": column("CM_pre"), "cm_post": column("CM_post")}
    rows["CS"] = formulas.exceeds(rows["cs_post"], rows["cs_pre"])
    rows["CM_unclamped"] = formulas.relative_drop(rows["cm_pre"], rows["cm_post"])
    rows["CM"] = rows["CM_unclamped"].clip(lower=LOWEST_DROP)
    if "S_post" in records[0]:
        rows |= {"s_pre": column("S_pre"), "s_post": column("S_post")}
        rows["Succ"] = formulas.exceeds(rows["s_post"], rows["s_pre"])
    if "fact_2" in records[0]:
        rows |= {name: column(name) for name in ("fact_0", "fact_2", "fact_o")}
        rows["TFD"] = formulas.relative_drop(rows["fact_0"], rows["fact_2"])
        rows["TFD_edit2_only"] = formulas.relative_drop(rows["fact_0"], rows["fact_o"])
    return pd.DataFrame(rows)


def round_rows(records: list[dict[str, Any]], baseline: list[dict[str, Any]]) -> pd.DataFrame:
    """Per case Succ, IR, FR, D and JS; `baseline` has the unedited model's records in the same order."""
    if len(records) != len(baseline):
        raise ValueError(
            f"{len(records)} results, but {len(baseline)} of the unedited model; they go by position"
        )

    def column(edit: str, target: str) -> pd.Series:
        return pd.Series([p(record[edit][target]) for record in records], dtype=float)

    rows = {
        "success_pre1": column("edit1", "target_true"),
        "success_post1": column("edit1", "target_new"),
        "success_pre2": column("edit2", "target_true"),
        "success_post2": column("edit2", "target_new"),
    }
    first = formulas.exceeds(rows["success_post1"], rows["success_pre1"])
    second = formulas.exceeds(rows["success_post2"], rows["success_pre2"])
    rows["Succ"] = (first + second) / 2
    after = _objects([record["edit2"] for record in records])
    before = _objects([record["model"] for record in baseline])
    if not after.index.equals(before.index):
        raise ValueError("results and unedited model differ in their numbers of objects; they go by position")
    case = after.index.get_level_values("case")
    terms = formulas.divergence_terms(formulas.shares(after, case), formulas.shares(before, case))
    # The released code multiplies 0 by the logarithm of 0 here.
    terms = terms.mask((after == 0) & (before == 0))
    others = formulas.exceeds(before, after).drop(0, level="position")
    rows["p_post"] = after.groupby("case").agg(list)
    rows["p_model"] = before.groupby("case").agg(list)
    rows["N"] = after.groupby("case").size()
    rows["n_others"] = rows["N"] - 1
    rows["fail_num"] = others.groupby("case").sum().reindex(rows["N"].index)
    rows["IR"] = rows["fail_num"] / rows["n_others"]
    rows["FR"] = formulas.majority(rows["IR"])
    rows["JS"] = terms.groupby("case").sum(skipna=False)
    rows["D"] = rows["JS"] / rows["N"]
    return pd.DataFrame(rows)


def _objects(readings: list[dict[str, Any]]) -> pd.Series:
    """p of the object edited back (position 0) and of the others, by (case, position)."""
    values = {
        (case, position): p(value)
        for case, reading in enumerate(readings)
        for position, value in enumerate([reading["target_new"], *reading.get("others", [])])
    }
    index = pd.MultiIndex.from_tuples(list(values), names=["case", "position"])
    return pd.Series(list(values.values()), index=index, dtype=float)


def released_summary(rows: pd.DataFrame) -> dict[str, float]:
    """The printed means: L rows and, where there, Succ, CS, CM, FFD (the paper's TFD), D, IR and FR."""
    printed = {"Succ": "Succ", "CS": "CS", "CM": "CM", "FFD": "TFD", "D": "D", "IR": "IR", "FR": "FR"}
    means = {
        name: float(rows[column].mean(skipna=False)) for name, column in printed.items() if column in rows
    }
    return {"L": len(rows), **means}
