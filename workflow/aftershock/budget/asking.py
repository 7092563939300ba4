"""Costs of scoring: probes of cases in their states, facts, continuations, texts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aftershock.budget.devices import Device
from aftershock.budget.work import AVERAGE, NOTHING, Room, Sizes, Texts, Work, run, texts_within

PROMPTS = 11  # of a fact: the edit's own and ten paraphrases
LENGTHS = 6  # distinct lengths among a block's prompts to continue: each is a batch
OBJECTS = 3.0  # true objects of a round case
OWN_TEXTS, OWN_TOKENS = 4, 32  # that perplexity is measured on (experiments/health.py)
BLOCK = 32  # cases that are edited and scored together (experiments/cases.py)


@dataclass(frozen=True)
class Probes:
    """Prompts, objects after them, and edit prompts of a case in each state (see datasets/probes.py)."""

    prompts: float
    pairs: float
    spoken: float
    edits: tuple[str, ...] = ("e1", "e2", "e2", "control")
    states: int = 4


_round = Probes(2 * PROMPTS, (2 * OBJECTS + 1) * PROMPTS, 1, ("e1", "second"), 3)
PROBES = {
    "coverage": Probes(PROMPTS + 9, 3 * PROMPTS + 14, 1),
    "reverse": Probes(3 * PROMPTS, 5 * PROMPTS, 3),
    "composite": Probes(5 * PROMPTS + 1, 8 * PROMPTS + 1, 3),
    "round_easy": _round,
    "round_hard": _round,
}


class Asking:
    """Work of questions to one model, as a configuration has them; `texts` are as long as those."""

    def __init__(
        self,
        config: Mapping[str, Any],
        model: Mapping[str, Any],
        device: Device,
        texts: Texts = AVERAGE,
    ) -> None:
        self.config, self.model, self.device, self.texts = config, model, device, texts
        self.sizes = Sizes.of(model)
        self.room: Room = device.room(self.sizes)

    def texts_read(self, rows: float, width: float, read: float) -> Work:
        """`rows` texts of `width` tokens, run once; the scores of `read` tokens of each are taken."""
        batches, layers = texts_within(self.sizes, self.room, rows, width, read), self.sizes.layers
        return run(self.sizes, batches, rows * width, layers, width, rows * read, narrow=read < width)

    def scored(self, probes: Probes, cases: float, states: int, unchanged: int, before: float = 0.0) -> Work:
        """Probes of `cases` cases in several states, layers below `unchanged` once for all.

        `before` are tokens that stand before each prompt.
        """
        sizes, rows = self.sizes, cases * probes.prompts
        more = probes.pairs / probes.prompts * (self.texts.target - 1)
        width, read = before + self.texts.prompt + more, 1 + more
        batches = texts_within(sizes, self.room, rows, width, read)
        once = run(sizes, batches, rows * width, unchanged, width)
        above = run(sizes, batches, rows * width, sizes.layers - unchanged, width, rows * read, narrow=True)
        return once + (above + Work(rows=cases * probes.pairs)) * states

    def said(self, probes: Probes, cases: float, states: int, before: float = 0.0) -> Work:
        """Continuations of the edit prompts of `cases` cases in several states."""
        tokens = self.config["continuations"]["tokens"]
        return self.continued(cases * probes.spoken, tokens, BLOCK, before) * states

    def read(self, cases: float, states: int) -> Work:
        """Texts whose perplexity is measured in some of `cases` cases, in several states."""
        every = self.config["health"]["every"]
        if not every:
            return NOTHING
        rows = OWN_TEXTS * cases / every
        return self.texts_read(rows, OWN_TOKENS, OWN_TOKENS) * states

    def continued(self, texts: float, tokens: int, block: int, before: float = 0.0) -> Work:
        """Greedy continuations of prompts, `block` of them or fewer at a time, a batch for each length.

        `before` are tokens that stand before each prompt.
        """
        if not tokens or not texts:
            return NOTHING
        groups = max(1.0, texts / block) * min(LENGTHS, texts)
        sizes, width = self.sizes, before + self.texts.prompt
        first = run(sizes, groups, texts * width, sizes.layers, width, read=texts)
        return first + run(sizes, groups, texts, sizes.layers, width + tokens, read=texts) * (tokens - 1)

    def asked(self, facts: float, candidates: int, share: float = 1.0) -> Work:
        """`facts`, `share` of them to a prompt, after all prompts; `candidates` labels after the first."""
        if not facts:
            return NOTHING
        keys, options = facts / share, (PROMPTS - 1) * share
        more = (candidates + options) * (self.texts.target - 1) / PROMPTS
        width = self.texts.prompt + more
        return self.texts_read(keys * PROMPTS, width, 1 + more) + Work(rows=keys * (candidates + options))
