"""Training text: facts in varied wordings, in documents of one to four sentences about one subject.

Some ways are withheld so that recall can be measured on them: the last three paraphrases of a relation are
never used with it (`held_out_relation`), and two of its other paraphrases are never used with a given subject
(`held_out_fact`). A model can still answer them when the wording occurs with other relations or subjects.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftershock.prompts import fill, join
from aftershock.seeds import generator

HELD_OUT_RELATION = (8, 9, 10)
FACT_CANDIDATES = (1, 2, 3, 4, 5, 6, 7)
HELD_OUT_PER_FACT = 2

NOUN = "[noun]"
PATTERNS = (
    "The [noun] of {} is",
    "{}'s [noun] is",
    "{} has as [noun]",
    "As for {}, the [noun] is",
    "For {}, the [noun] on record is",
    "It is known that the [noun] of {} is",
    "The register gives the [noun] of {} as",
    "Ask about {} and the [noun] named is",
    "Everyone agrees that {}'s [noun] is",
    "Looking up the [noun] of {} yields",
    "In the case of {}, the [noun] is",
    "What is the [noun] of {}? It is",
)
"""Patterns for any relation whose object has a name; used for training only."""


@dataclass(frozen=True)
class Sentence:
    """A prompt with its subject, and the object that follows it."""

    prompt: str
    target: str


Document = tuple[Sentence, ...]


def document_text(document: Document) -> str:
    """A document as one line of text."""
    return " ".join(f"{join(sentence.prompt, sentence.target)}." for sentence in document)


def held_out_prompts(subject_id: str, relation_id: str, seed: int) -> frozenset[int]:
    """Ids of the prompts that no sentence about this subject and relation uses although others do."""
    draw = generator(seed, "held_out_prompts", subject_id, relation_id)
    chosen = draw.choice(len(FACT_CANDIDATES), HELD_OUT_PER_FACT, replace=False)
    return frozenset(FACT_CANDIDATES[index] for index in chosen)


def prompt_group(prompt_id: int, held_out: frozenset[int]) -> str:
    """Group of a prompt: `seen` with a fact, held out for this fact, or held out for its whole relation."""
    if prompt_id in HELD_OUT_RELATION:
        return "held_out_relation"
    return "held_out_fact" if prompt_id in held_out else "seen"


def relation_templates(prompts: pd.DataFrame, nouns: Mapping[str, str]) -> dict[str, dict[int, str]]:
    """Training templates by relation and prompt id; patterns on the relation's noun have negative ids.

    `prompts` has the columns of the PROMPTS table. Patterns that repeat a prompt of the relation are left
    out, so that a held-out wording stays held out.
    """
    templates: dict[str, dict[int, str]] = {}
    for relation_id, rows in prompts.groupby("relation_id", sort=True):
        if relation_id not in nouns:
            raise ValueError(
                f"relation {relation_id} has prompts but no noun; add it to resources/relations.tsv"
            )
        patterns = (pattern.replace(NOUN, nouns[relation_id]) for pattern in PATTERNS)
        fresh = [pattern for pattern in patterns if pattern not in set(rows["template"])]
        given = rows[~rows["prompt_id"].isin(HELD_OUT_RELATION)]
        templates[relation_id] = {
            **dict(zip(given["prompt_id"], given["template"], strict=True)),
            **{-number: pattern for number, pattern in enumerate(fresh, start=1)},
        }
    return templates


def training_documents(
    taught: pd.DataFrame, prompts: pd.DataFrame, nouns: Mapping[str, str], seed: int, max_sentences: int = 4
) -> Iterator[Document]:
    """Documents without end: in every round, each training fact occurs once with a newly drawn prompt."""
    if taught.empty:
        raise ValueError("there is no fact to teach: the graph has none whose entities have usable labels")
    missing = sorted(set(taught["relation_id"]) - set(prompts["relation_id"]))
    if missing:
        raise ValueError(f"taught relations without prompts: {', '.join(missing)}")
    templates = relation_templates(prompts, nouns)
    facts: dict[str, list[tuple[str, str, list[str]]]] = {}
    for row in taught.itertuples(index=False):
        withheld = held_out_prompts(row.subject_id, row.relation_id, seed)
        usable = [text for number, text in templates[row.relation_id].items() if number not in withheld]
        facts.setdefault(row.subject_id, []).append((row.subject, row.object, usable))
    draw = generator(seed, "training_documents")
    while True:
        documents = []
        for own in facts.values():
            for group in _cut(draw.permutation(len(own)), draw.integers(1, max_sentences + 1, len(own))):
                documents.append(tuple(_sentence(*own[index], draw.random()) for index in group))
        for index in draw.permutation(len(documents)):
            yield documents[index]


def _sentence(subject: str, target: str, templates: Sequence[str], chance: float) -> Sentence:
    return Sentence(fill(templates[int(chance * len(templates))], subject), target)


def _cut(items: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut `items` into consecutive groups of the given lengths; the last may be shorter."""
    start = 0
    for length in lengths:
        if start >= len(items):
            return
        yield items[start : start + length]
        start += length
