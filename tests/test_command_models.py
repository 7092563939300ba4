"""What the command `aftershock` does with models: their files, and edits that it saves."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.statistics.moments import save_moments
from aftershock.schema import faults, read_schema
from loopback import loopback_hub
from test_command import ROOT, SMALL
from tiny import moments, tiny


def test_a_model_that_the_hub_does_not_have_is_named(call: Callable, monkeypatch) -> None:
    with loopback_hub() as hub:
        hub.stand_in(monkeypatch)
        code, _, err = call("add-model", "owner/nothing")
    assert (code, err.count("\n")) == (2, 1)
    assert "owner/nothing at revision main cannot be fetched: the Hub has no such repository" in err


def test_a_model_in_a_folder_is_described(call: Callable, tmp_path: Path) -> None:
    lm = tiny("llama", torch.float32)
    lm.model.save_pretrained(tmp_path / "Own Model")
    code, out, _ = call("add-model", "Own Model")
    assert code == 0
    model = yaml.safe_load((tmp_path / "resources/models/own-model.yaml").read_text())
    assert not list(faults(model, read_schema("model")))
    inner, width = lm.weight(lm.family.inputs[0].format(0)).shape
    pairs = lm.model.config.num_key_value_heads * lm.model.config.head_dim
    assert model["source"] == {"path": "Own Model"}
    assert (model["model_type"], model["n_layers"]) == ("llama", lm.n_layers)
    wanted = {"width": width, "inner": inner, "vocabulary": len(lm.model.get_input_embeddings().weight)}
    tied = {"tied": True} if lm.model.config.tie_word_embeddings else {}
    assert model["shape"] == {**wanted, "key_value": pairs, "gated": True, **tied}
    assert "layers by depth: " in out
    code, _, err = call("add-model", "Own Model")
    assert code == 2
    assert "exists already; choose another --name" in err


def test_published_layers_are_taken_for_a_model_of_the_same_sizes(call: Callable, tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 1600, "n_layer": 48, "n_head": 25, "vocab_size": 50257}
    (tmp_path / "xl").mkdir()
    (tmp_path / "xl" / "config.json").write_text(json.dumps(config))
    code, out, err = call("add-model", "xl")
    assert code == 0, err
    assert "layers by published settings: " in out
    shipped = yaml.safe_load((ROOT / "resources/models/gpt2-xl.yaml").read_text())
    text = (tmp_path / "resources/models/xl.yaml").read_text()
    assert "&" not in text  # no method refers to the list of another one
    found = yaml.safe_load(text)
    assert found["editors"]["rome"]["layers"] == shipped["editors"]["rome"]["layers"]


def test_an_edit_is_saved_as_an_adapter(call: Callable, tmp_path: Path) -> None:
    lm = tiny("llama", torch.float32)
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "edits.json").write_text(
        '[{"prompt": "Ann was born in", "subject": "Ann", "target_new": "Rome"}]'
    )
    code, out, err = call(
        "export", "model", "edits.json", "--to", "adapter", "--method", "lora", "--form", "lora"
    )
    assert code == 0, err
    before, after = (float(part.split()[-1]) for part in out.splitlines()[0].split(", now"))
    assert after > before
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()
    assert call("export", "model", "edits.json", "--to", "adapter")[0] == 2
    code, out, err = call("export", "model", "edits.json", "--to", "whole")
    assert code == 0, err
    assert (tmp_path / "whole" / "model.safetensors").is_file()
    save_moments(moments(lm), tmp_path / "m.safetensors", sha256_of_weights(tmp_path / "model"), "")
    memit = ["--method", "memit", "--form", "lora", "--set", "layers=[0, 1]", "--set", "steps=3"]
    code, out, err = call(
        "export", "model", "edits.json", "--to", "low", *memit, "--artifact", "moments=m.safetensors"
    )
    assert code == 0, err
    assert (tmp_path / "low" / "adapter_model.safetensors").is_file()
    for arguments, said in (
        (["--form", "lora"], "what ft changes is not of low rank, as a LoRA adapter is; take --form model"),
        (["--set", "steps"], "--set: expected a name, = and a value; found 'steps'"),
        (["--set", "stepz=3"], "ft.stepz: unknown setting; did you mean 'steps'?"),
        (["--artifact", "moment=m"], "--artifact: 'moment' is unknown; did you mean 'moments'?"),
    ):
        code, out, err = call("export", "model", "edits.json", "--to", "other", *arguments)
        assert (code, said in err) == (2, True), err


def test_the_folder_that_one_stands_in_has_a_name(call: Callable, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "Mine too").mkdir()
    (tmp_path / "Mine too" / "config.json").write_text(json.dumps(SMALL))
    monkeypatch.chdir(tmp_path / "Mine too")
    code, out, err = call("add-model", ".")
    assert code == 0, err
    assert out.splitlines()[-1] == "To use it: models: [mine-too]"
    Path("config.json").write_text("{")
    code, _, err = call("add-model", ".", "--name", "broken")
    assert (code, ". holds no config.json that names a model_type" in err) == (2, True)
