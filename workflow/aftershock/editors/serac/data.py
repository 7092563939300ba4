"""Batches of training edits for SERAC, with prompts in their scope and out of it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.editors.serac import SeracTraining
from aftershock.lm.model import LanguageModel
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.prompts import join

About = tuple[str, str]
"""A subject and a relation: a prompt is in the scope of edits with the same."""


@dataclass(frozen=True)
class Asked:
    """A prompt and its target as tokens, and the facts that they are about."""

    about: About
    prompt: str
    ids: Sequence[int]  # of the prompt alone, as the classifier reads it
    pair: Pair


def read_asked(lm: LanguageModel, rows: Sequence[tuple[About, str, str]]) -> list[Asked]:
    """Encode prompts and targets with `lm`, and keep the facts that they are about."""
    read = lm.encode([prompt for _, prompt, _ in rows])
    pairs = encode_pairs(lm, [(prompt, target) for _, prompt, target in rows])
    return [
        Asked(about, prompt, ids, pair)
        for (about, prompt, _), ids, pair in zip(rows, read, pairs, strict=True)
    ]


@dataclass(frozen=True)
class Edit:
    """An edit: its text, and its fact after every prompt, that of the edit first."""

    text: str
    asked: list[Asked]
    answered: list[Pair]  # the same prompts behind the text, as the counterfactual model reads them

    @property
    def about(self) -> About:
        """The subject and relation that define its scope."""
        return self.asked[0].about


@dataclass(frozen=True)
class Chosen:
    """Some edits, one prompt in the scope of each, and texts that are out of the scope of each."""

    edits: list[Edit]
    prompts: list[int]  # of each edit, one of `Edit.asked`
    others: list[list[Asked]]


class Pool:
    """All edits and other texts of one split, read as the model reads them."""

    def __init__(
        self, lm: LanguageModel, edits: pd.DataFrame, others: pd.DataFrame, settings: SeracTraining
    ) -> None:
        """Encode rows of one split, as `datasets.mend` has them; ValueError without texts to leave alone."""
        self.settings = settings
        rows = list(
            zip(edits["subject"], edits["relation_id"], edits["prompts"], edits["target_new"], strict=True)
        )
        mine = [((subject, relation), p, t) for subject, relation, prompts, t in rows for p in prompts]
        own = iter(read_asked(lm, mine))
        texts = [join(prompts[0], target) for _, _, prompts, target in rows]
        behind = [
            (f"{text} {p}", target)
            for text, (_, _, prompts, target) in zip(texts, rows, strict=True)
            for p in prompts
        ]
        answered = iter(encode_pairs(lm, behind))
        self.edits = [
            Edit(text, [next(own) for _ in prompts], [next(answered) for _ in prompts])
            for text, (_, _, prompts, _) in zip(texts, rows, strict=True)
        ]
        about = zip(others["subject"], others["relation_id"], strict=True)
        self.others = read_asked(lm, list(zip(about, others["prompt"], others["target"], strict=True)))
        if len({asked.about for asked in self.others}) < 2:
            raise ValueError("SERAC has no texts of several facts to leave alone; give it a larger split")
        self._near: dict[str, list[int]] = defaultdict(list)
        for i, asked in enumerate(self.others):
            for name in asked.about:
                self._near[name].append(i)

    def draw(self, rng: np.random.Generator) -> Chosen:
        """Draw a batch of different edits."""
        size = min(self.settings.batch_edits, len(self.edits))
        return self.choose(rng.choice(len(self.edits), size, replace=False), rng)

    def choose(self, chosen: np.ndarray, rng: np.random.Generator) -> Chosen:
        """The edits `chosen`, with a random prompt and random other texts for each."""
        edits = [self.edits[i] for i in chosen]
        prompts = [int(rng.integers(len(edit.asked))) for edit in edits]
        return Chosen(edits, prompts, [self._out_of_scope(edit, rng) for edit in edits])

    def _out_of_scope(self, edit: Edit, rng: np.random.Generator) -> list[Asked]:
        """Texts about other facts, every second one about the subject or with the relation of the edit."""
        found: list[Asked] = []
        for i in range(self.settings.other_texts):
            name = edit.about[int(rng.integers(2))]
            near = [n for n in self._near[name] if self.others[n].about != edit.about] if i % 2 == 0 else []
            while True:
                asked = self.others[int(rng.choice(near) if near else rng.integers(len(self.others)))]
                if asked.about != edit.about:
                    break
            found.append(asked)
        return found
