"""Folders of weights that are not whole or of another model, and sources that are not there."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from aftershock.config import check_fetched
from aftershock.config.fetched import source_errors
from aftershock.lm.families import family_of
from aftershock.lm.files.fetch import fetch
from aftershock.lm.files.folders import fault_of_encoder, fault_of_model, fault_of_origin, quantisation_of
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.classifier import classify
from tiny import save, tiny

FETCHED = {"source": {"hub": "owner/tiny", "revision": "main"}, "n_layers": 3}
PLAIN = {"cases": {"label_encoder": "model"}, "screen": {"classifier": None}}


def saved(folder, **options):
    return save(tiny(dtype=torch.float32), folder, **options)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "has no config.json": lambda folder: (folder / "config.json").unlink(),
    "has no tokenizer.json": lambda folder: (folder / "tokenizer.json").unlink(),
    "its tokenizer.json cannot be read": lambda folder: cut(folder / "tokenizer.json"),
    "has no model-00002-of-": lambda folder: next(folder.glob("model-00002-of-*")).unlink(),
    "model-00001-of-.* is damaged or cut short": lambda folder: cut(next(folder.glob("model-00001-of-*"))),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_a_folder_lacks_is_named_before_and_in_a_job(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    folder = saved(Path("results/models/ours/weights"), max_shard_size="15KB")
    assert fault_of_model(folder) is None
    check_fetched(PLAIN, {"ours": FETCHED})
    DAMAGES[damage](folder)
    with pytest.raises(
        ValueError, match=f"^delete.*\n  {folder} .*{damage}.*rule fetch_model makes it anew$"
    ):
        check_fetched(PLAIN, {"ours": FETCHED})
    with pytest.raises(ValueError, match="rule train_lm makes it anew$"):
        check_fetched(PLAIN, {"ours": {"train": {}, "architecture": {"n_layer": 3}}})
    with pytest.raises(
        ValueError, match=rf"{damage}.*delete it and run again \(rule fetch_model or train_lm"
    ):
        LanguageModel.load(folder)
    with pytest.raises(
        ValueError, match=f"{damage}.*delete it and run again: rule fetch_classifier makes it"
    ):
        classify(folder, ["a"], "toxic", "cpu")


def test_a_pointer_to_weights_is_no_weights(tmp_path):
    folder = saved(tmp_path)
    (folder / "model.safetensors").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    )
    assert fault_of_model(folder) == "is not whole: model.safetensors is damaged or cut short"
    (folder / "model.safetensors").write_bytes(b"")
    assert fault_of_model(folder) == "is not whole: model.safetensors is damaged or cut short"


def test_weights_of_another_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = saved(Path("results/models/ours/weights"))
    hub = {"hub": "owner/tiny", "revision": "main"}
    assert fault_of_origin(folder, hub, 3) is None  # put there by hand: nothing is known about it
    assert fault_of_origin(folder, hub, 48) == "holds a model of 3 layers, not of 48"
    found = {"hub": "owner/tiny", "revision": "main", "commit": "abc"}
    (folder / "provenance.json").write_text(json.dumps(found))
    assert fault_of_origin(folder, hub, 3) is fault_of_origin(folder, hub | {"revision": "abc"}, None) is None
    assert fault_of_origin(folder, hub | {"hub": "owner/other"}, 3) == "holds owner/tiny, not owner/other"
    assert "revision main of owner/tiny, not v2" in fault_of_origin(folder, hub | {"revision": "v2"}, 3)
    (folder / "provenance.json").write_text(json.dumps({"path": "here"}))
    with pytest.raises(ValueError, match="holds here, not owner/tiny; rule fetch_model makes it anew"):
        check_fetched(PLAIN, {"ours": FETCHED})


def test_an_encoder_and_a_classifier_are_looked_at_where_they_are_used(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hub = {"hub": "owner/it", "revision": "main"}
    config = {"cases": {"label_encoder": hub}, "screen": {"classifier": {"source": hub, "label": "toxic"}}}
    check_fetched(config, {})  # nothing is there yet
    encoder, classifier = saved(Path("results/encoder")), saved(Path("results/screen/classifier"))
    (classifier / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="no modules.json; rule fetch_encoder") as error:
        check_fetched(config, {})
    assert f"{classifier} is no whole model: it has no tokenizer.json; rule fetch_classifier" in str(
        error.value
    )
    check_fetched(PLAIN, {})
    (encoder / "modules.json").write_text("[]")
    assert fault_of_encoder(encoder) is None
    cut(encoder / "model.safetensors")
    assert fault_of_encoder(encoder) == "is not whole: model.safetensors is damaged or cut short"


def test_a_source_on_disk_has_to_exist_until_it_is_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lost = {"path": "lost"}
    config = {"kg": "graph", "kgs": {"graph": {"source": "file"}}}
    config |= {"cases": {"label_encoder": lost}, "screen": {"classifier": {"source": lost}}}
    models = {"ours": {"source": lost}, "theirs": FETCHED, "made": {"train": {}}}
    found = [*source_errors(config, models, tmp_path, {"graph"})]
    keys = ["resources/models/ours.yaml: source", "cases.label_encoder", "screen.classifier.source"]
    told = "path: there is no folder 'lost'; a path is relative to the working directory"
    assert found == [f"{key}.{told}" for key in keys]
    for made in ("models/ours/weights", "encoder", "screen/classifier"):
        Path("results", made).mkdir(parents=True)
    assert [*source_errors(config, models, tmp_path, {"graph"})] == []
    assert [*source_errors(PLAIN, {}, tmp_path)] == []


# --- quantised weights -------------------------------------------------------------------------------------
QUANTISED = [
    {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
    {"quantization_config": {"quant_method": "awq", "bits": 4, "zero_point": True}},
    {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}},
    {"quantization_config": {"load_in_8bit": True}},
    {"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {}}},
    {"quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}},
    {"quantization_config": {"quant_method": "unheard"}},
    {"compression_config": {"format": "pack-quantized"}},
    {"text_config": {"quantization_config": {"quant_method": "hqq"}}},
    {"quantization": "fp8"},
]


def described(folder: Path, more: dict) -> Path:
    """The folder with more in its config.json."""
    config = folder / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **more}))
    return folder


@pytest.mark.parametrize("more", QUANTISED)
def test_a_quantised_model_is_refused_wherever_it_is_met(tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    source = described(saved(Path("given")), more)
    said = r"holds quantised weights \(.*config\.json says\): .* take the model as it was before quantisation"
    with pytest.raises(ValueError, match=f"^given {said}"):
        fetch({"path": "given"}, Path("results/models/ours/weights"), family_of)
    assert not Path("results/models/ours/weights").exists()
    (found,) = source_errors(PLAIN, {"ours": {"source": {"path": "given"}}}, tmp_path)
    assert re.match(rf"resources/models/ours\.yaml: source\.path: given {said}", found)
    source.rename("results/models/ours/weights")
    with pytest.raises(ValueError, match=said):
        check_fetched(PLAIN, {"ours": FETCHED})
    with pytest.raises(ValueError, match=said):
        LanguageModel.load("results/models/ours/weights")


def test_a_method_and_its_bits_are_told():
    told = {"quant_method": "gptq", "bits": 4}
    assert (
        quantisation_of({"quantization_config": told})
        == "gptq, 4 bits, as quantization_config in config.json says"
    )
    told = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    assert quantisation_of({"quantization_config": told}).startswith("bitsandbytes, 8 bits, ")
    assert quantisation_of({}, ["config.json", "quantize_config.json"]) == "as quantize_config.json says"
    for plain in ({}, {"quantization_config": None}, {"quantization_config": {}}, {"text_config": {}}):
        assert quantisation_of(plain, ["config.json"]) is None


@pytest.mark.parametrize("kind", [torch.float8_e4m3fn, torch.int8, torch.uint8])
def test_packed_weights_are_seen_without_a_word_in_the_configuration(tmp_path, kind):
    folder = saved(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    tensors["transformer.h.0.attn.bias"] = torch.ones(2, 2, dtype=torch.uint8)  # old files keep their masks
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert fault_of_model(folder) is None
    tensors["transformer.h.1.mlp.c_fc.weight"] = torch.ones(2, 2).to(kind)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "quantised weights (model.safetensors: transformer.h.1.mlp.c_fc.weight is" in fault_of_model(
        folder
    )
