"""Similarity of labels, by the model's own embeddings and by a sentence encoder that is built here."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from aftershock.experiments.knowledge import Ranking, score_objects
from aftershock.lm.files.fetch_encoder import fetch_encoder
from aftershock.lm.networks import label_encoder
from aftershock.lm.networks.label_encoder import ModelEncoder, SentenceEncoder, mean_cosines
from loopback import loopback_hub
from narrow import NoNarrowKernels
from tiny import CITIES, NAMES, TEMPLATES, tiny

needs_encoder = pytest.mark.skipif(
    find_spec("sentence_transformers") is None,
    reason="sentence-transformers is not installed: pip install --group encoder -c constraints.txt",
)
MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


def listed(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def repository(folder: Path, modules: object = None) -> Path:
    """Make a repository of sentence-transformers, with files that nobody needs; none can be loaded."""
    for name in ("1_Pooling", "onnx"):
        (folder / name).mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "1_Pooling/config.json"):
        (folder / name).write_text("{}")
    (folder / "modules.json").write_text(json.dumps(MODULES if modules is None else modules))
    weights = "model.safetensors", "pytorch_model.bin"
    for name in (*weights, "onnx/model.onnx", "onnx/config.json", "README.md", "x.py"):
        (folder / name).write_text(name)
    return folder


TAKEN = ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json", "tokenizer.json"]


# --- the model's own embeddings ----------------------------------------------------------------------------
def test_the_models_vectors_are_centred_means_of_token_embeddings(monkeypatch):
    lm = tiny()
    table = lm.model.get_input_embeddings().weight
    means = [sum(table[i] for i in ids) / len(ids) for ids in lm.encode_targets(CITIES)]
    middle = sum(means) / len(means)
    wanted = torch.stack([(mean - middle) / (mean - middle).norm() for mean in means])
    assert torch.allclose(ModelEncoder(lm).within(CITIES)(CITIES), wanted)
    monkeypatch.setattr(label_encoder, "CHUNK", 3)
    assert torch.allclose(ModelEncoder(lm).within(CITIES)(CITIES[4:6]), wanted[4:6])


def test_similarity_is_the_mean_cosine_to_the_subjects_other_objects():
    rows = pd.DataFrame(
        [("E1", "a"), ("E1", "b"), ("E1", "c"), ("E2", "a")],
        columns=["subject_id", "object"],
        index=[5, 3, 8, 2],
    )
    vectors = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [0.6, 0.8]}
    found = mean_cosines(rows, lambda labels: torch.tensor([vectors[label] for label in labels]))
    assert found[[5, 3, 8]].tolist() == pytest.approx([0.3, 0.4, 0.7])
    assert pd.isna(found[2])


# --- a sentence encoder ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    """A random BERT of one layer that knows letters, with mean pooling, as sentence-transformers saves it."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import models, normalizers, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    known = [*special.values(), *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(known)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(known), max_position_embeddings=32, **sizes)
    BertModel(config).save_pretrained(folder / "bert")
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=32, **special)
    fast.save_pretrained(folder / "bert")
    model = SentenceTransformer(modules=[Transformer(str(folder / "bert")), Pooling(8)], device="cpu")
    model.save(str(folder / "saved"))
    return folder / "saved"


@needs_encoder
def test_objects_are_compared_by_a_fetched_sentence_encoder(encoder_folder, hub, tmp_path):
    hub.add("us/labels", encoder_folder, "main")
    fetch_encoder({"hub": "us/labels", "revision": "main"}, tmp_path / "encoder")
    encoder = SentenceEncoder(tmp_path / "encoder")
    vectors = encoder.within([])(CITIES[:3])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3))
    assert torch.allclose(encoder.within(CITIES)(CITIES[2:3])[0], vectors[2], atol=1e-6)
    objects = pd.DataFrame(
        [("E0", "R1", f"C{i}", NAMES[0], city) for i, city in enumerate(CITIES[:3])],
        columns=["subject_id", "relation_id", "object_id", "subject", "object"],
    )
    prompts = pd.DataFrame([("R1", 0, TEMPLATES[0])], columns=["relation_id", "prompt_id", "template"])
    lm = tiny()
    found = score_objects(lm, objects, prompts, encoder, Ranking(10))
    wanted = [sum(float(vectors[i] @ vectors[j]) for j in range(3) if j != i) / 2 for i in range(3)]
    assert found["similarity"].tolist() == pytest.approx(wanted, abs=1e-6)
    own = score_objects(lm, objects, prompts, ModelEncoder(lm), Ranking(10))
    assert own["similarity"].tolist() != pytest.approx(wanted, abs=1e-3)
    assert own["rank"].tolist() == found["rank"].tolist()


@needs_encoder
@pytest.mark.parametrize("name", ["BertTokenizer", "GPT2Tokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("lower", [False, True])
def test_an_encoder_reads_by_its_tokenizer_json(encoder_folder, tmp_path, name, lower):
    """The rules made here make letters small and keep accents; a class of BERT's would do otherwise."""
    folder = shutil.copytree(encoder_folder, tmp_path / "encoder")
    for file, more in (
        ("tokenizer_config.json", {"tokenizer_class": name, "do_lower_case": False}),
        ("sentence_bert_config.json", {"do_lower_case": lower, "max_seq_length": 7}),
    ):
        values = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        (folder / file).write_text(json.dumps({**values, **more}))
    rules, encoder = Tokenizer.from_file(str(folder / "tokenizer.json")), SentenceEncoder(folder)
    for text in ("Oslo", "New Castle", "été", "a-b"):
        assert encoder.model.tokenizer(text)["input_ids"] == rules.encode(text).ids
    assert encoder.model.max_seq_length == 7
    long, short = encoder.model.encode(["abcdefghijk", "abcdefg"], normalize_embeddings=True)
    assert long == pytest.approx(short, abs=1e-6)


@needs_encoder
def test_an_encoder_in_bfloat16_is_computed_in_float32(encoder_folder, tmp_path):
    folder = tmp_path / "encoder"
    shutil.copytree(encoder_folder, folder)
    weights = next(folder.rglob("*.safetensors"))
    narrow = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
    save_file(narrow, weights, metadata={"format": "pt"})
    config = weights.with_name("config.json")
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))
    encoder = SentenceEncoder(folder)
    with NoNarrowKernels():
        assert encoder.within([])(CITIES[:2]).dtype == torch.float32


@needs_encoder
def test_missing_files_of_an_encoder_are_said(encoder_folder, tmp_path):
    with pytest.raises(ValueError, match="has no modules.json; delete it and run again"):
        SentenceEncoder(tmp_path)
    shutil.copytree(encoder_folder, tmp_path / "lame")
    (tmp_path / "lame" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be loaded as a sentence encoder.*delete it and run again"):
        SentenceEncoder(tmp_path / "lame")
    (tmp_path / "lame" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no \*\.safetensors; delete it and run again: rule fetch_enc"):
        SentenceEncoder(tmp_path / "lame")


def test_a_missing_library_is_said_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(label_encoder, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"sentence-transformers.*--group encoder.*label_encoder: model"):
        SentenceEncoder(tmp_path)


# --- fetching ----------------------------------------------------------------------------------------------
def test_the_listed_modules_are_fetched_and_nothing_else(hub, tmp_path):
    commit = hub.add("us/labels", repository(tmp_path / "theirs"), "v1")
    fetch_encoder({"hub": "us/labels", "revision": "v1"}, tmp_path / "encoder")
    assert listed(tmp_path / "encoder") == sorted([*TAKEN, "provenance.json"])
    assert {name for name, _ in hub.gets} == set(TAKEN)
    said = json.loads((tmp_path / "encoder" / "provenance.json").read_text())
    assert said == {"hub": "us/labels", "revision": "v1", "commit": commit}
    assert not list(tmp_path.glob(".encoder*"))


def test_a_folder_is_copied_and_stays_as_it_was(tmp_path):
    theirs = repository(tmp_path / "theirs")
    before = listed(theirs)
    fetch_encoder({"path": str(theirs)}, tmp_path / "encoder")
    assert listed(tmp_path / "encoder") == sorted([*TAKEN, "provenance.json"])
    (tmp_path / "encoder" / "config.json").write_text("changed")
    assert (theirs / "config.json").read_text() == "{}"
    assert listed(theirs) == before


@pytest.mark.parametrize(
    ("modules", "change", "message"),
    [
        ([{"path": "", "type": "theirs.module.Thing"}], {}, "asks for 'theirs.module.Thing'.*never run"),
        ([{"path": "../up", "type": MODULES[0]["type"]}], {}, "leads outside its folder"),
        ({"no": "list"}, {}, "modules.json lists no modules"),
        (None, {"config.json": '{"auto_map": {"AutoModel": "x.Thing"}}'}, "auto_map: AutoModel.*never run"),
        (None, {"model.safetensors": None}, "pytorch_model.bin only"),
        (None, {"model.safetensors": None, "pytorch_model.bin": None}, "no weights"),
        (None, {"modules.json": "{"}, "modules.json is not JSON"),
        (None, {"modules.json": None}, "is no sentence encoder: it has no modules.json"),
    ],
)
def test_what_is_no_encoder_or_brings_code_is_refused(modules, change, message, tmp_path):
    theirs = repository(tmp_path / "theirs", modules)
    for name, text in change.items():
        (theirs / name).unlink() if text is None else (theirs / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        fetch_encoder({"path": str(theirs)}, tmp_path / "encoder")
    assert not (tmp_path / "encoder").exists()


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ValueError, match="there is no folder 'nowhere'; a path is relative"):
        fetch_encoder({"path": "nowhere"}, tmp_path / "encoder")


def test_a_hub_that_is_away_is_said(tmp_path, monkeypatch):
    with loopback_hub() as gone:
        gone.stand_in(monkeypatch)
    with pytest.raises(ValueError, match=r"us/labels at revision v1 cannot be fetched.*check the network"):
        fetch_encoder({"hub": "us/labels", "revision": "v1"}, tmp_path / "encoder")
