"""The health of edits: the size of each weight's change, and the likelihood of a text that no edit is about.

The text is written by the unedited model itself, from a seed that is the same for all editors and seeds of a
run, so that it suits any model and needs no file. Its likelihood says whether a model still works after an
edit: Yang et al. (2024) found that perplexity shows a collapse before any benchmark does.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor

from aftershock.experiments.states import Reached
from aftershock.lm.edits import join
from aftershock.lm.edits.measures import ranks, row_norms
from aftershock.lm.edits.state import in_weights
from aftershock.lm.edits.weights import WeightDelta
from aftershock.lm.generation import sample
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import Score, score, score_states
from aftershock.lm.texts.beginning import opening_ids
from aftershock.requests import Query
from aftershock.seeds import derive
from aftershock.tables.runs import HEALTH

TEXTS, TOKENS = 4, 32  # that the model writes, and of each
LIKELIEST = 50  # tokens that each next one is drawn from
READ = 0.25  # of a text's words are the prompt of the rest
TOUCHED = 0.01
"""The norm of a row's change, in norms of the row, from which on an edit touches it."""


class Health:
    """Collects HEALTH rows of the states that cases reach; perplexity in every `every`-th case, 0 in none."""

    def __init__(self, lm: LanguageModel, every: int) -> None:
        self.lm, self.every = lm, every
        self.texts = own_texts(lm) if every else []
        self.unedited = mean_nll(score(lm, self._queries([0]))) if self.texts else None
        self._rows: list[tuple] = []
        self._weights: dict[str, tuple[Tensor, float]] = {}

    def observe(self, reached: Sequence[Reached], case_ids: Sequence[int]) -> None:
        """Measure the states of one block of cases."""
        chosen = [i for i, case_id in enumerate(case_ids) if self.texts and case_id % self.every == 0]
        found = score_states(self.lm, self._queries(chosen), [state.scored for state in reached])
        n = len(self.texts)
        for state, scores in zip(reached, found, strict=True):
            nll = {i: mean_nll(scores[place * n : (place + 1) * n]) for place, i in enumerate(chosen)}
            self._rows += self._rows_of(state, case_ids, nll)

    def table(self) -> pd.DataFrame:
        """Return HEALTH."""
        frame = pd.DataFrame(self._rows, columns=list(HEALTH.columns))
        return frame.astype({"rank": "Int64"})

    def _queries(self, cases: Sequence[int]) -> list[Query]:
        return [Query(prompt, rest, i) for i in cases for prompt, rest in self.texts]

    def _rows_of(self, state: Reached, case_ids: Sequence[int], nll: Mapping[int, float]) -> Iterator[tuple]:
        """Yield a row for each case whose edits all worked, and each change."""
        sound = sorted(state.sound)
        changed = tuple(delta for delta in state.scored if in_weights(delta))
        changes = [(delta.module, self._sizes(delta)) for delta in join(changed) if in_weights(delta)]
        others = dict.fromkeys(delta.name for delta in state.scored if not in_weights(delta))
        for module, sizes in [*changes, *((name, None) for name in others)] if sound else ():
            for i in sound:
                norm, relative, touched, rank = sizes[i] if sizes else (None,) * 4
                condition = state.conditions.get(i, {}).get(module)
                likelihood = nll.get(i), self.unedited if i in nll else None
                yield case_ids[i], state.name, module, norm, relative, touched, rank, condition, *likelihood

    def _sizes(self, change: WeightDelta) -> list[tuple[float, float, float, int | None]]:
        """Norm, norm relative to the weight's, share of rows touched, and rank of each case's change."""
        module = change.module
        if module not in self._weights:
            weight = self.lm.model.get_submodule(module).weight
            weight = self.lm.weight(module) if weight.ndim == 2 else weight[:, None]
            rows = torch.linalg.vector_norm(weight, dim=1, dtype=torch.float64)
            self._weights[module] = rows, float(rows.norm())
        of_weight, whole = self._weights[module]
        rows = row_norms(change)
        norms = rows.norm(dim=1)
        touched = (rows > TOUCHED * of_weight.to(rows.device)).double().mean(dim=1)
        of_rank: Sequence[int | None] = ranks(change) or [None] * len(norms)
        return list(zip(norms.tolist(), (norms / whole).tolist(), touched.tolist(), of_rank, strict=True))


def own_texts(lm: LanguageModel) -> list[tuple[str, str]]:
    """Return texts that the unedited model writes, each as a beginning and the rest; none of a single word.

    The same for the same model, whatever the run.
    """
    if lm.tokenizer.eos_token_id is None:
        start: Sequence[int] = lm.encode(["The"])[0]
    else:
        start = opening_ids(lm.tokenizer, lm.document_token)
    length = min(TOKENS, lm.context // 3)
    written = sample(lm, start, length, TEXTS, LIKELIEST, derive(0, "health"))
    return [split for text in written if (split := _split(text))]


def _split(text: str) -> tuple[str, str] | None:
    """Return the first words of `text`, and the others; None where there are not two."""
    words = text.split()
    if len(words) < 2:
        return None
    first = max(1, round(READ * len(words)))
    return " ".join(words[:first]), " ".join(words[first:])


def mean_nll(scores: Sequence[Score]) -> float:
    """Mean negative log-probability of all tokens of some texts; infinite where one is not a number."""
    logprobs = [value for found in scores for value in found.token_logprobs]
    return -math.fsum(logprobs) / len(logprobs) if all(map(math.isfinite, logprobs)) else math.inf
