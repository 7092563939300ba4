"""Layers by depth: against the published ones, and where a model's file leaves them out."""

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from aftershock.config import check_config, merged_settings
from aftershock.editors.methods import default_layers, find_methods

ROOT = Path(__file__).parents[1]
FILES = {path.stem: path for path in (ROOT / "resources" / "models").glob("*.yaml")}
MODELS = {name: yaml.safe_load(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
RULES = sorted(name for name, found in find_methods().items() if found.method.layers)
PUBLISHED = {name: model for name, model in MODELS.items() if "source" in model}
SEVEN_BILLION = "llama-7b llama-2-7b llama-2-7b-chat mistral-7b mistral-7b-instruct"
ALIKE = {
    "rome": f"{SEVEN_BILLION} gpt-j-6b llama-3-8b qwen2.5-7b pythia-2.8b pythia-6.9b",
    "memit": f"{SEVEN_BILLION} llama-3-8b qwen2.5-7b pythia-6.9b",
    "ft": f"{SEVEN_BILLION} llama-3-8b",
    "mend": f"{SEVEN_BILLION} gpt2-xl gpt-j-6b",
}
"""Models whose published layers are exactly those of the rules."""


@pytest.mark.parametrize("method", ALIKE)
def test_rules_give_the_published_layers_of_most_models(method):
    published = {n: m for n, m in PUBLISHED.items() if method in m["editors"]}
    found = {n for n, m in published.items() if _layers(m, method) == default_layers(method, m["n_layers"])}
    assert found == set(ALIKE[method].split())


def _layers(model: dict[str, Any], method: str) -> tuple[int, ...]:
    return tuple(model["editors"].get(method, {}).get("layers", ()))


@pytest.mark.parametrize("method", RULES)
def test_every_depth_has_layers_of_its_own(method):
    for n_layers in range(1, 101):
        layers = default_layers(method, n_layers)
        assert layers
        assert list(layers) == sorted(set(layers) & set(range(n_layers)))


def test_a_variant_edits_where_its_model_does():
    assert default_layers("r_rome", 32) == default_layers("rome", 32) == (5,)


ROME_AT_9 = {"n_layers": 24, "editors": {"rome": {"layers": [9]}}}


@pytest.mark.parametrize(
    ("model", "settings", "expected"),
    [
        ({"n_layers": 24, "editors": {}}, {}, {"rome": [4], "memit": [3, 4, 5, 6, 7], "ft": [16]}),
        ({"architecture": {"n_layer": 4}, "editors": {}}, {}, {"rome": [1], "memit": [0, 1, 2, 3]}),
        (ROME_AT_9, {}, {"rome": [9], "r_rome": [9], "ft": [16]}),
        (ROME_AT_9, {"layers": [7]}, {"rome": [7], "r_rome": [7]}),
        ({"n_layers": 24, "editors": {"rome": {"lr": 0.1}}}, {}, {"rome": [4]}),
        ({"editors": {}}, {}, {"rome": [17]}),
    ],
)
def test_layers_come_from_the_run_the_model_or_its_depth(model, settings, expected):
    for method, layers in expected.items():
        found = merged_settings({"method": method, "settings": settings}, model)
        assert list(found["layers"]) == layers, method


def test_layers_that_nothing_tells_and_layers_that_are_not_there_are_errors(tmp_path):
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["sequences"], config["abilities"] = {}, {}
    config["models"], config["report"] = ["some"], {}
    config["kgs"]["world"]["file"] = str(ROOT / "resources" / "world.yaml")
    config["editors"] = {"mine": {"method": "rome"}, "other": {"method": "ft", "settings": {"layers": [1]}}}
    folder = tmp_path / "resources" / "models"
    folder.mkdir(parents=True)
    for sheet in (ROOT / "resources").glob("*.tsv"):
        shutil.copy(sheet, tmp_path / "resources")
    some = {"source": {"path": str(tmp_path)}, "moments": {"text": "text.txt"}}
    for more, line in (
        ({}, "editors.rome.layers: missing, for editor mine; give them, or n_layers"),
        ({"n_layers": 0}, "n_layers: found 0"),
        (
            {"n_layers": 6, "editors": {"ft": {"layers": [5, 6]}}},
            "editors.ft.layers: [6] are not among the model's layers 0 to 5",
        ),
        ({"n_layers": 6}, None),
        ({"editors": {"rome": {"layers": [3]}}}, None),
    ):
        (folder / "some.yaml").write_text(yaml.safe_dump({**some, **more}))
        given = copy.deepcopy(config)
        if line is None:
            check_config(given, tmp_path)
            continue
        with pytest.raises(ValueError, match=r"errors? in the configuration") as caught:
            check_config(given, tmp_path)
        assert f"resources/models/some.yaml: {line}" in str(caught.value)
