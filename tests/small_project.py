"""A small project with sheets, a model and a configuration, to break in one place at a time."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from aftershock.config import check_config

SHEETS = {
    "relations": [
        "namespace\trelation_id\tlabel\tprompt\tquery\tsubject_type\tobject_type\tfunctional\tone_to_many\tnoun"
        "\tapprox_facts",
        "world\tR1\tspouse\t{} is married to\tWho is {} married to?\tperson\tperson\tyes\tno\tspouse\t30",
        "world\tR2\tchild\t{} is a parent of\tWho is a child of {}?\tperson\tperson\tno\tyes\tchild\t30",
    ],
    "paraphrases": [
        "namespace\trelation_id\ttemplate\tstatus\tsource",
        *(f"world\tR1\t{{}} said yes, {n}, to\tkeep\tours" for n in range(10)),
        *(f"world\tR2\tNumber {n} of {{}} is\tkeep\tours" for n in range(10)),
    ],
    "rules": ["namespace\trule\tstatus\treason", "world\tR1>R1\tkeep\tboth are married"],
    "screen": ["text\tdecision\treason", "Cockburn\tkeep\ta family name"],
}
CONFIG = """
kg: toy
kgs:
  toy: {source: generated, namespace: world, file: resources/toy.yaml}
  theirs: {source: released, namespace: world, folder: elsewhere}
models: [tiny]
datasets: [coverage, round_easy]
editors:
  rome: {method: rome, settings: {layers: [1]}}
  memit: {method: memit}
  mle: {method: memit, second_edit: multi_label, tuned_as: memit}
  ft: null
"""
MODEL = """
kg: toy
architecture: {vocab_size: 300, n_positions: 64, n_embd: 32, n_layer: 2, n_head: 2}
train: {tokens: 1000}
editors: {rome: {layers: [0], lr: 0.1}}
search: {rome: {layers: [[0], [1]], lr: [0.1, 0.5]}}
"""


def write_project(tmp_path: Path) -> Path:
    """Return the folder, with the resources of a small project in it."""
    (tmp_path / "resources" / "models").mkdir(parents=True)
    (tmp_path / "resources" / "toy.yaml").write_text("people: 3\n")
    (tmp_path / "resources" / "offensive_words.txt").write_text("cock*\n")
    (tmp_path / "resources" / "models" / "tiny.yaml").write_text(MODEL)
    for name, lines in SHEETS.items():
        (tmp_path / "resources" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return tmp_path


def errors(project: Path, text: str = CONFIG, **changes: Any) -> list[str]:
    """Return the lines that checking a configuration comes up with."""
    with pytest.raises(ValueError, match=r"errors? in the configuration") as caught:
        check_config({**yaml.safe_load(text), **changes}, project)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]
