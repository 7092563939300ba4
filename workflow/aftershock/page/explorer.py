"""Every case under every method: an index of all pairs, and chunks with each probe in each state.

The index is small (one number per pair, texts once) and always in the page. Chunks hold the cases in the
order of the index, `Explorer.size` to a chunk; a page with many pairs loads them one by one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aftershock.metrics.catalogue import find_metric
from aftershock.page.embed import Words, embedded, numbers
from aftershock.page.outcomes import flags, lacking, outcomes_in
from aftershock.page.roles import EDITS, GROUPS, STATES, role, rule_words
from aftershock.page.sorting import FACETS, facet_codes, sortable, sorted_metrics
from aftershock.prompts import SLOT, TEXT

PAIRS = 2_000
"""A page with more case-method pairs keeps its chunks in files beside it."""

CHUNK = 500
"""Case-method pairs of a chunk, about: some 300 kB."""

PROBE = ["case_id", "role", "position"]
SKIPPED = "probability_"
"""Prefix of metrics that only repeat the probes."""


@dataclass(frozen=True)
class Outcome:
    """Results of one run: PROBABILITIES, SCORES and, where it has any, HOLES."""

    run: Mapping[str, Any]
    probabilities: pd.DataFrame
    scores: pd.DataFrame
    holes: pd.DataFrame | None = None


@dataclass(frozen=True)
class Setting:
    """One model on one dataset: its CASES, EDITS and PROBES, PROMPTS, the runs of all methods, and FACETS."""

    model: str
    dataset: str
    cases: pd.DataFrame
    edits: pd.DataFrame
    probes: pd.DataFrame
    prompts: pd.DataFrame
    runs: Sequence[Outcome]
    facets: pd.DataFrame | None = None
    """FACETS of the cases, as far as they do not depend on a method."""


@dataclass(frozen=True)
class Explorer:
    """The index, the JSON of each chunk, the pairs in all, the metrics of cases that the catalogue knows,
    and a sentence about each incomplete run.
    """

    index: dict[str, Any]
    chunks: list[str]
    pairs: int
    metrics: list[str]
    holes: list[str]

    @property
    def inside(self) -> bool:
        """True if the chunks are embedded in the page itself."""
        return self.pairs <= PAIRS


def explore(
    settings: Iterable[Setting], labels: Mapping[str, str] | None = None, chunk: int = CHUNK
) -> Explorer:
    """The explorer of all `settings`, with about `chunk` pairs to a chunk; `labels` name relations."""
    words, names = Words(), Words()
    parts, holes, pairs = [], [], 0
    chunks: list[Any] = []
    for setting in settings:
        cases = setting.cases[setting.cases["split"] == "test"].sort_values("case_id")
        found = {
            place: flags(of.scores, cases["case_id"].to_numpy()) for place, of in enumerate(setting.runs)
        }
        for place, of in enumerate(setting.runs):
            for name in of.scores["metric"].unique():
                names.place(name)
            holes.append(lacking(of.run, cases["case_id"].tolist(), found[place], of.holes))
        size = max(1, chunk // max(1, len(setting.runs)))
        rules = [words.place(rule_words(rule, labels or {})) for rule in cases["rule"]]
        parts.append(
            _of_index(setting, cases, found, words)
            | {"facets": facet_codes(setting.facets, cases["case_id"].tolist(), words, labels or {})}
            | {"rules": rules, "first": len(chunks), "size": size}
        )
        chunks += [embedded(made) for made in _chunks(setting, cases, size)]
        pairs += len(cases) * len(setting.runs)
    index = {
        "words": words.texts,
        "settings": parts,
        "outcomes": outcomes_in(names.texts),
        "sorts": sorted_metrics(names.texts),
        "facets": FACETS,
        "states": STATES,
        "edits": EDITS,
        "groups": GROUPS,
    }
    metrics = [name for name in names.texts if find_metric(name)]
    return Explorer(index, chunks, pairs, metrics, [line for line in holes if line])


def _of_index(
    setting: Setting, cases: pd.DataFrame, found: Mapping[int, list[int]], words: Words
) -> dict[str, Any]:
    """Index of one setting: a column per property of its cases, and the flags of each run."""
    first = setting.edits[(setting.edits["edit"] == "e1") & (setting.edits["position"] == 0)]
    first = first.set_index("case_id").reindex(cases["case_id"])
    return {
        "model": setting.model,
        "dataset": setting.dataset,
        "cases": cases["case_id"].tolist(),
        "strict": cases["strict"].astype(int).tolist(),
        "subjects": [words.place(text) for text in first["subject"].fillna("")],
        "targets": [words.place(text) for text in first["target_new"].fillna("")],
        "runs": [
            {
                "editor": of.run["editor"],
                "seed": of.run["seed"],
                "flags": found[place],
                "values": sortable(of.scores, cases["case_id"].tolist()),
            }
            for place, of in enumerate(setting.runs)
        ],
    }


def _chunks(setting: Setting, cases: pd.DataFrame, size: int) -> Iterable[dict[str, Any]]:
    """The chunks of one setting, `size` cases each."""
    wanted = cases["case_id"].to_numpy()
    probes = _shown(setting.probes, wanted)
    edits = setting.edits[setting.edits["case_id"].isin(wanted)].sort_values(["case_id"], kind="stable")
    of_probes, of_edits = _slices(probes["case_id"], wanted), _slices(edits["case_id"], wanted)
    templates = setting.prompts[setting.prompts["prompt_id"] == 0]
    templates = {TEXT: SLOT, **dict(zip(templates["relation_id"], templates["template"], strict=True))}
    probe_rows = probes[["role", "relation_id", "subject", "object", "prompts", "also"]].to_numpy().tolist()
    edit_rows = edits[["edit", "prompt", "subject", "target_true", "target_new"]].to_numpy().tolist()
    before = _before(setting.runs, probes)
    runs = [_Run(of, probes, wanted) for of in setting.runs]
    for start in range(0, len(wanted), size):
        words, made = Words(), []
        for place in range(start, min(start + size, len(wanted))):
            here = of_probes[place]
            made.append(
                {
                    "id": int(wanted[place]),
                    "edits": [[words.place(str(text)) for text in row] for row in edit_rows[of_edits[place]]],
                    "probes": [_probe(row, templates, words) for row in probe_rows[here]],
                    "before": before[here],
                    "runs": [run.of_case(place, here, words) for run in runs],
                }
            )
        yield {"words": words.texts, "metrics": [run.metrics for run in runs], "cases": made}


def _shown(probes: pd.DataFrame, cases: np.ndarray) -> pd.DataFrame:
    """The probes of `cases`, each fact once, by case and group; `also` is the role of a fact's repeat."""
    rows = probes[probes["case_id"].isin(cases)]
    repeat = rows.duplicated(["case_id", "probe_id"])
    also = rows[repeat].drop_duplicates(["case_id", "probe_id"])[["case_id", "probe_id", "role"]]
    rows = rows[~repeat].merge(also.rename(columns={"role": "also"}), on=["case_id", "probe_id"], how="left")
    rows["group"] = [GROUPS.index(role(name).group) for name in rows["role"]]
    return rows.sort_values(["case_id", "group"], kind="stable").reset_index(drop=True)


def _slices(column: pd.Series, cases: np.ndarray) -> list[slice]:
    """The range of rows of each of `cases`, in a column sorted by case."""
    values = column.to_numpy()
    starts, ends = (np.searchsorted(values, cases, side).tolist() for side in ("left", "right"))
    return [slice(start, end) for start, end in zip(starts, ends, strict=True)]


def _probe(row: Sequence[Any], templates: Mapping[str, str], words: Words) -> list[Any]:
    """Group, role in words, template, subject, object, and 1 where fewer prompts were scored than usual."""
    name, relation, subject, target, prompts, also = row
    about = role(name).words
    if isinstance(also, str):
        about = f"{about}; {role(also).words}"
    template = templates.get(relation, f"{{}} [{relation}]")
    texts = [words.place(text) for text in (about, template, subject, target)]
    return [GROUPS.index(role(name).group), *texts, int(prompts != "all")]


def _before(runs: Sequence[Outcome], probes: pd.DataFrame) -> list[float | None]:
    """The probability of each probe in the unedited model, which all runs share."""
    rows = [of.probabilities[of.probabilities["state"] == "0"] for of in runs]
    known = pd.concat(rows) if rows else pd.DataFrame(columns=[*PROBE, "probability"])
    known = known.drop_duplicates(PROBE).set_index(PROBE)["probability"]
    return numbers(known.reindex(pd.MultiIndex.from_frame(probes[PROBE])), 3)


class _Run:
    """Values of one run in the order of the probes, to be sliced by case."""

    def __init__(self, of: Outcome, probes: pd.DataFrame, cases: np.ndarray) -> None:
        index = pd.MultiIndex.from_frame(probes[PROBE])
        rows = of.probabilities.set_index([*PROBE, "state"]).sort_index()
        self.states = [s for s in STATES if s in set(of.probabilities["state"])]
        wide = rows["probability"].unstack("state").reindex(index)
        exact = rows["exact"].astype("float64").unstack("state").reindex(index).fillna(2).astype(int)
        self.values = {s: numbers(wide[s], 3) for s in self.states if s != "0"}
        self.exact = {s: exact[s].to_list() for s in self.states}
        self.said: dict[str, list[Any]] = {}
        if "continuation" in of.probabilities:
            said = rows["continuation"].unstack("state").reindex(index)
            self.said = {s: said[s].to_list() for s in self.states}
        scores = of.scores[~of.scores["metric"].str.startswith(SKIPPED)]
        self.metrics = list(dict.fromkeys(scores["metric"]))
        wide = scores.pivot(index="case_id", columns="metric", values="value").reindex(cases)
        self.scores = [numbers(wide[name]) for name in self.metrics]
        self.why = _reasons(of.holes)
        self.cases = cases

    def of_case(self, place: int, here: slice, words: Words) -> dict[str, Any]:
        """Values of one case by kind, for the page's script.

        `p` are probabilities by state, `x` marks the greedy answer (1; 2 unknown), `m` are metrics; `c` has
        continuations and `why` the reasons for missing states, where there are any.
        """
        found: dict[str, Any] = {
            "p": {s: values[here] for s, values in self.values.items()},
            "x": {s: "".join(map(str, values[here])) for s, values in self.exact.items()},
            "m": [values[place] for values in self.scores],
        }
        said = {
            s: [words.place(text) if isinstance(text, str) else -1 for text in texts[here]]
            for s, texts in self.said.items()
        }
        if any(place >= 0 for places in said.values() for place in places):
            found["c"] = said
        if why := self.why.get(int(self.cases[place])):
            found["why"] = [[state, words.place(reason)] for state, reason in why]
        return found


def _reasons(holes: pd.DataFrame | None) -> dict[int, list[tuple[str, str]]]:
    """States of each case that are missing, with the reason."""
    why: dict[int, list[tuple[str, str]]] = {}
    if holes is not None:
        for row in holes.itertuples():
            why.setdefault(int(row.case_id), []).append((str(row.state), str(row.reason)))
    return why
