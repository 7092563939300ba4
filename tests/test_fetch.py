"""Model files from a hub on this machine and from a folder."""

import json

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

MAIN = {"hub": "owner/tiny", "revision": "main"}
FILES = {"config.json", "generation_config.json", "model.safetensors", PROVENANCE}
FILES |= {"tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def weights(tmp_path):
    return tmp_path / "weights"


@pytest.fixture
def repo(hub, tmp_path):
    """The folder that the hub serves as MAIN."""
    hub.add("owner/tiny", tmp_path / "repo", "main")
    return tmp_path / "repo"


def refused(source, weights, message, *more):
    with pytest.raises(ValueError, match=message):
        fetch(source, weights, *more)


# --- from the hub ------------------------------------------------------------------------------------------
def test_safetensors_of_a_revision_are_fetched_and_nothing_else(hub, tmp_path):
    lm, v1 = saved(tmp_path / "repo"), {"hub": "owner/tiny", "revision": "v1"}
    for name in ("pytorch_model.bin", "modeling.py", "consolidated.safetensors", "flax_model.msgpack"):
        (tmp_path / "repo" / name).write_text("other")
    commit = hub.add("owner/tiny", tmp_path / "repo", "v1")
    into = tmp_path / "results" / "weights"
    fetch(v1, into, family_of)
    same(into, lm)
    assert {file.name for file in into.iterdir()} == FILES
    told = {"commit": commit, "weights_sha256": sha256_of_weights(into)}
    assert read_json(into / PROVENANCE) == v1 | told
    assert [path.name for path in into.parent.iterdir()] == ["weights"]


@pytest.mark.parametrize("old_format", [False, True])
def test_weights_in_torchs_format_are_converted_once(repo, weights, old_format):
    lm = saved_as_bin(repo, _use_new_zipfile_serialization=not old_format)
    fetch(MAIN, weights)
    same(weights, lm)
    assert set(tensors(weights)) == set(lm.model.state_dict())
    assert not list(weights.glob("*.bin"))
    assert list(read_json(weights / PROVENANCE)["converted"]) == ["pytorch_model.bin"]


def test_shards_are_converted_into_shards_of_a_limited_size(repo, weights):
    lm = saved_as_bin(repo, shards=3)
    fetch(MAIN, weights, shard_bytes=20_000)
    same(weights, lm)
    index = read_json(weights / "model.safetensors.index.json")
    files = sorted(weights.glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == [file.name for file in files]
    sizes = [tensor.nbytes for tensor in lm.model.state_dict().values()]
    for file in files:
        held = load_file(file)
        assert sum(tensor.nbytes for tensor in held.values()) <= max(20_000, *sizes)
        assert {index["weight_map"][name] for name in held} == {file.name}
    assert index["metadata"]["total_size"] == sum(sizes)


def test_sharded_safetensors_come_with_their_index(repo, weights):
    lm = saved(repo, max_shard_size="20KB")
    assert (repo / "model.safetensors.index.json").is_file()
    fetch(MAIN, weights)
    same(weights, lm)
    next(repo.glob("model-00002*")).unlink()
    refused(MAIN, weights, r"owner/tiny at revision main lacks model-00002-of-\d+.safetensors")
    same(weights, lm)


def test_a_tokenizer_without_tokenizer_json_is_converted_once(repo, weights):
    lm = saved(repo)
    made = read_json(repo / "tokenizer.json")["model"]
    for file in repo.glob("tokenizer*"):
        file.unlink()
    write_words(repo, made)
    fetch(MAIN, weights)
    assert (weights / "tokenizer.json").is_file()
    same(weights, lm, front=" ")  # GPT-2's own puts none in front, the one trained here does
    (repo / "vocab.json").unlink()
    (repo / "merges.txt").unlink()
    other = weights.with_name("other")
    refused(MAIN, other, r"has no tokenizer\.json, and none can be made of what it has")
    assert not other.exists()


@pytest.mark.parametrize(
    ("name", "revision", "expected"),
    [
        ("owner/tiny", "v2", "at revision v2 cannot be fetched: the repository has no such revision"),
        ("owner/other", "main", "at revision main cannot be fetched: the Hub has no such repos"),
    ],
)
def test_what_the_hub_does_not_have_is_named(repo, weights, name, revision, expected):
    saved(repo)
    refused({"hub": name, "revision": revision}, weights, f"{name} {expected}")


def test_a_lost_connection_is_taken_up_where_it_was(hub, repo, weights, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 500)  # of which what arrived is asked again
    lm = saved(repo)
    hub.drops["model.safetensors"] = [1000, 2000]
    fetch(MAIN, weights)
    same(weights, lm)
    asked = [given for name, given in hub.gets if name == "model.safetensors"]
    assert asked == ["", "bytes=1000-", "bytes=3000-"]


def test_a_file_that_arrives_damaged_is_not_kept(hub, repo, weights, monkeypatch):
    saved(repo)
    with monkeypatch.context() as patch:
        patch.setattr(hub_module, "sha256_of", lambda *_: "0" * 64)
        refused(MAIN, weights, r"model\.safetensors .* arrived with another sha256")
    assert not weights.exists()
    assert not list(weights.parent.rglob(".weights.*/model.safetensors"))
    before = len(hub.gets)
    fetch(MAIN, weights)  # which goes on with the files that it lacks
    assert [name for name, _ in hub.gets[before:]] == ["model.safetensors"]


def test_without_a_network_the_error_says_what_to_do(tmp_path, weights, monkeypatch, hub):
    with loopback_hub() as gone:
        address = gone.address
    monkeypatch.setattr(constants, "ENDPOINT", address)
    refused(MAIN, weights, r"cannot be fetched: ConnectError.*check the network and run again")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(MAIN, weights, r"cannot be fetched: OfflineModeIsEnabled.*or name a folder")
    assert not list(tmp_path.iterdir())


# --- what is refused ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"auto_map": {"AutoModelForCausalLM": "modeling.Own"}},
            r"config\.json asks for code.*AutoModelForCausalLM.*never run",
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            r"owner/tiny at .* holds quantised weights \(awq, 4 bits",
        ),
        ({"model_type": "mamba"}, "unknown model type 'mamba'"),
    ],
)
def test_code_packed_weights_and_unknown_families_are_refused_before_weights_are_fetched(
    hub, repo, weights, change, message
):
    saved(repo)
    (repo / "config.json").write_text(json.dumps(read_json(repo / "config.json") | change))
    refused(MAIN, weights, message, family_of)
    assert "model.safetensors" not in dict(hub.gets)


class Own:
    """An object that loading would have to build."""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.ones(2), "b": Own()}, r"pytorch_model\.bin cannot be read as plain tensors.*not loaded"),
        ([torch.ones(2)], "holds no tensors by name"),
    ],
)
def test_a_bin_that_holds_more_than_tensors_is_refused(tmp_path, weights, content, message):
    saved_as_bin(tmp_path / "model")
    torch.save(content, tmp_path / "model" / "pytorch_model.bin")
    refused({"path": str(tmp_path / "model")}, weights, message)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# --- from a folder -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("write", [saved, saved_as_bin])
def test_a_folder_is_copied_without_anything_that_could_run(tmp_path, weights, write):
    folder = tmp_path / "model"
    lm = write(folder)
    (folder / "modeling.py").write_text("other")
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    fetch({"path": str(folder)}, weights)
    same(weights, lm)
    assert not {file.suffix for file in weights.iterdir()} - {".json", ".safetensors"}
    assert read_json(weights / PROVENANCE)["path"] == str(folder)
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_folders_that_are_no_model_are_refused(tmp_path, weights):
    folder = tmp_path / "model"
    source = {"path": str(folder)}
    saved(folder)
    (folder / "model.safetensors").unlink()
    refused(source, weights, r"has no weights: none of model\.safetensors")
    (folder / "pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "../x.bin"}}')
    refused(source, weights, r"lacks \.\./x\.bin, which its index names")
    (folder / "config.json").write_text("{")
    refused(source, weights, r"config\.json is not JSON")
    (folder / "config.json").unlink()
    refused(source, weights, r"is no model: it has no config\.json")


# --- spread over devices -----------------------------------------------------------------------------------
def test_a_device_map_without_accelerate_names_what_is_missing(tmp_path, monkeypatch):
    saved(tmp_path)
    monkeypatch.setattr("aftershock.lm.model.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"device_map needs the package accelerate.*pip install accelerate"):
        LanguageModel.load(tmp_path, device_map="auto")


def test_a_device_map_places_every_weight(tmp_path):
    pytest.importorskip("accelerate", reason="accelerate is only needed for models larger than one GPU")
    lm = saved(tmp_path)
    for placed in ("auto", {"": "cpu"}, {"transformer": "cpu", "lm_head": "cpu"}):
        found = LanguageModel.load(tmp_path, device_map=placed)
        for name, tensor in lm.model.state_dict().items():
            assert torch.equal(found.model.state_dict()[name].cpu(), tensor), name
        ids, mask = found.pad(found.encode(TEXTS[:3]))
        assert torch.allclose(found.run(ids, mask).cpu(), lm.run(ids.cpu(), mask.cpu()), atol=1e-5)
    names = ["wte", "wpe", "h.0", "h.1", "h.2", "ln_f"]
    away = {f"transformer.{name}": "disk" if name == "h.1" else "cpu" for name in names} | {"lm_head": "cpu"}
    with pytest.raises(ValueError, match=r"on no GPU, transformer\.h\.1\.\S+ first; editing reads them all"):
        LanguageModel.load(tmp_path, device_map=away)
