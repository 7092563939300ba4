"""Settings of editors that fit one by one and not together, and names of what there is none of."""

import shutil
from pathlib import Path

import pytest
import yaml

from aftershock.config import check_config
from small_project import CONFIG, MODEL, errors

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


SEARCHED = [  # what the model's file lets tuning choose from; what comes of it
    ("{rome: {lr: [0.1, 0.5, 0.6, 0.7]}}", None),
    ("{rome: {layers: [[0], [7]], lr: [0.1]}}", "and layers [7] are not among its layers 0 to 1"),
    ("{memit: {loss_layer: [1, 2]}}", "and loss_layer [2] are not among its layers 0 to 1"),
    (
        "{wise: {save_freq: [500, 200], merge_freq: [1000, 500]}}",
        "wise: tuning may choose {'merge_freq': 500, 'save_freq': 200} of search.wise of tiny, and then",
    ),
    ("{rome: {lr: [0.5, 0.6]}}", "tuning.trials: 4 need 3 settings of editors.rome besides its own, and"),
    ("{ultraedit: {modules: [{in: null}, {gate: null}]}}", "layers of a gpt2 model have no gate"),
]


@pytest.mark.parametrize(("search", "expected"), SEARCHED)
def test_so_is_what_tuning_may_choose(project: Path, search: str, expected: str | None) -> None:
    file = project / "resources" / "models" / "tiny.yaml"
    file.write_text(MODEL.replace("{rome: {layers: [[0], [1]], lr: [0.1, 0.5]}}", search))
    method = search[1:].partition(":")[0]
    config = {"editors": {method: {"method": method, "settings": {"layers": [0]}}}, "tuning": {"trials": 4}}
    given = {**yaml.safe_load(CONFIG), **config}
    if expected is None:
        check_config(given, project)
        return
    found = errors(project, **config)
    assert [line for line in found if expected in line], found
    kept = {"ultraedit": "variant: [paper]"}.get(method, "layers: [[0]]")
    file.write_text(
        MODEL.replace("{rome: {layers: [[0], [1]], lr: [0.1, 0.5]}}", f"{{{method}: {{{kept}}}}}")
    )
    check_config({**given, "tuning": {"trials": 1}}, project)  # nothing is chosen


ANY = "source: {hub: o/n, revision: abc}\nn_layers: 2\n"


def test_an_unknown_family_has_to_be_told_where_a_method_edits_some_only(project, monkeypatch) -> None:
    monkeypatch.chdir(project)
    (project / "resources" / "models" / "any.yaml").write_text(ANY)
    gate = {"method": "ultraedit", "settings": {"layers": [0], "modules": {"gate": None}}}
    given = {**yaml.safe_load(CONFIG), "models": ["any"]}
    check_config({**given, "editors": {"r": {"method": "rome"}}}, project)
    (found,) = errors(project, models=["any"], editors={"u": gate})
    assert found.startswith("editors.u: it cannot edit models of every family (modules: layers of a ")
    assert found.endswith("resources/models/any.yaml does not say of which any is; give model_type there")
    weights = project / "results" / "models" / "any" / "weights"
    weights.mkdir(parents=True)  # as an earlier run left them
    (weights / "config.json").write_text('{"model_type": "gpt2"}')
    (found,) = errors(project, models=["any"], editors={"u": gate})
    assert found.endswith("have no gate; they have attention, in, out; any is one. Leave one of the two out")
    (weights / "config.json").write_text('{"model_type": "llama"}')
    check_config({**given, "editors": {"u": gate}}, project)
