"""A tokenizer of every type that models come with, trained here on a few texts."""

import json
from functools import cache
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from aftershock.lm.model import LanguageModel
from aftershock.prompts import following
from tiny import TEXTS

MORE = ["Zoë naïve café – “so” … 1995, 80/81!", "שלום עולם مرحبا 東京 Привет", "𝔘𝔫𝔦 👩‍👩‍👧 🇳🇴 e\u0301 ﬁn"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
LETTERS = Regex(r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
BOS = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
BOTH = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])


def _byte_level(
    prefix: bool, trim: bool | None, normalizer=None, after=None, split: bool = False
) -> Tokenizer:
    """GPT-2's type: BPE on bytes. With `trim`, what tokens cover leaves out spaces; None: no such step."""
    tokenizer = Tokenizer(models.BPE())
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=not split)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Sequence([pre_tokenizers.Split(LETTERS, "isolated"), level]) if split else level
    )
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    steps = [] if trim is None else [processors.ByteLevel(add_prefix_space=prefix, trim_offsets=trim)]
    steps += [after] if after else []
    if steps:
        tokenizer.post_processor = processors.Sequence(steps)
    return tokenizer


def _pieces(normalizer, before, after=BOS, train_before=None, strip: int = 1) -> Tokenizer:
    """SentencePiece's type: spaces are visible characters, and what is unknown falls back to bytes."""
    trained = Tokenizer(models.BPE(unk_token="<unk>"))
    trained.normalizer = normalizer
    if found := (train_before or before):
        trained.pre_tokenizer = found
    _train(trained)
    model = json.loads(trained.to_str())["model"]
    vocab = dict(model["vocab"])
    for byte in BYTES:
        vocab.setdefault(byte, len(vocab))
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.normalizer = normalizer
    if before:
        tokenizer.pre_tokenizer = before
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", strip, 0)] if strip else [])])
    tokenizer.post_processor = after
    return tokenizer


def _train(tokenizer: Tokenizer, **options) -> None:
    special = ["<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=special, show_progress=False, **options)
    tokenizer.train_from_iterator([*TEXTS, *MORE], trainer)


def _to_spaces(*before) -> normalizers.Normalizer:
    return normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])


META = pre_tokenizers.Metaspace(prepend_scheme="first")
SPLIT = pre_tokenizers.Split("▁", "merged_with_next")
MAKERS = {
    "gpt2": lambda: _byte_level(False, False),
    "pythia": lambda: _byte_level(False, True, normalizers.NFC()),
    "roberta": lambda: _byte_level(True, True, after=BOTH),
    "trained here": lambda: _byte_level(True, None),
    "no accents": lambda: _byte_level(
        False, False, normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()])
    ),
    "llama3": lambda: _byte_level(False, True, after=BOS, split=True),
    "metaspace": lambda: _pieces(normalizers.NFC(), META),
    "nmt": lambda: _pieces(normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()]), META, BOTH),
    "llama2": lambda: _pieces(_to_spaces(normalizers.Prepend("▁")), None, train_before=SPLIT),
    "gemma": lambda: _pieces(_to_spaces(), None, train_before=SPLIT, strip=0),
    "no words": lambda: _pieces(_to_spaces(normalizers.Prepend("▁")), None),
}
"""By the model that has the type, or by what is special about it."""


def write_words(folder: Path, model: dict) -> None:
    """Write vocabulary and merges of a tokenizer's model into files of their own, as of old."""
    (folder / "vocab.json").write_text(json.dumps(model["vocab"]))
    pairs = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n")


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a type."""
    return PreTrainedTokenizerFast(
        tokenizer_object=MAKERS[kind](), bos_token="<s>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


class Reader(LanguageModel):
    """A stand-in for a model that only turns text into tokens; `options` are the LanguageModel's."""

    def __init__(self, tokenizer: str | PreTrainedTokenizerFast, **options: str) -> None:
        self.tokenizer = tokenizer_of(tokenizer) if isinstance(tokenizer, str) else tokenizer
        self.context, self.pad_id, self.target_ids = 10**6, 0, "text"
        vars(self).update(options)


def spaced(target: str) -> str:
    """A target as it follows an ordinary prompt."""
    return following("", target)
