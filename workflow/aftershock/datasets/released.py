"""Reader and writer of the published ConflictEdit and RoundEdit JSON files (Li et al., 2024).

A folder holds `coverage_edit.json`, `reverse_edit.json`, `composite_edit.json`, `easy.json` and `hard.json`,
each a list of rows, and `conflict_prompts.json`, `round_prompts.json`, ten paraphrases by relation. The
published models' files differ: composite rows of one carry `true_object` in the second edit, those of the
other do not, and coverage rows have no `rule`. Keys that nobody has described yet are kept as they are.

A file is held as two tables, RELEASED_ROWS and STATEMENTS. A row's layout says which keys it has in which
order, and the values come from the columns: so a file is written byte for byte as it was read.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.tables.cases import RELEASED_ROWS, STATEMENTS
from aftershock.tables.graph import PROMPTS
from aftershock.text_files import loads, read_text

FILES = {name: dataset.file for name, dataset in DATASETS.items()}
PROMPT_FILES = {"conflict": "conflict_prompts.json", "round": "round_prompts.json"}
ALL_FILES = (*FILES.values(), *PROMPT_FILES.values())

# What is read into columns, key by key; a string or a number has its type here.
ENTITY = {"id": str, "label": str}
RELATION = {"id": str, "prompt": str, "query": str, "label": str}
TRIPLE = {"relation": RELATION, "subject": ENTITY, "object": ENTITY}
EDIT = {**TRIPLE, "true_object": ENTITY, "new_object": ENTITY}
CONFLICT_ROW = {"rule": str, "triples": [TRIPLE], "prerequisites": [int], "type": str, "edits": [EDIT]}
ROUND_ROW = {"type": str, "edit": EDIT, "true_objects": [ENTITY]}
NAMES = {str: "a string", int: "a number", list: "a list", dict: "an object"}

COLUMNS: dict[tuple[str, ...], str] = {
    ("relation", "id"): "relation_id",
    ("relation", "label"): "relation",
    ("relation", "prompt"): "prompt",
    ("relation", "query"): "query",
    **{
        (part, key): f"{part}_id" if key == "id" else part
        for part in ("subject", "object", "new_object", "true_object")
        for key in ENTITY
    },
}
OPTIONAL = {"relation", "query", "true_object_id", "true_object"}
TRUTHS = ("triples", "true_objects")  # parts whose statements are true facts
LINE: dict[str, Any] = {"indent": None, "separators": [", ", ": "], "ensure_ascii": True, "ending": ""}
PAGE: dict[str, Any] = {"indent": 4, "separators": [",", ":"], "ensure_ascii": True, "ending": "\n"}
Path_ = tuple[str | int, ...]


@dataclass(frozen=True)
class Published:
    """One published file of cases."""

    rows: pd.DataFrame  # RELEASED_ROWS
    statements: pd.DataFrame  # STATEMENTS
    style: Mapping[str, Any] | None = None  # layout of its JSON; None if `dump` cannot reproduce it

    def take(self, numbers: Sequence[int]) -> "Published":
        """The rows with these numbers."""
        return Published(*(table[table["row"].isin(numbers)] for table in (self.rows, self.statements)))

    @property
    def truths(self) -> pd.DataFrame:
        """The statements that are true facts."""
        return self.statements[self.statements["part"].isin(TRUTHS)]

    @property
    def entities(self) -> pd.DataFrame:
        """Every mention of an entity: row, entity_id, label."""
        found = []
        for name in ("subject", "object", "new_object", "true_object"):
            part = self.statements[["row", f"{name}_id", name]].dropna()
            found.append(part.set_axis(["row", "entity_id", "label"], axis=1))
        return pd.concat(found).drop_duplicates(ignore_index=True)


def prompt_kind(dataset: str) -> str:
    """The prompt file, `conflict` or `round`, that belongs to `dataset`."""
    return "conflict" if dataset in CONFLICT else "round"


def names_in(folder: str | Path) -> tuple[list[str], list[str]]:
    """The names of the format in a folder, and those of other JSON files; ValueError without any of them."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder} is not a folder")
    there = sorted(path.name for path in Path(folder).iterdir())
    known = [name for name in ALL_FILES if name in there]
    if not known:
        found = f"it holds {', '.join(there[:5])}" if there else "it is empty"
        raise ValueError(f"{folder} holds no published file: {found}; known names: {', '.join(ALL_FILES)}")
    return known, [name for name in there if name.endswith(".json") and name not in known]


# --- in -----------------------------------------------------------------------------------------------------
def read_cases(folder: str | Path, dataset: str) -> Published:
    """The rows of one file; ValueError naming file, row and field where one is not of the format."""
    path = Path(folder) / FILES[dataset]
    data, style = _json(path)
    if not isinstance(data, list):
        raise ValueError(f"{path} is not a list of rows")
    rows, statements = [], []
    for number, row in enumerate(data):
        try:
            record, parts = _parse(dataset, row)
        except ValueError as error:
            raise ValueError(f"{path}: row {number} is not a {dataset} case: {error}") from error
        rows.append({"row": number, **record})
        statements += [{"row": number, **part} for part in parts]
    return Published(
        pd.DataFrame(rows, columns=list(RELEASED_ROWS.columns)),
        pd.DataFrame(statements, columns=list(STATEMENTS.columns)),
        style,
    )


def read_prompts(folder: str | Path, kind: str) -> tuple[pd.DataFrame, Mapping[str, Any] | None]:
    """PROMPTS rows of `conflict_prompts.json` or `round_prompts.json`, in their order, and the file's style.

    Paraphrases are numbered from 1; number 0, the edit prompt, is in the rows of the cases.
    """
    path = Path(folder) / PROMPT_FILES[kind]
    data, style = _json(path)
    if not isinstance(data, dict):
        raise ValueError(f"{path} is not an object of lists of templates by relation")
    found = []
    for relation_id, templates in data.items():
        if not isinstance(templates, list) or not templates or not all(map(_is_text, templates)):
            raise ValueError(f"{path}: {relation_id} is not a list of templates")
        found += [(relation_id, i, text, "released") for i, text in enumerate(templates, start=1)]
    return pd.DataFrame(found, columns=list(PROMPTS.columns)), style


def style_of(text: str, data: object) -> Mapping[str, Any] | None:
    """The arguments with which `dump` turns `data` into `text`; None where no known style does."""
    ending = text[len(text.rstrip()) :]
    choices = product((None, 4, 2, 1), ([", ", ": "], [",", ":"], [",", ": "]), (True, False))
    for indent, separators, ascii_only in choices:
        style = {"indent": indent, "separators": separators, "ensure_ascii": ascii_only, "ending": ending}
        if dump(data, style) == text:
            return style
    return None


def _json(path: Path) -> tuple[Any, Mapping[str, Any] | None]:
    """The data of a file and its style, None for that of a compressed file or one in another encoding."""
    try:
        text = read_text(path)
        data = loads(text)
        return data, style_of(text, data) if text.encode() == path.read_bytes() else None
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist; the folder must hold {', '.join(ALL_FILES)}") from error
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as JSON ({error}); fetch it again") from error


def _parse(dataset: str, row: object) -> tuple[dict, list[dict]]:
    """The RELEASED_ROWS record of a row and its STATEMENTS."""
    known: dict[Path_, Any] = {}
    extra: dict[Path_, Any] = {}
    layout = _take(row, CONFLICT_ROW if dataset in CONFLICT else ROUND_ROW, (), known, extra)
    if dataset in ("reverse", "composite"):
        _required(("rule",), known)
    numbers = {"triples": DATASETS[dataset].triples, "edits": 2} if dataset in CONFLICT else {"edit": 1}
    parts = []
    for name, number in numbers.items():
        found = layout.get(name)
        if found is None or (name != "edit" and len(found) != number):
            raise ValueError(f"{name} is missing" if found is None else f"{name} has not {number} entries")
        for i in range(number):
            path = (name,) if name == "edit" else (name, i)
            parts.append({"part": name, "position": i, **_statement(path, known)})
    if dataset not in CONFLICT:
        if not layout.get("true_objects"):
            raise ValueError("true_objects is missing or empty")
        about = {c: v for c, v in parts[0].items() if not c.startswith(("object", "new_", "true_"))}
        for i in range(len(layout["true_objects"])):
            own = {"object_id": ("id",), "object": ("label",)}
            entity = {column: _required(("true_objects", i, *key), known) for column, key in own.items()}
            parts.append({**about, "part": "true_objects", "position": i, **entity})
    prerequisites = layout.get("prerequisites")
    return {
        "type": known.get(("type",)),
        "rule": known.get(("rule",)),
        "prerequisites": None
        if prerequisites is None
        else json.dumps([known["prerequisites", i] for i in range(len(prerequisites))]),
        "layout": json.dumps(layout),
        "extra": json.dumps([[list(path), value] for path, value in extra.items()]) if extra else None,
    }, parts


def _take(value: Any, shape: Any, path: Path_, known: dict, extra: dict) -> Any:
    """The layout of `value`, with null in place of what goes into `known` and `extra` by its path."""
    kind: Any = shape if isinstance(shape, type) else type(shape)
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is str and not _is_text(value)):
        raise ValueError(f"{_shown(path)} is {json.dumps(value)[:40]}, {NAMES[kind]} was expected")
    if kind is list:
        return [_take(item, shape[0], (*path, i), known, extra) for i, item in enumerate(value)]
    if kind is not dict:
        known[path] = value
        return None
    layout = {}
    for key, item in value.items():
        if key in shape:
            layout[key] = _take(item, shape[key], (*path, key), known, extra)
        else:
            layout[key], extra[*path, key] = None, item
    return layout


def _statement(path: Path_, known: Mapping[Path_, str]) -> dict[str, str | None]:
    """The columns of a triple or an edit."""
    needed = ("relation", "subject", "object") if path[0] == "triples" else tuple(EDIT)
    found = {}
    for key, column in COLUMNS.items():
        if column in OPTIONAL or key[0] not in needed:
            found[column] = known.get((*path, *key))
        else:
            found[column] = _required((*path, *key), known)
    for one, other in (("id", "label"), ("label", "id")):
        if (*path, "true_object", one) in known:
            _required((*path, "true_object", other), known)
    return found


def _required(path: Path_, known: Mapping[Path_, str]) -> str:
    if path not in known:
        raise ValueError(f"{_shown(path)} is missing")
    return known[path]


def _shown(path: Path_) -> str:
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path)
    return text.removeprefix(".") or "the row"


def _is_text(value: object) -> bool:
    """True if `value` is a string that can be written as UTF-8: JSON may hold lone surrogates."""
    try:
        return isinstance(value, str) and (value.isascii() or bool(value.encode()))
    except UnicodeEncodeError:
        return False


# --- out ----------------------------------------------------------------------------------------------------
def dump(data: object, style: Mapping[str, Any] | None = None) -> str:
    """`data` as JSON, by default on one line of ASCII as the published cases are."""
    style = style or LINE
    text = json.dumps(
        data,
        indent=style["indent"],
        separators=tuple(style["separators"]),
        ensure_ascii=style["ensure_ascii"],
    )
    return text + style["ending"]


def write_cases(published: Published) -> str:
    """The text of a file of cases."""
    return dump(list(_rows(published)), published.style)


def write_prompts(prompts: pd.DataFrame, style: Mapping[str, Any] | None = PAGE) -> str:
    """The text of a prompt file with the paraphrases of PROMPTS."""
    more = prompts[prompts["prompt_id"] > 0].sort_values("prompt_id", kind="stable")
    order = prompts["relation_id"].drop_duplicates()
    by_relation = more.groupby("relation_id")["template"].agg(list)
    return dump({relation: by_relation[relation] for relation in order if relation in by_relation}, style)


def _rows(published: Published) -> Iterator[dict]:
    values: dict[int, dict[Path_, Any]] = {number: {} for number in published.rows["row"]}
    for record in published.statements.to_dict("records"):
        part, path = record["part"], (record["part"], record["position"])
        if part == "true_objects":
            own: dict[Path_, Any] = {("id",): record["object_id"], ("label",): record["object"]}
        else:
            own = {key: record[column] for key, column in COLUMNS.items()}
        prefix = (part,) if part == "edit" else path
        values[record["row"]].update({(*prefix, *key): value for key, value in own.items()})
    for row in published.rows.to_dict("records"):
        mine = values[row["row"]]
        mine |= {("type",): row["type"], ("rule",): row["rule"]}
        if isinstance(row["prerequisites"], str):
            mine |= {("prerequisites", i): n for i, n in enumerate(json.loads(row["prerequisites"]))}
        if isinstance(row["extra"], str):
            mine |= {tuple(path): value for path, value in json.loads(row["extra"])}
        yield _fill(json.loads(row["layout"]), (), mine)


def _fill(layout: Any, path: Path_, values: Mapping[Path_, Any]) -> Any:
    if isinstance(layout, dict):
        return {key: _fill(part, (*path, key), values) for key, part in layout.items()}
    if isinstance(layout, list):
        return [_fill(part, (*path, i), values) for i, part in enumerate(layout)]
    return values[path]
