"""Batches of training edits with other wordings and texts that should not change."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from aftershock.editors.mend import MendTraining
from aftershock.editors.mend.training import Batch, in_batches, train
from aftershock.editors.settings import as_values
from aftershock.lm.gradients import Texts
from aftershock.lm.model import LanguageModel
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.lm.texts.tokens import Pair, encode_pairs
from aftershock.progress import Progress
from aftershock.seeds import derive, generator

VAL_BATCH = 32


@dataclass(frozen=True)
class Pool:
    """The tokens of all edits and locality texts of one split."""

    lm: LanguageModel
    settings: MendTraining
    edits: list[list[Pair]]  # an edit's wordings, the one that it is made with first
    subjects: np.ndarray
    relations: np.ndarray
    local: list[Pair]
    local_subjects: np.ndarray
    local_relations: np.ndarray

    @classmethod
    def of(
        cls, lm: LanguageModel, edits: pd.DataFrame, local: pd.DataFrame, settings: MendTraining
    ) -> "Pool":
        """Encode the rows of one split; ValueError when there is no text to leave alone."""
        if not len(local):
            raise ValueError("MEND has no locality text to train on")
        asked = [
            (prompt, target)
            for prompts, target in zip(edits["prompts"], edits["target_new"], strict=True)
            for prompt in prompts
        ]
        pairs = iter(encode_pairs(lm, asked))
        return cls(
            lm,
            settings,
            [[next(pairs) for _ in prompts] for prompts in edits["prompts"]],
            edits["subject"].to_numpy(),
            edits["relation_id"].to_numpy(),
            encode_pairs(lm, list(zip(local["prompt"], local["target"], strict=True))),
            local["subject"].to_numpy(),
            local["relation_id"].to_numpy(),
        )

    def draw(self, rng: np.random.Generator) -> Batch:
        """Draw a batch of different edits."""
        size = min(self.settings.batch_edits, len(self.edits))
        return self.batch(rng.choice(len(self.edits), size, replace=False), rng)

    def batch(self, chosen: Sequence[int], rng: np.random.Generator) -> Batch:
        """The edits `chosen`, with a random wording and random texts for each."""
        first = 0 if self.settings.wordings == "any" else 1
        outer = [
            self.edits[i][rng.integers(min(first, len(self.edits[i]) - 1), len(self.edits[i]))]
            for i in chosen
        ]
        local = [index for i in chosen for index in self._local(i, rng)]
        numbers = range(len(chosen))
        return Batch(
            len(chosen),
            Texts.of(self.lm, [self.edits[i][0] for i in chosen], numbers),
            Texts.of(self.lm, outer, numbers),
            Texts.of(
                self.lm,
                [self.local[i] for i in local],
                np.repeat(numbers, self.settings.locality_texts),
                whole=True,
            ),
        )

    def development(self, seed: int) -> list[Batch]:
        """Batches of dev edits, the same at every evaluation: as many as are set, or all there are."""
        rng = generator(seed, "mend dev")
        chosen = rng.permutation(len(self.edits))[: self.settings.val_edits]
        return [
            self.batch(chosen[some.start : some.stop], rng) for some in in_batches(len(chosen), VAL_BATCH)
        ]

    def _local(self, edit: int, rng: np.random.Generator) -> np.ndarray:
        """Texts about other subjects, a share of them with the edit's relation where there are any."""
        others = self.local_subjects != self.subjects[edit]
        alike = (others & (self.local_relations == self.relations[edit])).nonzero()[0]
        anything = others.nonzero()[0]
        if not len(anything):
            raise ValueError("all locality texts are about one subject: give texts about several")
        near = rng.random(self.settings.locality_texts) < self.settings.same_relation
        return np.array([rng.choice(alike if is_near and len(alike) else anything) for is_near in near])


def train_hypernetwork(
    lm: LanguageModel,
    edits: pd.DataFrame,
    local: pd.DataFrame,
    layers: Sequence[int],
    settings: MendTraining,
    seed: int,
    weights_sha256: str,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Hypernetwork, pd.DataFrame]:
    """Train a hypernetwork for `layers` on the rows of split train; return it with its curve.

    `edits` and `local` are laid out by `datasets.mend`. The dev rows say when to end and which state is kept.
    A checkpoint counts only for the same weights, settings, layers, seed and rows, read alike.
    """
    by_split = {
        split: Pool.of(lm, edits[edits["split"] == split], local[local["split"] == split], settings)
        for split in ("train", "dev")
    }
    net = Hypernetwork.of(
        lm,
        layers,
        rank=settings.rank,
        n_hidden=settings.n_hidden,
        edit_lr=settings.edit_lr,
        seed=derive(seed, "mend hypernetwork"),
    )
    about = [weights_sha256, as_values(settings), sorted(layers), seed, edits.to_json(), local.to_json()]
    about += [lm.target_ids, lm.document_token, lm.prompt_format]
    identity = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    trained, curve = train(
        lm,
        net,
        by_split["train"].draw,
        by_split["dev"].development(seed),
        settings,
        seed,
        checkpoint,
        identity,
        progress,
    )
    return trained, pd.DataFrame(curve)
