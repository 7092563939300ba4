"""Settings of editors that fit one by one and not together, and names of what there is none of."""

import shutil
from pathlib import Path

import pytest
import yaml

from aftershock.config import check_config
from small_project import CONFIG, MODEL, errors

ROOT = Path(__file__).parents[1]


GATE = {"modules": {"gate": None}}
TOGETHER = [
    ("wise", {"layers": [0], "save_freq": 300, "merge_freq": 600}, None),
    ("wise", {"save_freq": 200, "merge_freq": 500}, "settings: wise: merge_freq 500"),
    ("rome", {"layers": [99]}, "settings.layers: [99] are not among"),
    ("rome", {"layers": []}, "settings.layers: there is none; name"),
    ("rome", {"layers": [0, 0]}, "layer 0 is given twice"),
    ("memit", {"layers": [0], "loss_layer": 9}, "settings.loss_layer: [9] are not"),
    ("grace", {"layers": [0, 1]}, "settings.layers: exactly one layer is edited, found [0, 1]"),
    ("kn", {"variant": "released", "steps": 4, "batch_size": 3}, "kn: batch_size 3 does not divide steps 4"),
    ("memit", {"context_penalty": 0.1}, "compares contexts after no layer; set context_layers"),
    ("ultraedit", GATE, "layers of a gpt2 model have no gate; they have attention, in, out; tiny is one"),
    ("simie", {"base": "lora", "base_settings": GATE}, "modules: layers of a gpt2 model have no gate; they"),
    ("simie", {"layers": [0], "base": "romee"}, "unknown editing method 'romee'; did you mean 'rome'"),
    ("memoir", {"variant": "released"}, "cannot hold a memory beside a matrix of gpt2"),
    ("plug/rome.py", {}, "method: 'plug/rome.py' is called like 'rome'; give its file"),
]


@pytest.mark.parametrize(("method", "settings", "expected"), TOGETHER)
def test_settings_are_checked_together(project, monkeypatch, method, settings, expected: str | None) -> None:
    monkeypatch.chdir(project)
    (project / "plug").mkdir()
    shutil.copy(ROOT / "tests" / "methods" / "gradient_step.py", project / "plug" / "rome.py")
    editors = {"e": {"method": method, "settings": settings}}
    if expected is None:
        check_config({**yaml.safe_load(CONFIG), "editors": editors}, project)
        return
    (found,) = errors(project, editors=editors)
    assert found.startswith("editors.e")
    assert expected in found


def test_an_editor_whose_layers_are_to_be_found_is_one_of_the_run(project: Path) -> None:
    (found,) = errors(project, find_layers={"editors": ["rom"]})
    assert found.startswith("find_layers.editors: 'rom' is no editor here; did you mean 'rome'")


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
