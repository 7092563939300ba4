"""Settings of editors that fit one by one and not together, and names of what there is none of."""

import shutil
from pathlib import Path

import pytest
import yaml

from aftershock.config import check_config
from small_project import CONFIG, errors

ROOT = Path(__file__).parents[1]


WISE = {"method": "wise", "settings": {"layers": [0], "save_freq": 300, "merge_freq": 600}}
TOGETHER = [
    ({"w": WISE}, None),
    (
        {"w": {**WISE, "settings": {"save_freq": 200, "merge_freq": 500}}},
        "editors.w.settings: wise: merge_freq 500",
    ),
    (
        {"r": {"method": "rome", "settings": {"layers": [99]}}},
        r"editors.r.settings.layers: [99] are not among",
    ),
    ({"r": {"method": "rome", "settings": {"layers": []}}}, "editors.r.settings.layers: there is none; name"),
    ({"r": {"method": "rome", "settings": {"layers": [0, 0]}}}, "layer 0 is given twice"),
    (
        {"m": {"method": "memit", "settings": {"layers": [0], "loss_layer": 9}}},
        "settings.loss_layer: [9] are not",
    ),
    (
        {"g": {"method": "grace", "settings": {"layers": [0, 1]}}},
        "editors.g.settings.layers: exactly one layer is edited, found [0, 1]",
    ),
    (
        {"k": {"method": "kn", "settings": {"variant": "released", "steps": 4, "batch_size": 3}}},
        "editors.k.settings: kn: batch_size 3 does not divide steps 4",
    ),
    (
        {"c": {"method": "memit", "settings": {"context_penalty": 0.1}}},
        "editors.c.settings: context_penalty compares contexts after no layer; set context_layers",
    ),
    (
        {"u": {"method": "ultraedit", "settings": {"modules": {"gate": None}}}},
        "editors.u: modules: layers of a gpt2 model have no gate; they have attention, in, out; tiny is one",
    ),
    (
        {"s": {"method": "simie", "settings": {"base": "lora", "base_settings": {"modules": {"up": None}}}}},
        "editors.s: modules: layers of a gpt2 model have no up; they have",
    ),
    (
        {"m": {"method": "memoir", "settings": {"variant": "released"}}},
        "editors.m: memoir: variant released cannot hold a memory beside a matrix of gpt2",
    ),
    (
        {"x": {"method": "plug/rome.py"}},
        "editors.x.method: 'plug/rome.py' is called like 'rome'; give its file",
    ),
]


@pytest.mark.parametrize(("editors", "expected"), TOGETHER)
def test_settings_are_checked_together(project: Path, monkeypatch, editors, expected: str | None) -> None:
    monkeypatch.chdir(project)
    (project / "plug").mkdir()
    shutil.copy(ROOT / "tests" / "methods" / "gradient_step.py", project / "plug" / "rome.py")
    if expected is None:
        check_config({**yaml.safe_load(CONFIG), "editors": editors}, project)
        return
    found = errors(project, editors=editors)
    assert [line for line in found if expected in line] == found, found
    assert len(found) == 1


UNKNOWN = [
    (
        {"find_layers": {"editors": ["rom"]}},
        "find_layers.editors: 'rom' is no editor here; did you mean 'rome'",
    ),
    (
        {"sequences": {"ten": {"kg": "tooy", "edits": {"source": "graph"}, "checkpoints": [0, 1]}}},
        "sequences.ten.kg: 'tooy' is unknown; did you mean 'toy'",
    ),
    (
        {"editors": {"s": {"method": "simie", "settings": {"layers": [0], "base": "romee"}}}},
        "editors.s.settings: with those of tiny: unknown editing method 'romee'; did you mean 'rome'",
    ),
]


@pytest.mark.parametrize(("changes", "expected"), UNKNOWN)
def test_names_of_what_there_is_none_of(project: Path, changes, expected: str) -> None:
    (found,) = errors(project, **changes)
    assert found.startswith(expected)
