"""Tuning of an editor's settings on dev cases, with equal trials and one objective for all methods.

The objective is success x paraphrase x locality of single edits (the second edit of coverage cases, alone):
exact match after the edit prompt, exact match after the paraphrases, and the share of neighbours (the same
relation of other subjects) that the model still says of those it said before.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from aftershock.editors.contract import Editor
from aftershock.editors.methods import make_editor, other_choices, settings_of
from aftershock.editors.settings import as_values
from aftershock.experiments.cases import BLOCK
from aftershock.experiments.queries import ScoredPrompt, list_prompts, requests_of
from aftershock.lm.edits import EMPTY, State
from aftershock.lm.model import LanguageModel
from aftershock.lm.scoring import score
from aftershock.progress import Progress
from aftershock.requests import EditRequest, Query
from aftershock.tables.runs import TRIALS

WRITTEN, NEIGHBOUR = "new_exp", "neighbour"


def tune(
    lm: LanguageModel,
    method: str,
    settings: Mapping[str, Any],
    search: Mapping[str, Sequence[Any]],
    trials: int,
    edits: pd.DataFrame,
    probes: pd.DataFrame,
    prompts: pd.DataFrame,
    artifacts: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
    regularisers: Sequence[Mapping[str, Any]] = (),
) -> pd.DataFrame:
    """TRIALS rows: `settings` first, then draws from `search`; the best is marked, the earliest of equals.

    The JSON of a trial holds the settings that are searched. `edits` and `probes` are those of the dev cases.
    `artifacts` are those that the method needs, loaded, by name.
    """
    development = Development.read(lm, edits, probes, prompts)
    rows, progress = [], progress or Progress()
    progress.begin("Tuning", trials, "trial")
    for trial, values in enumerate(draw_trials(method, settings, search, trials, seed)):
        chosen = settings_of(method, settings, values)
        editor = make_editor(method, chosen, lm, artifacts, seed, regularisers)
        found = development.measure(editor)
        measured = json.dumps(editor.measured) if editor.measured else None
        rows.append((trial, json.dumps(values, sort_keys=True), *found, math.prod(found), False, measured))
        progress.step()
    frame = pd.DataFrame(rows, columns=list(TRIALS.columns))
    frame.loc[frame["objective"].idxmax(), "chosen"] = True
    return frame


def draw_trials(
    method: str, settings: Mapping[str, Any], search: Mapping[str, Sequence[Any]], trials: int, seed: int
) -> list[dict[str, Any]]:
    """The searched settings of every trial: those given, then others drawn from the grid without repeat."""
    given = as_values(settings_of(method, settings))
    first = {name: given[name] for name in search}
    others = other_choices(method, settings, search)
    if len(others) < trials - 1:
        raise ValueError(
            f"{method}: {trials} trials need {trials - 1} settings besides the given ones, "
            f"but its search grid has {len(others)}"
        )
    return [first, *random.Random(seed).sample(others, trials - 1)]


@dataclass(frozen=True)
class Development:
    """Dev cases: their single edits, and the probes scored after them."""

    lm: LanguageModel
    requests: list[list[EditRequest]]
    written: list[list[ScoredPrompt]]  # the fact that the edit writes
    neighbours: list[list[ScoredPrompt]]  # facts that the unedited model gives and edits should preserve

    @classmethod
    def read(
        cls, lm: LanguageModel, edits: pd.DataFrame, probes: pd.DataFrame, prompts: pd.DataFrame
    ) -> "Development":
        """The cases of `edits`; ValueError when there are none, or none of their neighbours is known."""
        case_ids = sorted(edits.loc[edits["edit"] == "e2", "case_id"].unique().tolist())
        if not case_ids:
            raise ValueError("no dev case to tune on; raise cases.quotas.dev.coverage")
        by_role = {
            role: list_prompts(probes[probes["role"] == role], prompts) for role in (WRITTEN, NEIGHBOUR)
        }
        written, near = ([by_role[role].get(i, []) for i in case_ids] for role in (WRITTEN, NEIGHBOUR))
        flat = [asked for case in near for asked in case if asked.prompt_id == 0]
        said = {a for a, s in zip(flat, score(lm, _queries([flat])), strict=True) if s.argmax_match}
        if not said:
            raise ValueError("the model knows no neighbour of any dev case: locality cannot be measured")
        return cls(
            lm, requests_of(edits, "e2", case_ids), written, [[a for a in case if a in said] for case in near]
        )

    def measure(self, editor: Editor) -> tuple[float, float, float]:
        """Success, paraphrase and locality of `editor`."""
        exact: dict[str, list[bool]] = {"success": [], "paraphrase": [], "locality": []}
        for start in range(0, len(self.requests), BLOCK):
            some = slice(start, start + BLOCK)
            delta = editor.scored(editor.edit(self.requests[some]).delta)
            for asked, match in self._say(self.written[some], delta):
                exact["paraphrase" if asked.prompt_id else "success"].append(match)
            exact["locality"] += [match for _, match in self._say(self.neighbours[some], delta)]
        success, paraphrase, locality = (sum(values) / len(values) for values in exact.values())
        return success, paraphrase, locality

    def _say(
        self, asked: Sequence[Sequence[ScoredPrompt]], delta: State = EMPTY
    ) -> list[tuple[ScoredPrompt, bool]]:
        flat = [a for case in asked for a in case]
        scores = score(self.lm, _queries(asked), delta)
        return [(a, s.argmax_match) for a, s in zip(flat, scores, strict=True)]


def _queries(asked: Sequence[Sequence[ScoredPrompt]]) -> list[Query]:
    return [Query(a.prompt, a.target, i) for i, case in enumerate(asked) for a in case]
