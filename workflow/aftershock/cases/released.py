"""The JSON format of the published ConflictEdit and RoundEdit files (Li et al., 2024), in and out.

A folder holds `coverage_edit.json`, `reverse_edit.json`, `composite_edit.json`, `easy.json` and `hard.json`,
each a list of rows on one line, and `conflict_prompts.json`, `round_prompts.json`, paraphrases by relation.
Known differences between the published models' files are read as they are: the composite rows of one model
carry `true_object` in the second edit, those of the other do not, and `object` there is the original object.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pandas as pd

from aftershock.cases import CONFLICT
from aftershock.cases.conflict import ConflictCase, Edit
from aftershock.cases.graph_facts import Fact
from aftershock.cases.round_edit import RoundCase

FILES = {
    "coverage": "coverage_edit.json",
    "reverse": "reverse_edit.json",
    "composite": "composite_edit.json",
    "round_easy": "easy.json",
    "round_hard": "hard.json",
}
PROMPT_FILES = {"conflict": "conflict_prompts.json", "round": "round_prompts.json"}
Row = Mapping


def prompt_kind(dataset: str) -> str:
    """Which of the two prompt files belongs to `dataset`."""
    return "conflict" if dataset in CONFLICT else "round"


def read_rows(folder: str | Path, dataset: str) -> list[Row]:
    """The rows of one file; ValueError naming file, row and what is missing when one is not of the format."""
    path = Path(folder) / FILES[dataset]
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist; `folder` must hold {', '.join(FILES.values())}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}); fetch it again") from error
    for number, row in enumerate(rows):
        try:
            case = to_case(dataset, row)
            list(triples(row))
            if not all(isinstance(label, str) and label.strip() for label in labels_of(row).values()):
                raise ValueError("an entity has an empty label")
            if dataset not in CONFLICT and not case.object_ids:
                raise ValueError("true_objects is empty")
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: row {number} is not a {dataset} case ({type(error).__name__}: {error})"
            ) from error
    return rows


def read_paraphrases(folder: str | Path, kind: str) -> dict[str, list[str]]:
    """Paraphrases of each relation from `conflict_prompts.json` or `round_prompts.json`."""
    path = Path(folder) / PROMPT_FILES[kind]
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}); it holds the paraphrases of each relation"
        ) from error


def to_case(dataset: str, row: Row) -> ConflictCase | RoundCase:
    """The case that a row describes.

    In composite rows the tied fact is `triples[0]` and the second edit starts from the original object: no
    released metric reads the field in which the published files differ.
    """
    if dataset not in CONFLICT:
        edit = row["edit"]
        objects = tuple(entity["id"] for entity in row["true_objects"])
        key = (edit["subject"]["id"], edit["relation"]["id"])
        return RoundCase(*key, edit["object"]["id"], edit["new_object"]["id"], objects, frozenset())
    first, second = (
        Edit(e["subject"]["id"], e["relation"]["id"], e["object"]["id"], e["new_object"]["id"])
        for e in row["edits"]
    )
    if dataset == "coverage":
        return ConflictCase(f"{first.relation_id}", first, second, first.relation_id, second.new)
    if dataset == "reverse":
        implied = Fact(second.new_id, first.relation_id, first.new_id)
        return ConflictCase(row["rule"], first, second, second.relation_id, implied)
    implied = Fact(first.subject_id, first.relation_id, second.new_id)
    tied = Fact(*_triple_ids(row["triples"][0]))
    return ConflictCase(row["rule"], first, second, second.relation_id, implied, tied)


def triples(row: Row) -> Iterator[Fact]:
    """The true facts that a row states."""
    if "triples" in row:
        yield from (Fact(*_triple_ids(triple)) for triple in row["triples"])
    else:
        edit = row["edit"]
        for entity in row["true_objects"]:
            yield Fact(edit["subject"]["id"], edit["relation"]["id"], entity["id"])


def labels_of(row: Row) -> dict[str, str]:
    """Labels by id of all entities of a row."""
    found = {}

    def walk(value: object) -> None:
        if isinstance(value, Mapping):
            if "id" in value and "prompt" not in value:
                found[value["id"]] = value["label"]
            for child in value.values():
                walk(child)
        elif isinstance(value, list):
            for child in value:
                walk(child)

    walk(row)
    return found


def edit_prompts(rows: Iterable[Row]) -> dict[str, str]:
    """The edit prompt of each relation that occurs."""
    found = {}
    for row in rows:
        for part in (
            *row.get("triples", ()),
            *row.get("edits", ()),
            *([row["edit"]] if "edit" in row else ()),
        ):
            found[part["relation"]["id"]] = part["relation"]["prompt"]
    return found


def write_rows(
    dataset: str, cases: pd.DataFrame, edits: pd.DataFrame, probes: pd.DataFrame, relations: pd.DataFrame
) -> str:
    """The rows of CASES in the released format, as one line of ASCII JSON.

    `relations` has relation_id, label, prompt and query. Composite second edits carry `true_object`.
    """
    about = {
        row.relation_id: {"id": row.relation_id, "prompt": row.prompt, "query": row.query, "label": row.label}
        for row in relations.itertuples(index=False)
    }
    by_case = {case_id: rows for case_id, rows in edits.groupby("case_id")}
    tied = probes[probes["role"] == "tied"].set_index("case_id")
    make = _conflict_row if dataset in CONFLICT else _round_row
    rows = []
    for case in cases.itertuples(index=False):
        mine = by_case[case.case_id]
        parts = {name: part.to_dict("records") for name, part in mine.groupby("edit")}
        rows.append(
            make(dataset, case, parts, tied.loc[case.case_id] if case.case_id in tied.index else None, about)
        )
    return json.dumps(rows)


def _conflict_row(dataset: str, case, parts: dict, tied, about: dict) -> dict:
    first, second = parts["e1"][0], parts["e2"][0]
    facts = [_triple(first, about)]
    edits = [_edit(first, about), _edit(second, about)]
    if dataset == "reverse":
        reverse = {"relation_id": second["relation_id"], **_swap(first)}
        facts.append(_triple(reverse, about))
    if dataset == "composite":
        facts = [
            {
                "relation": about[tied["relation_id"]],
                "subject": _entity(tied, "subject"),
                "object": _entity(tied, "object"),
            },
            *facts,
            _triple(second, about),
        ]
        edits[1]["true_object"] = edits[0]["new_object"]
    row = {} if dataset == "coverage" else {"rule": case.rule}
    return row | {
        "triples": facts,
        "prerequisites": [0] if dataset == "composite" else [],
        "type": dataset,
        "edits": edits,
    }


def _round_row(dataset: str, case, parts: dict, tied, about: dict) -> dict:
    objects = [_entity(edit, "target_new") for edit in parts["multi"]]
    edit = _edit(parts["e1"][0], about)
    ordered = {name: edit[name] for name in ("relation", "subject", "new_object", "object")}
    relation_id = parts["e1"][0]["relation_id"]
    return {"type": f"1-{len(objects)}@{relation_id}", "edit": ordered, "true_objects": objects}


def _swap(edit: Mapping) -> dict:
    return {
        "subject_id": edit["target_true_id"],
        "subject": edit["target_true"],
        "target_true_id": edit["subject_id"],
        "target_true": edit["subject"],
    }


def _entity(row: Mapping, name: str) -> dict:
    return {"id": row[f"{name}_id"], "label": row[name]}


def _triple(edit: Mapping, about: dict) -> dict:
    return {
        "relation": about[edit["relation_id"]],
        "subject": _entity(edit, "subject"),
        "object": _entity(edit, "target_true"),
    }


def _edit(edit: Mapping, about: dict) -> dict:
    return {**_triple(edit, about), "new_object": _entity(edit, "target_new")}


def _triple_ids(triple: Mapping) -> tuple[str, str, str]:
    return triple["subject"]["id"], triple["relation"]["id"], triple["object"]["id"]
