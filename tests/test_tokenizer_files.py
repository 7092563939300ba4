"""Tokenizers of folders give the ids of their tokenizer.json, whatever class the other files name."""

import io
import json
from pathlib import Path

import pytest
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import AddedToken, Tokenizer

from aftershock.lm.texts import tokenizer_files
from aftershock.lm.texts.tokenizer_files import convert_tokenizer, load_tokenizer
from tiny import TEXTS
from tokenizers_here import MAKERS, MORE, write_words

TEXTS_TO_READ = [
    *MORE,
    *("", " ", "\n", "  two  spaces\n\n\tand a tab ", "Expo 2023, 80/81 and 12345678"),
    *("Jean-Paul's, I'LL, they're", "日本の首都は", "\u200fשלום", "e\u0301 \u00a0\u3000\ufeff\x00"),
    *("</s>a<s> <unk>", "def f():\r\n    return {}  # x"),
    *TEXTS[:4],
]
CLASSES = (
    *(None, "GPT2Tokenizer", "GPT2TokenizerFast", "LlamaTokenizer", "LlamaTokenizerFast", "Qwen2Tokenizer"),
    *("GemmaTokenizer", "GPTNeoXTokenizerFast", "CodeGenTokenizer", "PreTrainedTokenizerFast"),
    "NoSuchTokenizer",
)
TYPES = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma2", "gpt_neox", "phi", "olmo2")
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def folder_of(path: Path, rules: Tokenizer | None, model_type: str = "gpt2", settings=None, **config) -> Path:
    """A model's folder without weights: config.json, tokenizer.json and, where given, its settings."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": model_type, **config}))
    if rules:
        rules.save(str(path / "tokenizer.json"))
    if settings is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
    return path


def same_ids(path: Path) -> None:
    """See that the folder's tokenizer reads texts as `tokenizers` itself does."""
    rules, tokenizer = Tokenizer.from_file(str(path / "tokenizer.json")), load_tokenizer(path)
    rules.no_padding()
    rules.no_truncation()
    for text in TEXTS_TO_READ:
        assert tokenizer(text)["input_ids"] == rules.encode(text).ids, (path.name, text)
        without = rules.encode(text, add_special_tokens=False).ids
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == without


def refused(path: Path, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_tokenizer(path)


# --- tokenizer.json ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", MAKERS)
def test_neither_a_class_nor_an_architecture_changes_the_rules(kind, tmp_path):
    rules = MAKERS[kind]()
    for i, name in enumerate((*CLASSES, *[None] * len(TYPES))):
        settings = {"tokenizer_class": name, "add_bos_token": i % 2 == 0, "legacy": False, **SPECIAL}
        folder = tmp_path / f"class {name} {i}"
        same_ids(folder_of(folder, rules, TYPES[i % len(TYPES)], settings if name else None))


def test_added_tokens_are_those_of_tokenizer_json(tmp_path):
    rules = MAKERS["gpt2"]()
    rules.add_tokens(["   ", "<think>", AddedToken("Ada", lstrip=True, rstrip=True, single_word=True)])
    rules.add_special_tokens([AddedToken("<|im_start|>", normalized=False)])
    settings = {
        "tokenizer_class": "GPT2Tokenizer",
        "pad_token": {"content": "<|pad|>", "special": True},  # in no vocabulary
        "eos_token": {"content": "Ġis", "special": True},  # a word of the text, not an added token
        "additional_special_tokens": ["Ġborn"],
        "split_special_tokens": True,
    }
    path = folder_of(tmp_path / "model", rules, settings=settings)
    same_ids(path)
    tokenizer = load_tokenizer(path)
    assert tokenizer.pad_token_id is None
    assert tokenizer.eos_token_id == rules.token_to_id("Ġis")
    assert len(tokenizer) == rules.get_vocab_size()


def test_texts_are_never_cut_or_padded(tmp_path):
    rules = MAKERS["gpt2"]()
    rules.enable_truncation(3)
    rules.enable_padding(length=5)
    same_ids(folder_of(tmp_path / "model", rules))


def test_special_tokens_come_from_the_first_file_that_knows_them(tmp_path):
    rules, tokens = MAKERS["gpt2"](), [">", "?", "@"]
    path = folder_of(tmp_path / "model", rules, bos_token_id=1, eos_token_id=[2, 1], pad_token_id=10**6)
    found = load_tokenizer(path)
    assert (found.bos_token, found.eos_token, found.pad_token) == ("<s>", "</s>", None)
    (path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": tokens[0]}}))
    assert load_tokenizer(path).eos_token == tokens[0]
    (path / "tokenizer_config.json").write_text(json.dumps({"eos_token": tokens[1], "bos_token": None}))
    assert (load_tokenizer(path).eos_token, load_tokenizer(path).bos_token) == (tokens[1], "<s>")


@pytest.mark.parametrize("where", ["setting", "list", "file"])
def test_the_chat_template_is_taken_from_wherever_it_stands(where, tmp_path):
    template = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
    wrong = {"setting": {}, "list": {}, "file": {"chat_template": "other"}}[where]
    given = {"setting": template, "list": [{"name": "default", "template": template}]}.get(where)
    path = folder_of(tmp_path / "m", MAKERS["gpt2"](), settings={"chat_template": given} if given else wrong)
    if where == "file":
        (path / "chat_template.jinja").write_text(template)
    said = load_tokenizer(path).apply_chat_template([{"role": "user", "content": "Ada"}], tokenize=False)
    assert said == "[Ada]"


def test_a_tokenizer_that_reads_otherwise_is_refused(tmp_path, monkeypatch):
    class Other(tokenizer_files.PreTrainedTokenizerFast):
        def __init__(self, **options):
            super().__init__(**options)
            self.backend_tokenizer.normalizer = tokenizer_files.tokenizers.normalizers.Lowercase()

    monkeypatch.setattr(tokenizer_files, "PreTrainedTokenizerFast", Other)
    path = folder_of(tmp_path / "model", MAKERS["gpt2"]())
    refused(path, r"model: this version of transformers reads 'The capital.*tokenizer\.json")


def test_rules_that_cannot_be_read_are_named(tmp_path):
    path = folder_of(tmp_path / "model", MAKERS["gpt2"]())
    rules = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps({**rules, "pre_tokenizer": {"type": "Unheard"}}))
    refused(path, r"model/tokenizer\.json cannot be read by tokenizers .*later version")


# --- older files -------------------------------------------------------------------------------------------
def pieces(path: Path, architecture: str, settings=None, **training) -> SentencePieceProcessor:
    """A folder with a SentencePiece model in place of tokenizer.json; the library's own reader of it."""
    options = {
        "model_type": "bpe",
        "vocab_size": 450,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "hard_vocab_limit": False,
        "split_digits": True,
        "minloglevel": 2,
        **{"unk_id": 0, "bos_id": 1, "eos_id": 2},
        **training,
    }
    made = io.BytesIO()
    SentencePieceTrainer.train(sentence_iterator=iter([*TEXTS, *MORE] * 2), model_writer=made, **options)
    folder_of(path, None, architecture, settings)
    (path / "tokenizer.model").write_bytes(made.getvalue())
    return SentencePieceProcessor(model_proto=made.getvalue())


GEMMA = {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3, "add_dummy_prefix": False}


@pytest.mark.parametrize(
    ("model_type", "settings", "training"),
    [
        ("llama", {"tokenizer_class": "LlamaTokenizer", "legacy": False, **SPECIAL}, {}),
        ("llama", None, {}),
        ("mistral", {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, **SPECIAL}, {}),
        ("gemma2", {"tokenizer_class": "GemmaTokenizer"}, GEMMA),
        ("gemma2", None, {**GEMMA, "user_defined_symbols": ["\n\n", "<table>"]}),
        ("llama", {"add_bos_token": False, "add_eos_token": True}, {}),
    ],
)
def test_a_sentencepiece_model_is_read_as_sentencepiece_reads_it(model_type, settings, training, tmp_path):
    library = pieces(tmp_path / "model", model_type, settings, **training)
    settings = settings or {}
    front = [library.bos_id()] if settings.get("add_bos_token", True) else []
    behind = [library.eos_id()] if settings.get("add_eos_token") else []
    tokenizer = load_tokenizer(tmp_path / "model")
    for text in TEXTS_TO_READ:
        if "<s>" not in text:  # which SentencePiece never reads as a token
            assert tokenizer(text)["input_ids"] == [*front, *library.encode(text), *behind], text
    convert_tokenizer(tmp_path / "model").save(str(tmp_path / "model" / "tokenizer.json"))
    same_ids(tmp_path / "model")


def test_tokens_added_to_a_sentencepiece_model_have_their_ids(tmp_path):
    size = pieces(tmp_path / "model", "llama").vocab_size()
    start = {"content": "<|im_start|>", "special": True, "normalized": False}
    settings = tmp_path / "model" / "tokenizer_config.json"
    settings.write_text(json.dumps({"added_tokens_decoder": {str(size + 1): start}}))
    (tmp_path / "model" / "added_tokens.json").write_text(json.dumps({"<pad>": size}))
    tokenizer = load_tokenizer(tmp_path / "model")
    assert tokenizer.convert_tokens_to_ids(["<pad>", "<|im_start|>"]) == [size, size + 1]
    assert tokenizer("Ada<|im_start|>")["input_ids"][-1] == size + 1
    settings.write_text(json.dumps({"added_tokens_decoder": {str(size + 5): start}}))
    refused(tmp_path / "model", rf"model has no tokenizer\.json.*cannot have the id {size + 5}")


def test_a_sentencepiece_model_with_other_rules_is_refused(tmp_path):
    pieces(tmp_path / "model", "llama", model_type="unigram")
    refused(tmp_path / "model", r"model has no tokenizer\.json, and none .* rules beyond byte pairs")


def words(path: Path, kind: str, model_type: str, settings=None) -> None:
    """A folder with vocab.json and merges.txt of a tokenizer of this kind, in place of its rules."""
    write_words(folder_of(path, None, model_type, settings), json.loads(MAKERS[kind]().to_str())["model"])


@pytest.mark.parametrize(
    ("kind", "model_type", "name"),
    [
        ("gpt2", "gpt2", None),
        ("gpt2", "gptj", "GPT2Tokenizer"),
        ("gpt2", "phi", "CodeGenTokenizer"),
        ("gpt2", "olmo2", "GPT2Tokenizer"),
        ("gpt2", "llama", "GPT2TokenizerFast"),
        ("pythia", "gpt_neox", None),
        ("pythia", "gpt_neox", "GPTNeoXTokenizer"),
    ],
)
def test_words_and_merges_have_the_rules_of_the_class(kind, model_type, name, tmp_path):
    words(tmp_path / "model", kind, model_type, {"tokenizer_class": name, **SPECIAL} if name else None)
    rules, tokenizer = MAKERS[kind](), load_tokenizer(tmp_path / "model")
    for text in TEXTS_TO_READ:
        if "<s>" not in text:
            found = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert found == rules.encode(text, add_special_tokens=False).ids, text


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma2", "olmo2"])
def test_words_and_merges_without_a_known_rule_are_refused(model_type, tmp_path):
    words(tmp_path / "model", "gpt2", model_type)
    refused(tmp_path / "model", r"model has no tokenizer\.json, and none can be made of what it has")


def test_a_damaged_sentencepiece_model_is_refused(tmp_path):
    folder_of(tmp_path / "model", None, "llama")
    (tmp_path / "model" / "tokenizer.model").write_bytes(b"\xff\xff ranks")
    refused(tmp_path / "model", r"none can be made .*tokenizer\.model is no SentencePiece model")
