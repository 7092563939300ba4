"""Sizes of a model are read from its own files, and what contradicts them is an error."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from aftershock.config import check_config
from aftershock.config.sizes import UNKNOWN, Sizes
from aftershock.lm.files.sizes import sizes_of_config, sizes_of_gguf, sizes_of_source
from gguf_writing import INNER, KEY_VALUE, LAYERS, WIDTH, write_gguf
from small_project import CONFIG, errors, write_project
from tiny import save, tiny

SMALL = yaml.safe_load(CONFIG) | {"models": ["given"]}


@pytest.fixture
def project(tmp_path, monkeypatch):
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(folder: Path, family: str) -> Path:
    """The folder below that holds a small random model of a family."""
    return save(tiny(family, torch.float32), folder / "own")


def describe(project: Path, text: str) -> None:
    (project / "resources" / "models" / "given.yaml").write_text(text)


@pytest.mark.parametrize(
    "family", ["gpt2", "gptj", "gpt_neox", "llama", "qwen2", "gemma2", "phi3", "starcoder2", "opt", "falcon"]
)
def test_sizes_of_a_folder_are_those_of_its_matrices(tmp_path, family):
    lm = tiny(family, torch.float32)
    file, said = sizes_of_source({"path": str(saved(tmp_path, family))}, tmp_path / "none")
    assert file == tmp_path / "own" / "config.json"
    assert (said["model_type"], said["n_layers"]) == (family, lm.n_layers)
    shape = said["shape"]
    width, inner = lm.weight(lm.family.projection.format(0)).shape
    embedding, head = lm.model.get_input_embeddings().weight, lm.model.get_output_embeddings().weight
    assert (shape["width"], shape["inner"], shape["vocabulary"]) == (width, inner, len(embedding))
    assert shape.get("tied", False) is (head.data_ptr() == embedding.data_ptr())
    first = sum(lm.model.get_submodule(name.format(0)).weight.numel() for name in lm.family.inputs)
    assert shape.get("gated", False) is (first == 2 * width * inner)
    config = lm.model.config
    pairs = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    wide = pairs * (getattr(config, "head_dim", None) or width // config.num_attention_heads)
    assert shape.get("key_value", width) == wide


def test_a_configuration_that_is_silent_about_the_head_is_held_against_the_tensors():
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 9}
    tied = sizes_of_config(config, ["transformer.wte.weight"])["shape"]
    assert tied == {"width": 8, "inner": 32, "vocabulary": 9, "tied": True}
    assert "tied" not in sizes_of_config(config, ["transformer.wte.weight", "lm_head.weight"])["shape"]


def test_a_plain_mlp_is_four_times_as_wide_where_nothing_is_said():
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 9}
    assert sizes_of_config({"model_type": "falcon", **sizes})["shape"]["inner"] == 32
    assert "shape" not in sizes_of_config({"model_type": "llama", **sizes})


def test_a_configuration_without_sizes_says_no_shape_and_the_language_models_part_counts():
    said = sizes_of_config({"model_type": "other", "num_hidden_layers": 3})
    assert said == {"model_type": "other", "n_layers": 3}
    assert sizes_of_config({}) == {}
    inner = {"model_type": "llama", "hidden_size": 8, "intermediate_size": 9, "vocab_size": 7}
    inner |= {"num_hidden_layers": 3, "num_attention_heads": 2}
    found = sizes_of_config({"model_type": "several", "text_config": inner}, ["lm_head.weight"])
    assert (found["model_type"], found["n_layers"]) == ("llama", 3)
    assert found["shape"] == {"width": 8, "inner": 9, "vocabulary": 7, "gated": True}


@pytest.mark.parametrize("stored", ["F16", "Q8_0"])
def test_sizes_of_a_gguf_file_are_in_its_header(tmp_path, stored):
    path = write_gguf(tmp_path / "small.gguf", stored=stored)
    found = sizes_of_gguf(path)
    assert (found["model_type"], found["n_layers"]) == ("llama", LAYERS)
    sizes = {"width": WIDTH, "inner": INNER, "key_value": WIDTH // 4 * KEY_VALUE, "gated": True, "tied": True}
    assert found["shape"] == sizes | {"vocabulary": found["shape"]["vocabulary"]}
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="small.gguf")
    assert found["shape"]["vocabulary"] == len(tokenizer)


def test_a_broken_gguf_file_says_nothing(tmp_path):
    whole = write_gguf(tmp_path / "small.gguf").read_bytes()
    for length in (0, 3, 10, 40, 200, 2000):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        assert sizes_of_gguf(tmp_path / "cut.gguf") == {}


@pytest.mark.parametrize(
    "text", ["source: {path: own}\n", "source: {path: own}\nn_layers: null\nshape: null\n"]
)
def test_a_models_file_need_not_repeat_its_folder(project, text):
    saved(project, "llama")
    describe(project, text)
    model = check_config(dict(SMALL), project)["given"]
    lm = tiny("llama", torch.float32)
    assert (model["model_type"], model["n_layers"]) == ("llama", lm.n_layers)
    assert Sizes.of(model) != UNKNOWN
    assert Sizes.of(model).vocabulary == len(lm.model.get_input_embeddings().weight)


def test_sizes_stay_when_a_folder_was_copied_and_is_gone(project):
    folder = saved(project, "llama")
    describe(project, "source: {path: own}\n")
    before = check_config(dict(SMALL), project)["given"]
    copied = project / "results" / "models" / "given"
    copied.mkdir(parents=True)
    folder.rename(copied / "weights")
    assert check_config(dict(SMALL), project)["given"] == before


def test_a_gguf_file_need_not_be_described(project):
    write_gguf(project / "small.gguf")
    describe(project, "source: {gguf: small.gguf}\n")
    model = check_config(dict(SMALL), project)["given"]
    assert (model["model_type"], model["n_layers"], model["shape"]["inner"]) == ("llama", LAYERS, INNER)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("n_layers: 7", "n_layers: 7, but own/config.json says 3; remove it, as it is read there"),
        ("model_type: gpt2", "model_type: 'gpt2', but own/config.json says 'llama'"),
        ("shape: {inner: 7}", "shape.inner: 7, but own/config.json says "),
        ("shape: {gated: false}", "shape.gated: False, but own/config.json says True"),
    ],
)
def test_a_models_file_that_contradicts_its_folder_is_one_error(project, text, said):
    saved(project, "llama")
    describe(project, f"source: {{path: own}}\n{text}\n")
    (found,) = errors(project, models=["given"])
    assert found.startswith(f"resources/models/given.yaml: {said}")


def test_a_models_file_that_repeats_its_folder_is_sound(project):
    folder = saved(project, "llama")
    _, said = sizes_of_source({"path": str(folder)}, folder)
    describe(project, json.dumps({"source": {"path": "own"}, **said}))
    assert check_config(dict(SMALL), project)["given"]["shape"]["width"] == said["shape"]["width"]


def test_a_model_of_the_hub_is_as_its_file_says_whatever_was_fetched(project):
    saved(project, "llama").rename(project / "weights")
    assert sizes_of_source({"hub": "o/n", "revision": "main"}, project / "weights") == (None, {})
    describe(project, "source: {hub: o/n, revision: main}\n")
    found = errors(project, models=["given"])
    assert any("layers: missing, for editor memit; give them, or n_layers" in line for line in found)
