"""Model files from a hub on this machine and from a folder."""

import json
import threading

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from aftershock.lm.families import family_of
from aftershock.lm.files import hub as hub_module
from aftershock.lm.files.fetch import PROVENANCE, fetch
from aftershock.lm.files.hashes import sha256_of_weights
from aftershock.lm.model import LanguageModel
from aftershock.text_files import read_json
from loopback import loopback_hub
from saved_models import same, saved, saved_as_bin, tensors
from tiny import TEXTS
from tokenizers_here import write_words

NAME = "owner/tiny"


MAIN = {"hub": NAME, "revision": "main"}


# --- from the hub ------------------------------------------------------------------------------------------
def test_safetensors_of_a_revision_are_fetched_and_nothing_else(hub, tmp_path):
    lm = saved(tmp_path / "repo")
    for name in ("pytorch_model.bin", "modeling.py", "consolidated.safetensors", "flax_model.msgpack"):
        (tmp_path / "repo" / name).write_text("other")
    commit = hub.add(NAME, tmp_path / "repo", "v1")
    into = tmp_path / "results" / "weights"
    fetch({"hub": NAME, "revision": "v1"}, into, family_of)
    same(into, lm)
    assert {file.name for file in into.iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        PROVENANCE,
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert read_json(into / PROVENANCE) == {
        "hub": NAME,
        "revision": "v1",
        "commit": commit,
        "weights_sha256": sha256_of_weights(into),
    }
    assert [path.name for path in into.parent.iterdir()] == ["weights"]


@pytest.mark.parametrize("old_format", [False, True])
def test_weights_in_torchs_format_are_converted_once(hub, tmp_path, old_format):
    lm = saved_as_bin(tmp_path / "repo", _use_new_zipfile_serialization=not old_format)
    hub.add(NAME, tmp_path / "repo", "main")
    fetch(MAIN, tmp_path / "weights")
    same(tmp_path / "weights", lm)
    assert set(tensors(tmp_path / "weights")) == set(lm.model.state_dict())
    assert not list(tmp_path.rglob("weights/*.bin"))
    assert list(read_json(tmp_path / "weights" / PROVENANCE)["converted"]) == ["pytorch_model.bin"]


def test_shards_are_converted_into_shards_of_a_limited_size(hub, tmp_path):
    lm = saved_as_bin(tmp_path / "repo", shards=3)
    hub.add(NAME, tmp_path / "repo", "main")
    fetch(MAIN, tmp_path / "weights", shard_bytes=20_000)
    same(tmp_path / "weights", lm)
    index = read_json(tmp_path / "weights" / "model.safetensors.index.json")
    files = sorted(tmp_path.glob("weights/*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == [file.name for file in files]
    largest = max(tensor.nbytes for tensor in lm.model.state_dict().values())
    for file in files:
        held = load_file(file)
        assert sum(tensor.nbytes for tensor in held.values()) <= max(20_000, largest)
        assert {index["weight_map"][name] for name in held} == {file.name}
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in lm.model.state_dict().values())


def test_sharded_safetensors_come_with_their_index(hub, tmp_path):
    lm = saved(tmp_path / "repo", max_shard_size="20KB")
    assert (tmp_path / "repo" / "model.safetensors.index.json").is_file()
    hub.add(NAME, tmp_path / "repo", "main")
    fetch(MAIN, tmp_path / "weights")
    same(tmp_path / "weights", lm)
    next((tmp_path / "repo").glob("model-00002*")).unlink()
    with pytest.raises(ValueError, match=r"owner/tiny at revision main lacks model-00002-of-\d+.safetensors"):
        fetch(MAIN, tmp_path / "weights")
    same(tmp_path / "weights", lm)


def test_a_tokenizer_without_tokenizer_json_is_converted_once(hub, tmp_path):
    lm = saved(tmp_path / "repo")
    made = read_json(tmp_path / "repo" / "tokenizer.json")["model"]
    for file in (tmp_path / "repo").glob("tokenizer*"):
        file.unlink()
    write_words(tmp_path / "repo", made)
    hub.add(NAME, tmp_path / "repo", "main")
    fetch(MAIN, tmp_path / "weights")
    assert (tmp_path / "weights" / "tokenizer.json").is_file()
    same(tmp_path / "weights", lm, front=" ")  # GPT-2's own puts none in front, the one trained here does
    (tmp_path / "repo" / "vocab.json").unlink()
    (tmp_path / "repo" / "merges.txt").unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer\.json, and none can be made of what it has"):
        fetch(MAIN, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        (NAME, "v2", "owner/tiny at revision v2 cannot be fetched: the repository has no such revision"),
        ("owner/other", "main", "owner/other at revision main cannot be fetched: the Hub has no such repos"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub, tmp_path, name, revision, expected):
    saved(tmp_path / "repo")
    hub.add(NAME, tmp_path / "repo", "main")
    with pytest.raises(ValueError, match=expected):
        fetch({"hub": name, "revision": revision}, tmp_path / "weights")


def test_a_lost_connection_is_taken_up_where_it_was(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # of which what arrived is asked again
    lm = saved(tmp_path / "repo")
    hub.add(NAME, tmp_path / "repo", "main")
    hub.drops["model.safetensors"] = [1000, 2000]
    fetch(MAIN, tmp_path / "weights")
    same(tmp_path / "weights", lm)
    asked = [given for name, given in hub.gets if name == "model.safetensors"]
    assert asked == ["", "bytes=1000-", "bytes=3000-"]


def test_a_file_that_arrives_damaged_is_not_kept(hub, tmp_path, monkeypatch):
    saved(tmp_path / "repo")
    hub.add(NAME, tmp_path / "repo", "main")
    monkeypatch.setattr(hub_module, "sha256_of", lambda *_: "0" * 64)
    with pytest.raises(ValueError, match=r"model\.safetensors .* arrived with another sha256"):
        fetch(MAIN, tmp_path / "weights")
    monkeypatch.undo()
    assert not (tmp_path / "weights").exists()
    assert not list(tmp_path.rglob(".weights.*/model.safetensors"))


FETCH = """
    import sys
    from pathlib import Path
    from aftershock.lm.files.fetch import fetch
    fetch({"hub": "owner/tiny", "revision": "main"}, Path("weights"))
"""


@pytest.mark.thorough  # a lost connection is tried
def test_a_killed_fetch_goes_on_with_the_files_it_lacks(tmp_path, monkeypatch, python):
    lm = saved_as_bin(tmp_path / "repo", shards=2)
    second = "pytorch_model-00002-of-00002.bin"
    with loopback_hub() as served:
        served.add(NAME, tmp_path / "repo", "main")
        served.stalls[second] = threading.Event()
        monkeypatch.setenv("HF_ENDPOINT", served.address)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        killed = python(FETCH, cwd=tmp_path)
        waiting = threading.Event()
        arrived = ".weights.*.fetching/pytorch_model-00001-of-00002.bin"
        while not (list(tmp_path.glob(arrived)) and (second, "") in served.gets):
            assert killed.poll() is None, killed.communicate()
            waiting.wait(0.05)
        killed.kill()
        killed.communicate()
        assert not (tmp_path / "weights").exists()
        served.stalls.pop(second).set()
        before = len(served.gets)
        again = python(FETCH, cwd=tmp_path)
        _, said = again.communicate(timeout=120)
        assert again.returncode == 0, said
        assert [name for name, _ in served.gets[before:] if name.endswith(".bin")] == [second]
    same(tmp_path / "weights", lm)
    assert not list(tmp_path.glob(".weights.*.fetching"))


def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch, hub):
    with loopback_hub() as gone:
        address = gone.address
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(ValueError, match=r"cannot be fetched: ConnectError.*check the network and run again"):
        fetch(MAIN, tmp_path / "weights")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"cannot be fetched: OfflineModeIsEnabled.*or name a folder"):
        fetch(MAIN, tmp_path / "weights")
    assert not list(tmp_path.iterdir())


# --- what is refused ---------------------------------------------------------------------------------------
def test_code_packed_weights_and_unknown_families_are_refused_before_weights_are_fetched(hub, tmp_path):
    saved(tmp_path / "repo")
    config = tmp_path / "repo" / "config.json"
    values = read_json(config)
    hub.add(NAME, tmp_path / "repo", "main")
    cases = (
        (
            {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
            r"config\.json asks for code.*AutoModelForCausalLM.*never run",
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            r"owner/tiny at .* holds quantised weights \(awq, 4 bits",
        ),
        ({"model_type": "mamba"}, "unknown model type 'mamba'"),
    )
    for number, (change, message) in enumerate(cases):
        config.write_text(json.dumps(values | change))
        with pytest.raises(ValueError, match=message):
            fetch(MAIN, tmp_path / str(number), family_of)
    assert "model.safetensors" not in dict(hub.gets)


class Own:
    """An object that loading would have to build."""


def test_a_bin_that_holds_more_than_tensors_is_refused(tmp_path):
    saved_as_bin(tmp_path / "model")
    torch.save({"a": torch.ones(2), "b": Own()}, tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be read as plain tensors.*not loaded"):
        fetch({"path": str(tmp_path / "model")}, tmp_path / "weights")
    torch.save([torch.ones(2)], tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="holds no tensors by name"):
        fetch({"path": str(tmp_path / "model")}, tmp_path / "weights")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# --- from a folder -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("write", [saved, saved_as_bin])
def test_a_folder_is_copied_without_anything_that_could_run(tmp_path, write):
    lm = write(tmp_path / "model")
    (tmp_path / "model" / "modeling.py").write_text("other")
    before = {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}
    fetch({"path": str(tmp_path / "model")}, tmp_path / "weights")
    same(tmp_path / "weights", lm)
    assert not {file.suffix for file in (tmp_path / "weights").iterdir()} - {".json", ".safetensors"}
    assert read_json(tmp_path / "weights" / PROVENANCE)["path"] == str(tmp_path / "model")
    assert before == {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()}


def test_folders_that_are_no_model_are_refused(tmp_path):
    source = {"path": str(tmp_path / "model")}
    saved(tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no weights: none of model\.safetensors"):
        fetch(source, tmp_path / "weights")
    (tmp_path / "model" / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../x.bin"}}')
    with pytest.raises(ValueError, match=r"lacks \.\./x\.bin, which its index names"):
        fetch(source, tmp_path / "weights")
    (tmp_path / "model" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not JSON"):
        fetch(source, tmp_path / "weights")
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(ValueError, match=r"is no model: it has no config\.json"):
        fetch(source, tmp_path / "weights")


# --- spread over devices -----------------------------------------------------------------------------------
def test_a_device_map_without_accelerate_names_what_is_missing(tmp_path, monkeypatch):
    saved(tmp_path / "model")
    monkeypatch.setattr("aftershock.lm.model.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"device_map needs the package accelerate.*pip install accelerate"):
        LanguageModel.load(tmp_path / "model", device_map="auto")


def test_a_device_map_places_every_weight(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is only needed for models larger than one GPU")
    lm = saved(tmp_path / "model")
    for placed in ("auto", {"": "cpu"}, {"transformer": "cpu", "lm_head": "cpu"}):
        found = LanguageModel.load(tmp_path / "model", device_map=placed)
        for name, tensor in lm.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name].cpu(), tensor), name
        ids, mask = found.pad(found.encode(TEXTS[:3]))
        assert torch.allclose(found.run(ids, mask).cpu(), lm.run(ids.cpu(), mask.cpu()), atol=1e-5)
    names = ["wte", "wpe", "h.0", "h.1", "h.2", "ln_f"]
    away = {f"transformer.{name}": "disk" if name == "h.1" else "cpu" for name in names} | {"lm_head": "cpu"}
    with pytest.raises(ValueError, match=r"on no GPU, transformer\.h\.1\.\S+ first; editing reads them all"):
        LanguageModel.load(tmp_path / "model", device_map=away)
