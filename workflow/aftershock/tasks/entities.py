"""Named entities of sentences as the fields of items, from tokens with CoNLL's tags."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

KINDS = {"PER": "Person", "LOC": "Location", "ORG": "Organization", "MISC": "Miscellaneous"}
TAGS = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC")
"""The Hub's numbers of tags, in order."""


def sentence(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row: the sentence as `text`, and its `entities` as "KIND: name" in their order."""
    tags = _tags(row)
    found = [f"{kind}: {' '.join(row['tokens'][start:end])}" for kind, start, end in spans(tags)]
    return [{**row, "text": " ".join(row["tokens"]), "entities": found}]


def sentence_by_kind(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each kind of entity, with what Study B's code takes for the entities of the kind.

    That code joins entities that stand side by side, and loses the last token of one that ends its sentence,
    so that "" is left of a single token.
    """
    tokens, tags = row["tokens"], _tags(row)
    text = "".join(token if token in ",." else f" {token}" for token in tokens)[1:]
    return [
        {**row, "text": text, "kind": name, "entities": list(_released(tokens, tags, kind))}
        for kind, name in KINDS.items()
    ]


def _tags(row: Mapping[str, Any]) -> list[str]:
    """Return the tags of a row as text; the Hub has them as numbers."""
    tags = [tag if isinstance(tag, str) else TAGS[tag] for tag in row["ner_tags"]]
    if len(tags) != len(row["tokens"]):
        raise ValueError(f"{len(row['tokens'])} tokens with {len(tags)} tags")
    return tags


def spans(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Yield kind, first and past the last token of each entity; I- of another kind begins one as B- does."""
    start, kind = 0, None
    for place, tag in enumerate([*tags, "O"]):
        goes_on = kind is not None and tag == f"I-{kind}"
        if kind is not None and not goes_on:
            yield kind, start, place
        if not goes_on:
            start, kind = place, None if tag == "O" else tag.partition("-")[2]


def _released(tokens: Sequence[str], tags: Sequence[str], kind: str) -> Iterator[str]:
    place = 0
    while place < len(tags):
        if tags[place] == f"B-{kind}":
            ends = [later for later in range(place, len(tags)) if tags[later] == "O"]
            end = ends[0] if ends else len(tags) - 1
            yield " ".join(tokens[place:end])
            place = end
        place += 1
