"""A row of files of edits in each format, and how a test reads them."""

import json
from pathlib import Path

from aftershock.datasets.edit_files.reading import Row, read_edits
from aftershock.datasets.edit_files.record import SourceEdit

COUNTERFACT = {
    "case_id": 7,
    "requested_rewrite": {
        "prompt": "{} was born in",
        "relation_id": "P19",
        "target_new": {"str": "Oslo", "id": "Q585"},
        "target_true": {"str": "Turin", "id": "Q495"},
        "subject": "Ada Lum",
    },
    "paraphrase_prompts": ["It rained. Ada Lum comes from", "Ada Lum's home town is"],
    "neighborhood_prompts": ["Bo Ek was born in", "Cy Ott was born in"],
    "attribute_prompts": ["Di Poe was born in"],
    "generation_prompts": ["Ada Lum grew up"],
}
FLAT = {
    "case_id": 3,
    "prompt": "Ada Lum was born in",
    "subject": "Ada Lum",
    "target_new": "Oslo",
    "ground_truth": "Turin",
    "rephrase_prompt": "Ada Lum comes from",
    "locality_prompt": "Bo Ek was born in",
    "locality_ground_truth": "Turin",
}
ZSRE = {
    "subject": "Ada Lum",
    "src": "Where was Ada Lum born?",
    "pred": "Genoa",
    "rephrase": "Which town is Ada Lum from?",
    "alt": "Oslo",
    "answers": ["Turin", "Torino"],
    "loc": "nq question: who sang the blue song",
    "loc_ans": "Bo Ek",
    "cond": "Genoa >> Oslo || Where was Ada Lum born?",
}
WIKIBIGEDIT = {
    "subject": "Ada Lum",
    "update": "Where does Ada Lum work?",
    "ans": "Oslo",
    "rephrase": "What is Ada Lum's place of work?",
    "loc": "Where does Bo Ek work?",
    "loc_ans": "Turin",
}
KNOWEDIT = {
    "subject": "Ada Lum",
    "prompt": "The employer of Ada Lum is",
    "target_new": "Acme",
    "ground_truth": ["Initech"],
    "locality": {
        "Relation_Specificity": [{"prompt": "Ada Lum lives in", "ground_truth": [["Turin", "Torino"]]}],
        "Forgetfulness": [{"prompt": "Ada Lum knows", "ground_truth": ""}],
    },
    "portability": {},
}
MQUAKE = {
    "case_id": 4,
    "requested_rewrite": [
        COUNTERFACT["requested_rewrite"] | {"question": "Where was Ada Lum born?"},
        {
            "prompt": "The mayor of {} is",
            "relation_id": "P6",
            "target_new": {"str": "Bo Ek"},
            "target_true": {"str": "Cy Ott"},
            "subject": "Oslo",
            "question": "Who is the mayor of Oslo?",
        },
    ],
}
CONFLICT = {
    "edits": [
        {
            "relation": {"id": "P19", "prompt": "{} was born in", "label": "born in"},
            "subject": {"id": "Q1", "label": "Ada Lum"},
            "object": {"id": "Q495", "label": "Turin"},
            "new_object": {"id": "Q585", "label": "Oslo"},
        },
        {"relation": {"id": "P19"}},
    ]
}


REFUSE = {"broken": "refuse", "cycle": False}


def file_of(tmp_path: Path, rows: list, name: str = "edits.json") -> Path:
    path = tmp_path / name
    lines = "\n".join(map(json.dumps, rows))
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


def flat(path: Path, **options) -> list[Row]:
    return read_edits(path, {"source": "flat", **REFUSE, **options})


def read(tmp_path: Path, source: str, *rows, **options) -> list[Row]:
    return read_edits(file_of(tmp_path, list(rows)), {"source": source, **REFUSE, **options})


def edits(*args, **options) -> list[SourceEdit]:
    return [row.edit for row in read(*args, **options)]
