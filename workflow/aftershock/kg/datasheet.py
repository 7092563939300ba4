"""Datasheet of a mined graph: a page of Markdown that goes with every dataset built from it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from aftershock.kg.atlas.sources import LICENCES
from aftershock.kg.graph import find_graph
from aftershock.kg.logic import BodyRule, LogicRule
from aftershock.kg.queries import facts, instances

CHUNK = 1 << 20


@dataclass(frozen=True)
class Mined:
    """The tables of a mined graph, and the provenance of each stage's outputs."""

    sheet: pd.DataFrame  # rows of relations.tsv
    relations: pd.DataFrame
    rules: pd.DataFrame
    facts: pd.DataFrame
    instances: pd.DataFrame
    summary: pd.DataFrame  # summary.csv
    stages: Mapping[str, Mapping[str, Any]]  # provenance by stage; its rows are counted under "rows"
    left_out: Mapping[str, Mapping[str, int]]  # while mining, by rule and by relation
    dropped: Mapping[str, Mapping[str, int]]  # objects of one-to-many keys, by relation


def describe_graph(
    name: str,
    origin: Sequence[str],
    settings: Mapping[str, Any],
    mined: Mined,
    account: Mapping[str, Any] | None = None,
) -> str:
    """The page about the graph `name`; `origin` are lines about where and when it was read.

    `account` is what `make_atlas` says of an atlas.
    """
    namespace = settings["namespace"]
    parts = [
        f"# Facts mined from {name}",
        "Facts between entities, places where logic rules hold, and subjects with several objects, by id, "
        "with English labels. Every row that was dropped is counted with its reason.",
        "## Where from and when",
        bullets([*origin, f"licence: {find_graph(namespace).licence}"]),
        *(_of_atlas(account) if account else ()),
        "## Queries",
        "Standard SPARQL 1.1. Long answers are read in parts, by VALUES of a variable, and checked against "
        "counts; labels are asked for as rdfs:label in English, then in `mul`.",
        _queries(namespace, mined.summary, settings["mining"]["head_holds"]),
        "## Settings and code",
        bullets([f"seed of every sample: {settings['mining']['seed']}"]),
        fenced(yaml.safe_dump(dict(settings["mining"]), sort_keys=True)),
        _stages(mined.stages),
        "## Rules and one-to-many relations",
        "Instances have distinct entities; a relation's instances are its subjects with two to ten objects. "
        "Measures are AMIE's, on the sample. Functionality is that of the head: subjects divided by facts; "
        "the inverse is objects divided by facts.",
        _counted(mined.summary),
        "Left out, by reason:",
        _left_out(mined),
        "## Relations",
        _relations(mined),
        "## Facts",
        markdown(
            ["", "facts"],
            [("kept", int(mined.facts["kept"].sum())), *by_size(mined.facts["reason"].dropna())],
        ),
        "Rows of facts, instances and objects in which its target replaces a redirected entity: "
        f"{mined.stages['facts']['redirected']}.",
    ]
    return "\n\n".join(parts) + "\n"


def packages_origin(account: Mapping[str, Any]) -> list[str]:
    """Lines about the packages whose data an atlas is made of."""
    return [f"made from the data of {name} {v}: {LICENCES[name]}" for name, v in account["packages"].items()]


def _of_atlas(account: Mapping[str, Any]) -> list[str]:
    """The facts that an atlas took from its packages, and the reasons of those that it left out."""
    names = list(dict.fromkeys([*account["left_out"], *account["kept"]]))
    rows = [(name, account["kept"].get(name), _listed(account["left_out"].get(name))) for name in names]
    return [
        "## What was taken from the packages",
        "A fact that two packages tell is taken where they agree; resources/atlas.yaml lists what was looked "
        "at and left out. What follows from another fact (`capital of`, `official in`) is counted with that.",
        markdown(["", "taken", "left out"], rows),
    ]


def file_origin(path: str | PathLike, read_at: str) -> list[str]:
    """Lines about a file, with the sha256 of its bytes."""
    path = Path(path)
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(CHUNK):
            digest.update(block)
    return [
        f"file: `{path.name}`, {path.stat().st_size} bytes",
        f"sha256: `{digest.hexdigest()}`",
        f"facts read: {read_at}",
    ]


def time_of(path: str | PathLike) -> str:
    """Time at which a file was written, in UTC: tables hold no time, so that equal runs give equal bytes."""
    return datetime.fromtimestamp(Path(path).stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"* {line}" for line in lines)


def fenced(text: str) -> str:
    """Text as a fenced code block."""
    return f"```\n{text.strip()}\n```"


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table; shares get four digits, and missing values an empty cell."""
    lines = [header, ["---"] * len(header), *([_cell(value) for value in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_size(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Reasons with their numbers, the most frequent first."""
    counts = pd.Series(list(reasons), dtype=object).value_counts()
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _cell(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def _queries(namespace: str, summary: pd.DataFrame, head_holds: bool) -> str:
    """The queries as sent, less the parts that cut an answer into pages."""
    rules = [LogicRule.parse(rule) for rule in summary["rule"] if not rule.startswith("1-N@")]
    asked = rules if head_holds else [BodyRule(rule.body, rule.head) for rule in rules]
    lines = [facts("RELATION").rows, *(instances(rule).rows for rule in asked)]
    return fenced(find_graph(namespace).prefixes + "\n".join(lines))


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        (stage, found["rows"], _listed(found.get("left_out")), _short(found["code"]), _short(found["config"]))
        for stage, found in stages.items()
    ]
    versions = {name: v for found in stages.values() for name, v in found["versions"].items()}
    software = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    table = markdown(["file", "rows", "left out", "hash of code", "hash of settings"], rows)
    return f"{table}\n\nSoftware: {software}."


def _short(digest: str) -> str:
    """The start of a hash; the whole is in the file's metadata."""
    return f"`{digest[:12]}`"


def _counted(summary: pd.DataFrame) -> str:
    frame = summary.astype({"support": "Int64"})
    return markdown(list(frame.columns), frame.itertuples(index=False, name=None))


def _left_out(mined: Mined) -> str:
    rows = []
    for name in mined.summary["rule"]:
        relation_id = name.removeprefix("1-N@")
        if relation_id == name:
            found = mined.instances.loc[mined.instances["rule"] == name, "reason"].dropna()
            filtered = dict(by_size(found))
        else:
            filtered = dict(mined.dropped.get(relation_id, {}))
        rows.append((name, _listed(mined.left_out.get(relation_id)), _listed(filtered)))
    return markdown(["", "while mining", "by the filters (of 1-N@: objects)"], rows)


def _listed(counts: Mapping[str, int] | None) -> str:
    return "; ".join(f"{reason}: {number}" for reason, number in sorted((counts or {}).items()) if number)


def _relations(mined: Mined) -> str:
    frame = mined.sheet[["relation_id", "label", "functional"]].merge(mined.relations, on="relation_id")
    empty = frame.loc[frame["facts"] == 0, "relation_id"]
    table = markdown(list(frame.columns), frame[frame["facts"] > 0].itertuples(index=False, name=None))
    note = f"\n\nNo fact here: {', '.join(empty)}." if len(empty) else ""
    return f"`functional` is what relations.tsv says.\n\n{table}{note}"
