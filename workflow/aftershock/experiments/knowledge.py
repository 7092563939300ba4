"""A model's knowledge before any edit: facts that it gives, and the probability of each true object.

Rows are asked about in blocks of about BLOCK: sorted by relation and subject, no prompt in two of them. A job
takes whole blocks, so that a row is in the same batches, and gets the same numbers, with any number of jobs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from aftershock.experiments.lengths import check_lengths, fact_texts
from aftershock.lm.generation import continue_greedily
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.label_encoder import LabelEncoder, mean_cosines
from aftershock.lm.scoring import Score, score
from aftershock.lm.texts.tokens import encode_pairs
from aftershock.matching import names
from aftershock.progress import Progress
from aftershock.prompts import fill
from aftershock.requests import Query
from aftershock.seeds import generator
from aftershock.tables.graph import FACT_KEY
from aftershock.tables.models import FACT_ANSWERS, OBJECT_ANSWERS

BLOCK = 256
"""Rows that are asked about together: enough to fill batches, and all that is in memory at a time."""
NAMED = 5  # unusable labels listed in an error


@dataclass(frozen=True)
class Ranking:
    """Labels among which an object is ranked: at most `cap` of its relation's, the true objects first.

    Where there are more, the others come from one sample of the relation's labels, drawn by `seed`.
    """

    cap: int
    seed: int = 0


@dataclass(frozen=True)
class Part:
    """One of several jobs, counted from 1. One without blocks has nothing to do."""

    number: int = 1
    of: int = 1

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Parse a part such as `2-of-3`."""
        return cls(*map(int, text.split("-of-")))


WHOLE = Part()


def verify_facts(
    lm: LanguageModel,
    facts: pd.DataFrame,
    prompts: pd.DataFrame,
    n_tokens: int,
    ranking: Ranking,
    part: Part = WHOLE,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """FACT_ANSWERS rows of one part of `facts` (TAUGHT rows): continuation, probability and rank.

    The greedy continuation of the edit prompt has `n_tokens` tokens, fewer where the model's context ends. An
    object's rank is by geometric mean token probability after the edit prompt; other objects of the same
    prompt are true as well and do not compete (the filtered rank of Bordes et al., 2013). ValueError names
    relations without prompts, labels without tokens, and those whose texts are too long for the model.
    """
    asked = _Asked(lm, facts, prompts, ranking)
    parts, progress = [], progress or Progress()
    progress.begin("Asking", -(-len(facts) // part.of), "fact")
    for block in blocks(facts, part):
        first = [asked.edit_prompt(relation_id, subject) for relation_id, subject in _prompts_of(block)]
        said = dict(zip(_unique(first), continue_greedily(lm, _unique(first), n_tokens), strict=True))
        texts = [said[prompt] for prompt in first]
        named = [names(text, label) for text, label in zip(texts, block["object"], strict=True)]
        measured = asked.measure(block, among_true=False)
        parts.append(block[list(FACT_KEY)].assign(continuation=texts, said=named, **measured))
        progress.step(len(block))
    return pd.concat(parts)[list(FACT_ANSWERS.columns)] if parts else FACT_ANSWERS.empty()


def score_objects(
    lm: LanguageModel,
    objects: pd.DataFrame,
    prompts: pd.DataFrame,
    encoder: LabelEncoder,
    ranking: Ranking,
    part: Part = WHOLE,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """OBJECT_ANSWERS rows of one part of `objects` (TAUGHT rows), all true objects of their keys.

    An object's rank is by geometric mean token probability after the edit prompt, the key's other objects
    among the competitors. Its similarity is the mean cosine of its label, as `encoder` has it, to those of
    the key's other objects. ValueError as for `verify_facts`.
    """
    asked = _Asked(lm, objects, prompts, ranking)

    @lru_cache(maxsize=1)  # blocks are in the order of their relations
    def encode_within(relation_id: str) -> Any:
        return encoder.within(asked.labels[relation_id])

    parts, progress = [], progress or Progress()
    progress.begin("Asking", -(-len(objects) // part.of), "object")
    for block in blocks(objects, part):
        measured = asked.measure(block, among_true=True)
        del measured["candidates"]
        found = block[list(FACT_KEY)].assign(**measured)
        for relation_id, rows in block.groupby("relation_id", sort=True):
            found.loc[rows.index, "similarity"] = mean_cosines(rows, encode_within(relation_id))
        parts.append(found)
        progress.step(len(block))
    return pd.concat(parts)[list(OBJECT_ANSWERS.columns)] if parts else OBJECT_ANSWERS.empty()


def blocks(facts: pd.DataFrame, part: Part = WHOLE) -> Iterator[pd.DataFrame]:
    """The blocks of `facts` that `part` takes: every `part.of`-th one."""
    ordered = facts.sort_values(["relation_id", "subject", "subject_id", "object_id"], ignore_index=True)
    place = np.arange(len(ordered))
    repeats = ordered.duplicated(["relation_id", "subject"]).to_numpy()
    start = np.maximum.accumulate(np.where(repeats, 0, place)) if len(ordered) else place
    for number, (_, block) in enumerate(ordered.groupby(start // BLOCK, sort=True)):
        if number % part.of == part.number - 1:
            yield block


class _Asked:
    """Queries about all rows of a table, sent to a model block by block."""

    def __init__(
        self, lm: LanguageModel, facts: pd.DataFrame, prompts: pd.DataFrame, ranking: Ranking
    ) -> None:
        self.lm, self.ranking = lm, ranking
        self.templates = _templates(prompts, facts)
        self.labels: Mapping[str, list[str]] = {
            relation_id: sorted(set(rows)) for relation_id, rows in facts.groupby("relation_id")["object"]
        }
        _check_labels(lm, facts)
        check_lengths(lm, fact_texts(facts, self.templates))
        self.samples = {
            relation_id: _sample(labels, ranking, relation_id) for relation_id, labels in self.labels.items()
        }

    def edit_prompt(self, relation_id: str, subject: str) -> str:
        """The prompt that an edit of this subject and relation has."""
        return fill(self.templates[relation_id][0], subject)

    def measure(self, block: pd.DataFrame, among_true: bool) -> dict[str, list]:
        """Columns of `block`: probability (mean over prompts of the geometric mean over tokens), rank,
        candidates.

        With `among_true`, other true objects of the same prompt are among the candidates.
        """
        true: dict[tuple[str, str], dict[str, None]] = {}
        for key, label in zip(_prompts_of(block), block["object"], strict=True):
            true.setdefault(key, {})[label] = None
        compared = {key: self._candidates(key[0], list(labels)) for key, labels in true.items()}
        queries = []
        for (relation_id, subject), labels in compared.items():
            prompt, *texts = [fill(template, subject) for template in self.templates[relation_id]]
            queries += [Query(prompt, label) for label in labels]
            queries += [Query(text, label) for text in texts for label in true[relation_id, subject]]
        scores = iter(score(self.lm, queries))
        found: dict[tuple[str, str, str], tuple[float, int, int]] = {}
        for key, labels in compared.items():
            first = {label: next(scores) for label in labels}
            others = [[next(scores) for _ in true[key]] for _ in self.templates[key[0]][1:]]
            rivals = sorted(
                _mean_logprob(s) for label, s in first.items() if among_true or label not in true[key]
            )
            for i, label in enumerate(true[key]):
                values = [first[label].probability, *(row[i].probability for row in others)]
                better = len(rivals) - int(np.searchsorted(rivals, _mean_logprob(first[label]), side="right"))
                n_candidates = len(rivals) + (not among_true)
                found[*key, label] = sum(values) / len(values), 1 + better, n_candidates
        rows = [found[*key, label] for key, label in zip(_prompts_of(block), block["object"], strict=True)]
        return dict(
            zip(("probability", "rank", "candidates"), map(list, zip(*rows, strict=True)), strict=True)
        )

    def _candidates(self, relation_id: str, true: Sequence[str]) -> list[str]:
        """The true labels, then others of the relation up to the cap."""
        mine = set(true)
        others = [label for label in self.samples[relation_id] if label not in mine]
        return [*true, *others[: max(0, self.ranking.cap - len(true))]]


def _mean_logprob(found: Score) -> float:
    return found.logprob / len(found.token_logprobs)


def _prompts_of(block: pd.DataFrame) -> list[tuple[str, str]]:
    """(relation, subject) of each row: what its prompts are made of."""
    return list(zip(block["relation_id"], block["subject"], strict=True))


def _unique(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def _sample(labels: Sequence[str], ranking: Ranking, relation_id: str) -> list[str]:
    """At most `cap` of a relation's labels, in a seeded order where that is not all."""
    if len(labels) <= ranking.cap:
        return list(labels)
    order = generator(ranking.seed, "candidates", relation_id).permutation(len(labels))
    return [labels[i] for i in order[: ranking.cap]]


def _templates(prompts: pd.DataFrame, facts: pd.DataFrame) -> dict[str, list[str]]:
    """Templates of each relation, the edit prompt first."""
    ordered = prompts.sort_values(["relation_id", "prompt_id"])
    templates = ordered.groupby("relation_id")["template"].agg(list).to_dict()
    missing = sorted(set(facts["relation_id"]) - set(templates))
    if missing:
        raise ValueError(f"relations without prompts: {', '.join(missing)}")
    return templates


def _check_labels(lm: LanguageModel, facts: pd.DataFrame) -> None:
    """Raise ValueError naming the labels that are no target for this model, before anything is computed."""
    ids = dict(zip(facts["object"], facts["object_id"], strict=True))

    def fault(labels: Sequence[str]) -> str:
        try:
            encode_pairs(lm, [("The", label) for label in labels])
        except ValueError as error:
            return str(error)
        return ""

    labels = sorted(ids)
    if not any(fault(labels[start : start + BLOCK]) for start in range(0, len(labels), BLOCK)):
        return
    wrong = [f"{ids[label]}: {text}" for label in labels if (text := fault([label]))]
    raise ValueError(
        f"{len(wrong)} of {len(labels)} objects cannot be asked about ({'; '.join(wrong[:NAMED])}); "
        "leave them out with a row of resources/screen.tsv, or give them another label in the graph"
    )
