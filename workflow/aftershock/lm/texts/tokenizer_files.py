"""The tokenizer of a folder of weights, by the rules of its tokenizer.json.

tokenizer.json holds all of a tokenizer's rules: how text is normalised and split into words, the merges, and
which tokens stand before and behind a text. transformers rebuilds a tokenizer from the class that
tokenizer_config.json or config.json names, and such a class brings rules of its own, so that a model may be
given other tokens than it was trained on. Here no class is asked where there is a tokenizer.json: the other
files only give the special tokens and the chat template.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import transformers
from tokenizers import AddedToken, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from aftershock.lm.texts.sentencepiece_files import convert_sentencepiece

RULES, SETTINGS, SPECIAL = "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"
TEMPLATE, PIECES = "chat_template.jinja", "tokenizer.model"
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
PROPERTIES = ("special", "normalized", "lstrip", "rstrip", "single_word")
OPTIONS = ("model_max_length", "clean_up_tokenization_spaces", "model_input_names", "truncation_side")
PLAIN = "The capital of France is Paris, and the year is 2023."
COMPARED = (
    *(PLAIN, " a", "a  b   c\n\n\td ", "I'll, they'RE; Jean-Paul's", "12345678 3.14 1,000"),
    *("Zoë naïve e\u0301", "日本の首都は東京です。", "שלום عالم Привет ßıİ", "if x == 1:\r\n    return {}"),
    "👩\u200d👩\u200d👧 \u00a0\u3000\ufeff",
)
"""Texts that tokenizers with different rules read differently."""


def load_tokenizer(folder: str | Path, padding_side: str = "right") -> PreTrainedTokenizerFast:
    """Return the tokenizer in `folder`, which gives every text the ids of its tokenizer.json.

    A folder that has only older files (vocab.json and merges.txt, or tokenizer.model) has its rules from the
    class that it names. ValueError names a folder whose tokenizer cannot be read.
    """
    folder = Path(folder)
    rules = folder / RULES
    if not rules.is_file():
        backend = convert_tokenizer(folder)
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **_options(folder, padding_side))
    else:
        backend = _rules(rules)
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(rules), **_options(folder, padding_side))
    tokenizer.name_or_path = str(folder)
    # Set once the tokenizer is made: given to the constructor, a special token is added to the vocabulary.
    for name, token in _special_tokens(folder, backend).items():
        setattr(tokenizer, name, token)
    _compare(tokenizer, backend, folder)
    return tokenizer


def convert_tokenizer(folder: str | Path) -> Tokenizer:
    """Return the rules of a folder without tokenizer.json, made of its older files.

    A tokenizer.model is converted here; vocab.json and merges.txt by the class that the folder names, since
    they do not say how text is split into words. ValueError when no rules can be made of the files, or rules
    that do not fit their vocabulary.
    """
    folder = Path(folder)
    try:
        if (model := folder / PIECES).is_file():
            rules = convert_sentencepiece(model, _read(folder / SETTINGS), COMPARED)
            _add_tokens(rules, folder)
        else:
            rules = _rules_of_class(folder)
        for token, number in _read(folder / "vocab.json").items():
            if rules.token_to_id(token) != number:
                raise ValueError(f"{token!r} has another id than in vocab.json")
        if rules.decode(rules.encode(PLAIN).ids).strip() != PLAIN:
            raise ValueError("the rules of its class do not fit the vocabulary: a plain text is not kept")
    except Exception as error:
        said = str(error).strip().partition("\n")[0][:200].rstrip(": ")
        raise ValueError(
            f"{folder} has no tokenizer.json, and none can be made of what it has ({type(error).__name__}: "
            f"{said}); choose a revision with one, or make one with transformers and name the folder"
        ) from error
    return rules


def _rules_of_class(folder: Path) -> Tokenizer:
    """The rules that a class of transformers makes: the one that is named, else that of the architecture."""
    named: Any = getattr(transformers, str(_read(folder / SETTINGS).get("tokenizer_class")), None)
    known = isinstance(named, type) and issubclass(named, PreTrainedTokenizerBase)
    found = (named if known else AutoTokenizer).from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if len(found) <= len(found.added_tokens_decoder):  # transformers' result without a vocabulary
        raise ValueError("there is no vocabulary")
    return found.backend_tokenizer


def _add_tokens(rules: Tokenizer, folder: Path) -> None:
    """Add the tokens that a folder's settings have beyond a tokenizer.model."""
    listed = _read(folder / SETTINGS).get("added_tokens_decoder", {})
    wanted = {int(number): dict(token) for number, token in listed.items()}
    for content, number in _read(folder / "added_tokens.json").items():
        wanted.setdefault(number, {"content": content})
    for number, token in sorted(wanted.items()):
        if rules.token_to_id(token["content"]) is None:
            properties = {name: token[name] for name in PROPERTIES if name in token}
            rules.add_tokens([AddedToken(token["content"], **properties)])
        if rules.token_to_id(token["content"]) != number:
            raise ValueError(f"the added token {token['content']!r} cannot have the id {number}")


def _rules(path: Path) -> Tokenizer:
    try:
        rules = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ValueError(
            f"{path} cannot be read by tokenizers {tokenizers.__version__}: {error}; it is damaged, or "
            "made by a later version"
        ) from error
    rules.no_truncation()  # of queries to a server: a text is never cut here without saying so
    rules.no_padding()
    return rules


def _options(folder: Path, padding_side: str) -> dict[str, Any]:
    settings = _read(folder / SETTINGS)
    options = {name: settings[name] for name in OPTIONS if settings.get(name) is not None}
    template = settings.get("chat_template")
    if (file := folder / TEMPLATE).is_file():
        template = file.read_text(encoding="utf-8")
    elif isinstance(template, list):
        template = {entry["name"]: entry["template"] for entry in template}
    return (
        {"clean_up_tokenization_spaces": False, "chat_template": template}
        | options
        | {"padding_side": padding_side}
    )


def _special_tokens(folder: Path, rules: Tokenizer) -> dict[str, str]:
    """The special tokens by name, as far as the vocabulary has them.

    Where neither of the tokenizer's own files names one, config.json may give its id.
    """
    found = {}
    settings, listed, config = (_read(folder / name) for name in (SETTINGS, SPECIAL, "config.json"))
    for name in NAMED:
        by_id = _first(config.get(f"{name}_id"))
        candidates = [_content(settings.get(name)), _content(listed.get(name))]
        if isinstance(by_id, int) and by_id >= 0:
            candidates.append(rules.id_to_token(by_id))
        known = (token for token in candidates if token is not None and rules.token_to_id(token) is not None)
        if token := next(known, None):
            found[name] = token
    return found


def _first(number: Any) -> Any:
    """An id, or the first of several that mean the same."""
    return next(iter(number), None) if isinstance(number, list) else number


def _content(token: Any) -> str | None:
    """A special token's text, which stands alone or in an object with its properties."""
    token = token.get("content") if isinstance(token, Mapping) else token
    return token if isinstance(token, str) else None


def _compare(tokenizer: PreTrainedTokenizerFast, rules: Tokenizer, folder: Path) -> None:
    """Raise ValueError unless the tokenizer gives the ids of its rules."""
    added = [token.content for token in rules.get_added_tokens_decoder().values()]
    texts = [*COMPARED, *(f"a {token} b{token}" for token in added)]
    rows = zip(texts, rules.encode_batch(texts), tokenizer(texts)["input_ids"], strict=True)
    for text, wanted, found in rows:
        if wanted.ids != found:
            raise ValueError(
                f"{folder}: this version of transformers reads {text!r} as {found}, where tokenizer.json "
                f"says {wanted.ids}; the model was trained with the latter: install the versions in "
                "constraints.txt"
            )


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty when there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found
