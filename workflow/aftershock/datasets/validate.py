"""Findings about a folder of published or exported files: `aftershock validate FOLDER`.

Every file of the folder that has a name of the format is read; each finding is one row of a table. Findings
are of three kinds of concern: `structure`, a row is not what its dataset promises; `quality`, a row or label
that a builder should have left out; `remark`, nothing wrong, but good to know. They are no failures: only a
folder or file that cannot be read is one.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from aftershock.datasets.graph_facts import FactIndex, as_facts
from aftershock.datasets.invariants import Mask, breaches, label_faults, label_oddities, label_remarks
from aftershock.datasets.released import (
    ALL_FILES,
    FILES,
    PROMPT_FILES,
    Published,
    names_in,
    prompt_kind,
    read_cases,
    read_prompts,
)
from aftershock.datasets.statements import edits_of, tied_of
from aftershock.datasets.table import CONFLICT
from aftershock.prompts import SLOT

CONCERNS = ("structure", "quality", "remark")
SHOWN, WIDTH = 5, 40  # rows and examples of a finding, characters of an example
PARAPHRASES = 10
COLUMNS = ["file", "concern", "finding", "entities", "rows", "first_rows", "examples"]
QUALITY = {
    "no-op first edit",
    "no-op second edit",
    "new object is the subject",
    "first edit's target is a true object",
    "second edit's target is a true object",
    "duplicate labels among the true objects",
}
Found = tuple[str, str, pd.DataFrame]  # concern, finding, its rows: row, example, some with entity_id


def read_folder(folder: str | Path) -> tuple[dict[str, Published], dict[str, pd.DataFrame], list[str]]:
    """The files of cases by dataset, the prompt files by kind, and JSON files of other names.

    ValueError when no file has a name of the format, or one cannot be read.
    """
    names, unknown = names_in(folder)
    cases = {dataset: read_cases(folder, dataset) for dataset, name in FILES.items() if name in names}
    prompts = {kind: read_prompts(folder, kind)[0] for kind, name in PROMPT_FILES.items() if name in names}
    return cases, prompts, unknown


def findings(
    cases: dict[str, Published], prompts: dict[str, pd.DataFrame], unknown: Sequence[str] = ()
) -> pd.DataFrame:
    """Everything odd: file, concern, finding, entities, rows, first_rows, examples.

    `rows` counts rows of cases, or templates of a prompt file, `entities` what they are about: the entities
    of labels, the (subject, relation) keys, the relations of prompts. Target and truth are compared with the
    true facts of all files together.
    """
    facts = frozenset(fact for published in cases.values() for fact in as_facts(published.truths))
    index = FactIndex(facts, {})
    table: list[tuple[Any, ...]] = [
        (name, "structure", f"unknown name; known: {', '.join(ALL_FILES)}", None, None, "", "")
        for name in unknown
    ]
    for dataset, published in cases.items():
        for concern, kind, rows in _of_cases(dataset, published, index):
            if len(rows):
                table.append((FILES[dataset], concern, kind, *_counts(rows)))
    edit_prompts = {kind: _edit_prompts(kind, cases) for kind in PROMPT_FILES}
    for kind, templates in prompts.items():
        for concern, text, rows in _of_prompts(templates, edit_prompts[kind]):
            if len(rows):
                table.append((PROMPT_FILES[kind], concern, text, *_counts(rows)))
    found = pd.DataFrame(table, columns=COLUMNS).astype({"entities": "Int64", "rows": "Int64"})
    order = {name: i for i, name in enumerate((*ALL_FILES, *CONCERNS))}
    return found.sort_values(
        ["file", "concern"], kind="stable", ignore_index=True, key=lambda names: names.map(order)
    )


def _counts(rows: pd.DataFrame) -> tuple[int | None, int, str, str]:
    """Entities, rows, the first row numbers and examples."""
    entities = rows["entity_id"].nunique() if "entity_id" in rows else None
    ordered = rows.sort_values("row", kind="stable") if pd.api.types.is_numeric_dtype(rows["row"]) else rows
    numbers = [str(n) for n in dict.fromkeys(ordered["row"])]
    texts = dict.fromkeys(ordered["example"])
    examples = [repr(text if len(text) <= WIDTH else text[: WIDTH - 3] + "...") for text in texts]
    first, shown = (
        ", ".join(part[:SHOWN]) + (", ..." if len(part) > SHOWN else "") for part in (numbers, examples)
    )
    return entities, len(numbers), first, shown


# --- cases --------------------------------------------------------------------------------------------------
def _of_cases(dataset: str, published: Published, index: FactIndex) -> Iterator[Found]:
    edits, tied = edits_of(published), tied_of(published)
    subjects = edits[edits["edit"] == "e1"].set_index("case_id")["subject"]
    checks = _form(dataset, published) | (_triples(dataset, published) if dataset in CONFLICT else {})
    for kind, mask in checks.items():
        yield "structure", kind, _with_subject(mask.index[mask.to_numpy(dtype=bool)], subjects)
    for kind, rows in breaches(dataset, edits, tied, index).groupby("kind"):
        concern = "quality" if kind in QUALITY else "structure"
        yield concern, kind, _with_subject(rows["case_id"], subjects)
    yield from _repeated(published, edits, subjects)
    yield from _of_labels(published)
    truths = published.truths
    several = truths.groupby(["subject_id", "relation_id"])["object_id"].transform("nunique") > 1
    if dataset in CONFLICT:
        yield "remark", "subject and relation with several objects", _keyed(truths[several])


def _with_subject(rows: Iterable[int], subjects: pd.Series) -> pd.DataFrame:
    """Rows with the subject of their first edit as an example."""
    numbers = pd.Series(list(rows), dtype="int64")
    return pd.DataFrame({"row": numbers, "example": numbers.map(subjects)})


def _form(dataset: str, published: Published) -> dict[str, Mask]:
    """Masks of rows whose own fields break the format."""
    rows = published.rows.set_index("row")
    if dataset not in CONFLICT:
        parts = published.statements
        relation = parts[parts["part"] == "edit"].set_index("row")["relation_id"]
        sizes = parts[parts["part"] == "true_objects"].groupby("row").size().astype(str)
        return {"type is not 1-N@relation": rows["type"] != "1-" + sizes + "@" + relation}
    wanted = "[0]" if dataset == "composite" else "[]"
    return {
        f"type is not {dataset}": rows["type"] != dataset,
        f"prerequisites are not {wanted}": rows["prerequisites"] != wanted,
    }


def _triples(dataset: str, published: Published) -> dict[str, Mask]:
    """Masks of rows whose triples, edits and rule do not fit together."""
    table = published.statements.set_index("row")
    at = {key: part for key, part in table.groupby(["part", "position"])}
    if not at:
        return {}
    t, e1, e2 = at["triples", 0], at["edits", 0], at["edits", 1]
    if dataset == "coverage":
        return {"triple is not what the first edit changes": ~_same(t, e1)}
    rule = published.rows.set_index("row")["rule"]
    if dataset == "reverse":
        back = at["triples", 1]
        return {
            "first triple is not what the first edit changes": ~_same(t, e1),
            "second triple is not the first one reversed": (back.subject_id != t.object_id)
            | (back.object_id != t.subject_id),
            "second edit has not the second triple's relation": e2.relation_id != back.relation_id,
            "rule does not name the triples' relations": rule != t.relation_id + ">" + back.relation_id,
        }
    body, head = at["triples", 1], at["triples", 2]
    restated = e2["true_object_id"].notna()
    return {
        "triples are not (x, r, y), (y, r1, z), (x, r2, z)": (t.object_id != body.subject_id)
        | (t.subject_id != head.subject_id)
        | (body.object_id != head.object_id),
        "second triple is not what the first edit changes": ~_same(body, e1),
        "third triple is not what the second edit changes": ~_same(head, e2),
        "rule does not name the triples' relations": rule
        != t.relation_id + "&" + body.relation_id + ">" + head.relation_id,
        "second edit's true_object is not the first one's target": restated
        & (e2["true_object_id"] != e1["new_object_id"]),
    }


def _same(left: pd.DataFrame, right: pd.DataFrame) -> Mask:
    columns = ["subject_id", "relation_id", "object_id"]
    return (left[columns] == right[columns]).all(axis=1)


def _repeated(published: Published, edits: pd.DataFrame, subjects: pd.Series) -> Iterator[Found]:
    """Yield findings about repetitions; the first occurrence of each is not counted."""
    columns = [c for c in published.statements.columns if c != "row"]
    codes = published.statements[["row"]].assign(
        code=pd.util.hash_pandas_object(published.statements[columns], index=False)
    )
    whole = codes.groupby("row")["code"].agg(tuple)
    yield "quality", "row repeats another", _with_subject(whole.index[whole.duplicated()], subjects)
    keys = edits.rename(columns={"case_id": "row"})
    first = keys[keys["edit"] == "e1"][["row", "subject_id", "subject", "relation_id"]]
    again = first[first.duplicated(["subject_id", "relation_id"])]
    yield "quality", "subject and relation of the first edit repeated", _keyed(again)
    if len(published.truths.query("part == 'triples'")):
        second = keys[keys["edit"] == "e2"][["row", "subject_id", "relation_id"]]
        both = first.merge(second, on="row", suffixes=("", "_2"))
        both = both[both.duplicated(["subject_id", "relation_id", "subject_id_2", "relation_id_2"])]
        yield "quality", "subjects and relations of both edits repeated", _keyed(both)
    yield "quality", "subject is its own object", _keyed(published.truths.query("subject_id == object_id"))


def _keyed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with their (subject, relation) key as the entity that they are about."""
    return rows[["row"]].assign(
        entity_id=rows["subject_id"] + " " + rows["relation_id"], example=rows["subject"]
    )


def _of_labels(published: Published) -> Iterator[Found]:
    mentions = published.entities.rename(columns={"row": "case_id"})
    for concern, look in (("quality", label_faults), ("quality", label_oddities), ("remark", label_remarks)):
        found = look(mentions).rename(columns={"case_id": "row", "label": "example"})
        for kind, rows in found.groupby("kind"):
            yield concern, kind, rows[["row", "entity_id", "example"]]
    named = published.entities.rename(columns={"label": "example"})
    names = named.groupby("entity_id")["example"].transform("nunique")
    yield "structure", "entity with several labels", named[names > 1]
    bearers = named.groupby("example")["entity_id"].transform("nunique")
    yield "remark", "label of several entities", named[bearers > 1]


# --- prompts ------------------------------------------------------------------------------------------------
def _edit_prompts(kind: str, cases: dict[str, Published]) -> pd.DataFrame:
    """The edit prompts in the rows of one kind: relation_id, prompt, each pair once."""
    parts = [
        p.statements[["relation_id", "prompt"]] for name, p in cases.items() if prompt_kind(name) == kind
    ]
    found = pd.concat(parts) if parts else pd.DataFrame(columns=["relation_id", "prompt"])
    return found.drop_duplicates(ignore_index=True)


def _of_prompts(templates: pd.DataFrame, edit_prompts: pd.DataFrame) -> Iterator[Found]:
    """Findings in a prompt file; its `row` is a relation and the number of a paraphrase, from 1."""
    texts = templates["template"]
    numbers = [f"{r} {n}" for r, n in zip(templates["relation_id"], templates["prompt_id"], strict=True)]
    about = pd.DataFrame({"row": numbers, "entity_id": templates["relation_id"], "example": texts})
    plain = texts.str.casefold().str.split().str.join(" ")
    twins = pd.DataFrame({"relation": templates["relation_id"], "text": plain}).duplicated()
    yield "quality", "template repeated within its relation", about[twins]
    yield "quality", "template begins or ends with a space", about[texts != texts.str.strip()]
    yield "structure", "template has not exactly one slot {}", about[texts.str.count(r"\{\}") != 1]
    sizes = templates.groupby("relation_id")["template"].transform("size")
    yield "structure", f"relation has not {PARAPHRASES} paraphrases", about[sizes != PARAPHRASES]
    first = edit_prompts.groupby("relation_id")["prompt"].agg(set)
    same = [text in first.get(r, ()) for r, text in zip(templates["relation_id"], texts, strict=True)]
    yield "quality", "template is the edit prompt", about[same]
    own = edit_prompts.rename(columns={"prompt": "example"})
    own = own.assign(row=own["relation_id"] + " 0", entity_id=own["relation_id"])
    yield (
        "structure",
        "relation of the cases has no paraphrases",
        own[~own["entity_id"].isin(templates["relation_id"])],
    )
    several = own.groupby("entity_id")["example"].transform("nunique") > 1
    yield "structure", "relation has several edit prompts", own[several]
    slots = own["example"].map(lambda text: text.count(SLOT) != 1).astype(bool)
    yield "structure", "edit prompt has not exactly one slot {}", own[slots]
    spaced = own["example"].map(lambda text: text != text.strip()).astype(bool)
    yield "quality", "edit prompt begins or ends with a space", own[spaced]


# --- the command --------------------------------------------------------------------------------------------
def render(table: pd.DataFrame) -> str:
    """The findings as aligned columns of text."""
    cells = [
        list(table.columns),
        *table.astype(object).where(table.notna(), "").astype(str).to_numpy().tolist(),
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    numeric = [name in ("entities", "rows") for name in table.columns]
    return "\n".join(
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )


def print_findings(folder: Path) -> None:
    """List what is odd in a folder of published or exported case files."""
    cases, prompts, unknown = read_folder(folder)
    table = findings(cases, prompts, unknown)
    print(render(table))
    sizes = [f"{FILES[dataset]} {len(published.rows)}" for dataset, published in cases.items()]
    print(f"\n{len(table)} findings. Rows read: {', '.join(sizes) or 'none'}.")
