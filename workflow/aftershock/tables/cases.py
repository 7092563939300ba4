"""Tables of benchmark cases, their edits and probes, and of files in the published format."""

from aftershock.tables import Table

CASES = Table(
    "cases",
    ("case_id",),
    {
        "case_id": "int64",  # position in the dataset: test cases first, then dev, then train
        "split": "string",
        "rule": "string",  # P22>P40, P25&P26>P22 or 1-N@P69
        "strict": "bool",  # old and new cannot both hold
        "functionality": "float64",  # of the relation that makes it so
        "cluster": "int64",  # connected component of the entities of edits and tied fact
        "tied_known": "bool?",  # the unedited model knows the tied fact; null where there is none
        "implied": "string?",  # how new_imp follows from e2: stated, deduced, abduced; null in rounds
        "n_objects": "int64",  # true objects of a round case, else 0
        "n_known": "int64",  # those that the unedited model knows
    },
)

EDITS = Table(
    "edits",
    ("case_id", "edit", "position"),
    {
        "case_id": "int64",
        "edit": "string",  # e1, e2; in place of e2 control, multi (all true objects), related
        "position": "int64",
        "subject_id": "string",
        "subject": "string",
        "relation_id": "string",
        "prompt": "string",
        "target_new_id": "string",
        "target_new": "string",
        "target_true_id": "string",
        "target_true": "string",
    },
)

PROBES = Table(
    "probes",
    ("case_id", "role", "position"),
    {
        "case_id": "int64",
        "role": "string",  # see datasets/probes.py
        "position": "int64",
        "probe_id": "int64",  # equal for equal facts of one case, asked alike: each is scored once
        "subject_id": "string",
        "subject": "string",
        "relation_id": "string",
        "object_id": "string",
        "object": "string",
        "prompts": "string",  # all; edit: only the edit prompt; context: that one, after other facts
    },
)

RELEASED_FILES = Table(
    "released_files",
    ("file",),
    {
        "file": "string",
        "rows": "int64",  # cases, or relations of a prompt file
        "sha256": "string",
        "style": "string?",  # JSON: how the file is laid out; null where that is not kept
    },
)
"""The files of a folder in the published format."""

RELEASED_ROWS = Table(
    "released_rows",
    ("row",),
    {
        "row": "int64",
        "type": "string?",
        "rule": "string?",
        "prerequisites": "string?",  # JSON
        "layout": "string",  # JSON: the keys in their order, null in place of each value
        "extra": "string?",  # JSON: [path, value] of every key that the format does not have
    },
)

STATEMENTS = Table(
    "statements",
    ("row", "part", "position"),
    {
        "row": "int64",
        "part": "string",  # triples, edits; of round cases edit, true_objects
        "position": "int64",
        "relation_id": "string",
        "relation": "string?",
        "prompt": "string",
        "query": "string?",
        "subject_id": "string",
        "subject": "string",
        "object_id": "string",
        "object": "string",
        "new_object_id": "string?",
        "new_object": "string?",
        "true_object_id": "string?",
        "true_object": "string?",
    },
)
"""The triples, edits and true objects of a published file's rows."""
