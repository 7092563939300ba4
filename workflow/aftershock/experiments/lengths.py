"""Check for texts that do not fit a model, before it computes anything.

Labels may be long: Wikidata's have up to 250 characters, which are several hundred tokens in scripts that a
tokenizer knows little of.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pandas as pd

from aftershock.experiments.queries import ScoredPrompt
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.reading import TOO_LONG
from aftershock.prompts import fill, join

NAMED = 5  # of the texts that are too long, in an error
AROUND = 8  # tokens that a tokenizer may put around a text, or add to one
Text = tuple[str, str]
"""The subject of a text, for an error, and the text."""


def check_lengths(lm: LanguageModel, texts: Iterable[Text]) -> None:
    """Raise ValueError, which names the first, when any of `texts` has too many tokens for the model."""
    # A token covers a byte at least, so that most texts need not be read to know that they fit.
    around = AROUND + len((lm.frame.before + lm.frame.after).encode())
    long = [(owner, text) for owner, text in texts if len(text.encode()) + around > lm.context]
    sizes: dict[str, int] = {}
    for (owner, _), ids in zip(long, lm.encode_prompts([text for _, text in long]), strict=True):
        if len(ids) > lm.context:
            sizes[owner] = max(sizes.get(owner, 0), len(ids))
    if sizes:
        told = [f"{owner} makes {size} tokens" for owner, size in sizes.items()]
        logging.error("texts that are too long: %s", "; ".join(told))
        first = told[:NAMED] + (["and others, in this log"] if len(told) > NAMED else [])
        raise ValueError(
            f"{len(sizes)} labels or prompts make texts longer than the model's context of {lm.context} "
            f"tokens ({'; '.join(first)}); {TOO_LONG}"
        )


def fact_texts(facts: pd.DataFrame, templates: Mapping[str, Sequence[str]]) -> Iterator[Text]:
    """Every subject in the longest prompt of its relation, before the longest label scored with it."""
    for relation_id, rows in facts.groupby("relation_id", sort=True):
        longest = max(templates[relation_id], key=_size)
        objects = dict(zip(rows["object"], rows["object_id"], strict=True))
        label = max(objects, key=_size)
        for subject_id, subject in dict(zip(rows["subject_id"], rows["subject"], strict=True)).items():
            owner = subject_id if _size(subject) >= _size(label) else objects[label]
            yield f"{owner} in a prompt of {relation_id}", join(fill(longest, subject), label)


def prompt_texts(queried: Mapping[int, Sequence[ScoredPrompt]], probes: pd.DataFrame) -> Iterator[Text]:
    """Every prompt of `queried` with its target; `probes` (PROBES rows) name the subjects."""
    owners = {
        (row.case_id, row.probe_id): f"{row.subject_id} with {row.object_id} in case {row.case_id}"
        for row in probes.itertuples(index=False)
    }
    for prompt in (prompt for prompts in queried.values() for prompt in prompts):
        yield owners[prompt.case_id, prompt.probe_id], join(prompt.prompt, prompt.target)


def edit_texts(edits: pd.DataFrame) -> Iterator[Text]:
    """Every edit of EDITS rows, as its prompt with its target."""
    for row in edits.itertuples(index=False):
        owner = f"{row.subject_id} with {row.target_new_id} in case {row.case_id}, edit {row.edit}"
        yield owner, join(fill(row.prompt, row.subject), row.target_new)


def _size(text: str) -> int:
    return len(text.encode())
