"""Export of our own datasets in the published format, with a notice."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from aftershock.datasets.build import Dataset
from aftershock.datasets.released import FILES, PROMPT_FILES, prompt_kind, write_cases, write_prompts
from aftershock.datasets.statements import publish
from aftershock.datasets.table import find_dataset
from aftershock.tables.cases import STATEMENTS

NOTICE = "NOTICE.md"
PARAPHRASES = 10
CARE = (
    "They are made to measure what editing does to a model. Do not take them for facts, do not teach "
    "them to a model that others use, and pass this notice on with the files."
)
KNOWN = (
    "The old facts are those that this model was found to know; another model may not know them. How cases "
    "were chosen and what was dropped is in the datasheet of each dataset."
)


def export(
    folder: Path, datasets: Mapping[str, Dataset], split: str, relations: pd.DataFrame, prompts: pd.DataFrame
) -> dict[str, int]:
    """Write the cases of one split and their paraphrases to `folder`; return the number of rows by file.

    `relations` has relation_id, label and query, `prompts` is PROMPTS: number 0 is the edit prompt in the
    rows, numbers 1 to 10 are the paraphrases in the prompt files.
    """
    first = prompts[prompts["prompt_id"] == 0].rename(columns={"template": "prompt"})
    about = relations[["relation_id", "label", "query"]].merge(first[["relation_id", "prompt"]])
    asked: dict[str, set[str]] = {kind: set() for kind in PROMPT_FILES}
    sizes = {}
    for dataset, built in datasets.items():
        cases = built.cases[built.cases["split"] == split]
        published = publish(dataset, cases, built.edits, built.probes, about)
        STATEMENTS.check(published.statements)
        asked[prompt_kind(dataset)] |= set(published.statements["relation_id"])
        (folder / FILES[dataset]).write_text(write_cases(published), encoding="utf-8")
        sizes[FILES[dataset]] = len(cases)
    for kind, name in PROMPT_FILES.items():
        own = prompts[prompts["relation_id"].isin(asked[kind]) & (prompts["prompt_id"] <= PARAPHRASES)]
        (folder / name).write_text(write_prompts(own), encoding="utf-8")
        sizes[name] = len(asked[kind])
    return sizes


def notice(sizes: Mapping[str, int], split: str, graph: str, model: str, about: str) -> str:
    """The README of exported files; `about` says what their statements are about."""
    names = {name: dataset for dataset, name in FILES.items()}
    lines = [
        f"* `{name}`: {n} rows. {find_dataset(names[name]).description}"
        if name in names
        else f"* `{name}`: {n} relations."
        for name, n in sizes.items()
    ]
    page = [
        f"# Cases built for {model} from {graph}: {split}",
        f"**The edits in these files are deliberately false statements, {about}.** {CARE}",
        f"The files hold the {split} cases only, in the format of the published ConflictEdit and RoundEdit "
        f"files. {KNOWN}",
        "\n".join(lines),
    ]
    return "\n\n".join(page) + "\n"
