"""Texts that spell a special token, such as `</s>` or `<|endoftext|>`: counts and remarks."""

import re
from collections import Counter
from collections.abc import Collection, Iterable

from aftershock.lm.model import LanguageModel

SHOWN = 5  # tokens


def spelled_tokens(lm: LanguageModel, texts: Iterable[str]) -> Counter[str]:
    """Return how many of `texts` spell each special token of the model's tokenizer."""
    added = lm.tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
    special = sorted((token.content for token in added if token.special), key=len, reverse=True)
    found: Counter[str] = Counter()
    if special:
        pattern = re.compile("|".join(map(re.escape, special)))
        for text in texts:
            found.update(set(pattern.findall(text)))
    return found


def spelled_remark(lm: LanguageModel, texts: Collection[str], kind: str) -> str | None:
    """Return a line about the texts of a `kind` that spell a special token; None where there are none."""
    distinct = set(texts)
    found = spelled_tokens(lm, distinct)
    if not found:
        return None
    told = ", ".join(f"{token!r} in {n}" for token, n in found.most_common(SHOWN))
    others = f" and {len(found) - SHOWN} others" if len(found) > SHOWN else ""
    read = "their characters" if lm.special_tokens == "characters" else "the tokens themselves"
    return (
        f"of {len(distinct)} {kind}, some spell special tokens of the model ({told}{others}); they are read "
        f"as {read} (engine.special_tokens: {lm.special_tokens})"
    )
