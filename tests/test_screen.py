"""Texts and people that become no part of a case: listed words, a classifier, reviewed rows, the living."""

import json
import shutil
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

from aftershock.config import check_config
from aftershock.kg.filters import LIVING, Names, filter_facts
from aftershock.kg.graph import GRAPHS
from aftershock.kg.partitions import load_dump
from aftershock.kg.screen import OFFENSIVE, REVIEWED, TOXIC, Screen, read_screen
from aftershock.kg.sheets import read_paraphrases, read_relations
from aftershock.kg.source import connect
from aftershock.kg.store import load_triples
from aftershock.kg.world import generate_world
from aftershock.lm.networks.classifier import classify
from aftershock.lm.texts.tokenizer_files import load_tokenizer
from graphs import as_labels, as_sample
from narrow import NoNarrowKernels

ROOT = Path(__file__).parents[1]
RESOURCES = ROOT / "resources"
WIKIDATA = GRAPHS["wikidata"]
HEADER = "text\tdecision\treason\n"


def screen_of(words: str, reviewed: str = "") -> Screen:
    """The screen of some listed words and of reviewed texts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "words.txt").write_text(words)
        Path(folder, "screen.tsv").write_text(HEADER + reviewed)
        return read_screen(Path(folder, "words.txt"), Path(folder, "screen.tsv"))


@pytest.fixture
def screen() -> Screen:
    """Two listed words, one with any ending, and two reviewed texts."""
    reviewed = "Blast Beach\tkeep\ta place\nMeek Name\tdrop\tis not\n"
    return screen_of("# rude\ndarn\nblast*  # and blasted\n", reviewed)


@pytest.mark.parametrize(
    ("fault", "texts"),
    [
        (OFFENSIVE, ["Darn", "the ＤＡＲＮ thing", "BLASTED heath", "Blast Beach II"]),
        (OFFENSIVE, ["x darning darn", "blast x", "x blasting darning", "darn darn", "x Blast Beach x"]),
        (REVIEWED, ["meek name"]),
        (None, ["Darning", "Counterblast", "blast  beach", "Straße", "", "x darning x darning"]),
    ],
)
def test_words_are_found_whole_and_a_reviewer_decides(screen: Screen, fault: str | None, texts: list) -> None:
    assert {text: screen.fault(text) for text in texts} == dict.fromkeys(texts, fault)


def test_what_awaits_a_reviewer_can_be_pasted(screen: Screen, tmp_path: Path) -> None:
    text = screen.sheet(["Darn", "Blast Beach", None, "fine", "Darn", "darn\tit", "Meek Name"])
    assert text == f"{HEADER}Darn\treview\tholds darn\n"
    (tmp_path / "screen.tsv").write_text(text)
    with pytest.raises(ValueError, match="screen.tsv row 2: decision: 'review' is unknown"):
        read_screen(None, tmp_path / "screen.tsv")


def test_a_line_that_is_no_word_is_named() -> None:
    with pytest.raises(ValueError, match=r"words.txt line 2: '\(a\|b\)\+' is no word"):
        screen_of("fine\n(a|b)+\n")


def test_scores_count_from_the_threshold_on(tmp_path: Path) -> None:
    (tmp_path / "screen.tsv").write_text(f"{HEADER}kept\tkeep\tseen\n")
    scores = pd.DataFrame({"text": ["low", "high", "kept"], "score": [0.49, 0.5, 0.9]})
    screen = read_screen(None, tmp_path / "screen.tsv", scores, 0.5)
    assert [screen.fault(text) for text in ("low", "high", "kept", "new")] == [None, TOXIC, None, None]
    assert screen.sheet(["low", "high", "kept"]) == f"{HEADER}high\treview\tscore 0.500\n"


def test_facts_of_offensive_labels_and_of_the_living_are_left_out_with_the_reason(screen: Screen) -> None:
    labels = as_labels([("Q1", "Ann", "en", None), ("Q2", "Darn", "en", None), ("Q3", "Cy", "en", None)])
    sample = as_sample([("Q1", "P40", "Q2"), ("Q1", "P40", "Q3"), ("Q3", "P40", "Q1")])
    facts = filter_facts(sample, Names(labels, WIKIDATA, screen))
    assert facts["reason"].tolist() == [OFFENSIVE, None, None]
    facts = filter_facts(sample, Names(labels, WIKIDATA, screen, living=["Q3"]))
    assert facts["reason"].tolist() == [OFFENSIVE, LIVING, LIVING]


def test_shipped_texts_pass_the_shipped_screen() -> None:
    screen = read_screen(RESOURCES / "offensive_words.txt", RESOURCES / "screen.tsv")
    for namespace in GRAPHS:
        relations = read_relations(RESOURCES / "relations.tsv", namespace)
        texts = [*relations["prompt"], *relations["query"], *relations["label"]]
        texts += list(read_paraphrases(RESOURCES / "paraphrases.tsv", namespace)["template"])
        assert {text: fault for text in texts if (fault := screen.fault(text))} == {}
    lines = generate_world(yaml.safe_load((RESOURCES / "world.yaml").read_text()), 0)
    labels = {line.split('"')[1] for line in lines if "label>" in line}
    assert len(labels) > 300
    assert {label: fault for label in labels if (fault := screen.fault(label))} == {}


# --- the living -------------------------------------------------------------------------------------------
HUMAN = "<http://www.wikidata.org/prop/direct/P31> <http://www.wikidata.org/entity/Q5>"
DIED = "<http://www.wikidata.org/prop/direct/P570>"
DATE = '"1900-01-01T00:00:00Z"^^<http://www.w3.org/2001/XMLSchema#dateTime>'
LIVES = {
    1: [HUMAN],
    2: [HUMAN, f"{DIED} {DATE}"],
    3: [HUMAN, f"{DIED} <http://www.wikidata.org/.well-known/genid/0a>"],  # died, nobody knows when
    4: [HUMAN.replace("Q5", "Q6")],
    5: [f"{DIED} {DATE}"],
    6: [HUMAN, HUMAN.replace("Q5", "Q6"), f"{DIED} {DATE}", f"{DIED} {DATE.replace('1900', '1901')}"],
    7: [HUMAN, HUMAN.replace("Q5", "Q6")],
    **{number: [HUMAN] if number % 3 else [HUMAN, f"{DIED} {DATE}"] for number in range(10, 500)},
}


def test_all_sources_tell_the_same_people_as_living(tmp_path: Path) -> None:
    lines = [
        f"<http://www.wikidata.org/entity/Q{n}> {life} .\n" for n, lives in LIVES.items() for life in lives
    ]
    (tmp_path / "lives.nt").write_text("".join(lines))
    load_triples(tmp_path / "lives.nt", tmp_path / "store")
    load_dump(tmp_path / "lives.nt", tmp_path / "dump", WIKIDATA, sorted(WIKIDATA.of_lives))
    asked = [f"Q{n}" for n in (*LIVES, 9)]
    expected = {f"Q{n}" for n, lives in LIVES.items() if HUMAN in lives and DIED not in "".join(lives)}
    assert {"Q1", "Q7"} < expected
    with connect({"namespace": "wikidata"}, tmp_path / "store") as source:
        assert source.living(asked) == expected
        assert source.living([]) == set()
    with connect({"namespace": "wikidata", "source": "dump"}, tmp_path / "dump") as source:
        assert source.living(asked) == expected


def test_a_graph_that_does_not_tell_who_lives_says_so(tmp_path: Path) -> None:
    (tmp_path / "graph.nt").write_text("<https://aftershock.invalid/entity/E1> <urn:p> <urn:o> .\n")
    load_triples(tmp_path / "graph.nt", tmp_path / "store")
    with (
        connect({"namespace": "world"}, tmp_path / "store") as source,
        pytest.raises(ValueError, match="tells who lives"),
    ):
        source.living(["E1"])


def test_the_configuration_is_checked_before_any_job(tmp_path: Path) -> None:
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config["screen"] |= {"exclude_living": True, "words": "nowhere.txt"}
    with pytest.raises(ValueError, match=r"screen\.words: nowhere\.txt does not exist") as caught:
        check_config(config, ROOT)
    assert "exclude_living" not in str(caught.value)  # nobody lives in a generated world
    config["kgs"]["world"] = {"source": "ntriples", "namespace": "world", "file": "some.nt"}
    with pytest.raises(ValueError, match=r"screen\.exclude_living: graph 'world' does not tell who lives"):
        check_config(config, ROOT)


# --- the classifier ---------------------------------------------------------------------------------------
def classifier(folder: Path, n_labels: int, **more) -> BertForSequenceClassification:
    """A random classifier on disk."""
    words = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "kind", "rude", "words", "and", "more"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=64, **sizes, **more)
    config.num_labels = n_labels
    config.id2label = {i: f"label{i}" for i in range(n_labels)}
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize(("n_labels", "kind"), [(2, None), (3, "multi_label_classification"), (1, None)])
def test_a_classifiers_probability_does_not_depend_on_batches(tmp_path, n_labels, kind):
    model = classifier(tmp_path, n_labels, problem_type=kind)
    texts = ["kind words", "rude", "and more rude words and more", "kind", "more more more"]
    found = classify(tmp_path, texts, "label0", "cpu", tokens=12)
    assert found == pytest.approx(classify(tmp_path, texts, "label0", "cpu"), abs=1e-6)
    tokenizer = load_tokenizer(tmp_path)
    for text, score in zip(texts, found, strict=True):
        logits = model(**tokenizer(text, return_tensors="pt")).logits[0]
        one = logits.softmax(0)[0] if n_labels > 1 and kind is None else logits.sigmoid()[0]
        assert score == pytest.approx(one.item(), abs=1e-6)


@pytest.mark.parametrize("name", ["BertTokenizer", "RobertaTokenizer", None])
def test_a_classifier_reads_by_its_tokenizer_json(tmp_path: Path, name: str | None) -> None:
    """The rules made here keep capitals apart; BERT's class makes letters small."""
    model = classifier(tmp_path, 2)
    settings = {"pad_token": "[PAD]"} | ({"tokenizer_class": name} if name else {})
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    rules = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("kind words", "Kind words", "rude"):
        ids = torch.tensor([rules.encode(text).ids])
        wanted = model(input_ids=ids).logits[0].softmax(0)[0].item()
        assert classify(tmp_path, [text], "label0", "cpu") == pytest.approx([wanted], abs=1e-6)


def test_a_classifier_in_bfloat16_is_computed_in_float32(tmp_path: Path) -> None:
    classifier(tmp_path, 2).to(torch.bfloat16).save_pretrained(tmp_path)
    with NoNarrowKernels():
        assert 0 < classify(tmp_path, ["kind words"], "label0", "cpu")[0] < 1


def test_a_classifier_without_the_label_or_a_head_is_refused(tmp_path: Path) -> None:
    classifier(tmp_path / "whole", 2)
    with pytest.raises(ValueError, match="'toxic' is unknown; known: label0, label1"):
        classify(tmp_path / "whole", ["kind"], "toxic", "cpu")
    headless = tmp_path / "headless"
    shutil.copytree(tmp_path / "whole", headless)
    BertModel.from_pretrained(headless).save_pretrained(headless)
    with pytest.raises(ValueError, match="is no classifier: it lacks classifier"):
        classify(headless, ["kind"], "LABEL_0", "cpu")
