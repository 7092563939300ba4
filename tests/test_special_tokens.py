"""Labels and documents that spell a special token: read as characters or as the token, and counted."""

import pytest
from transformers import PreTrainedTokenizerFast

from aftershock.lm.model import LanguageModel
from aftershock.lm.pretraining.rows import Encoder
from aftershock.lm.pretraining.text import Sentence
from aftershock.lm.texts.special_tokens import spelled_remark, spelled_tokens
from aftershock.lm.texts.tokens import encode_pairs, locate, locate_pairs
from tiny import tiny
from tokenizers_here import MAKERS, Reader, tokenizer_of

SPECIAL = ("<s>", "</s>", "<unk>")


def characters(lm: LanguageModel, ids) -> str:
    return "".join(lm.tokenizer.convert_ids_to_tokens(list(ids))).replace("Ġ", "").replace("▁", "")


@pytest.mark.parametrize("kind", [kind for kind in MAKERS if kind != "no words"])
@pytest.mark.parametrize("target_ids", ["text", "released"])
@pytest.mark.parametrize("label", SPECIAL)
def test_a_label_that_spells_a_token_is_its_characters_or_the_token(kind, target_ids, label):
    lm = Reader(kind, special_tokens="characters", target_ids=target_ids)
    token = lm.tokenizer.convert_tokens_to_ids(label)
    (pair,) = encode_pairs(lm, [("The HTML tag is", label)])
    ((prompt, target),) = locate_pairs(lm, [("The tag {} is", label, label)])
    (found,) = locate(lm, [("The tag {} is", label)])
    for ids in (pair.target, target, found.ids[1:], prompt.ids[1:], lm.encode([f"a {label} b"])[0][1:]):
        assert token not in ids
    if kind not in ("nmt", "metaspace"):  # whose byte tokens are spelled <0x3C>
        read = characters(lm, pair.target)
        assert read == label or "<0x3C>" in read
    as_tokens = Reader(kind, special_tokens="tokens", target_ids=target_ids)
    (pair,) = encode_pairs(as_tokens, [("The HTML tag is", label)])
    assert token in pair.target
    assert token in as_tokens.encode([f"a {label} b"])[0][1:]


@pytest.mark.parametrize("kind", ["roberta", "llama2", "nmt", "gpt2"])
def test_what_stands_around_every_text_stays(kind):
    lm, raw = Reader(kind, special_tokens="characters"), tokenizer_of(kind).backend_tokenizer
    for text in ("Ada Vex", "a"):
        raw.encode_special_tokens = False
        wanted = raw.encode(text).ids
        assert lm.encode([text]) == [wanted[: len(wanted) - lm.n_behind]]


def test_training_text_has_no_end_inside_a_sentence():
    tokenizer = tiny().tokenizer
    end = tokenizer.eos_token
    ids, _ = Encoder(tokenizer, 0.2).sentence(Sentence(f"As for {end}, home is", end))
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids).strip() == f"As for {end}, home is {end}."


def test_texts_are_counted_by_the_token_they_spell():
    lm = tiny()
    texts = ["<|endoftext|>", "a <|endoftext|> b<|endoftext|>", "</s>", "plain", "<|endoftext |>"]
    assert spelled_tokens(lm, texts) == {"<|endoftext|>": 2}
    assert spelled_remark(lm, ["plain"], "labels") is None
    said = spelled_remark(lm, [*texts, *texts], "labels")
    assert said == (
        "of 5 labels, some spell special tokens of the model ('<|endoftext|>' in 2); they are read as their "
        "characters (engine.special_tokens: characters)"
    )
    lm = LanguageModel(lm.model, lm.tokenizer, special_tokens="tokens")
    said = spelled_remark(lm, texts, "documents")
    assert "as the tokens themselves (engine.special_tokens: tokens)" in said


def test_the_longest_of_several_tokens_is_the_one_spelled():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=MAKERS["gpt2"](), eos_token="<s></s>")
    lm = Reader(tokenizer, special_tokens="characters")
    assert spelled_tokens(lm, ["<s></s>", "<s>"]) == {"<s></s>": 1, "<s>": 1}
