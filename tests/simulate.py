"""Made-up runs with the shape of real ones: cases, probes, observations of several editors, and what
surrounds them.

Nothing is edited: an editor is a handful of numbers that say how far a fact's log-probability moves. Used to
test metrics, figures and the report without a model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets.table import CONFLICT
from aftershock.metrics.run import Scored, score_cases
from aftershock.metrics.study import Block, score_blocks
from aftershock.metrics.summary import summarise
from aftershock.seeds import generator
from aftershock.tables.cases import CASES, PROBES
from aftershock.tables.runs import HEALTH, OBSERVATIONS, SCORES, TELEMETRY

PROMPTS = 11
FIRST_NAMES = ["Ada", "Bela", "Cleo", "Dario", "Edda", "Falk"]
FIRST_NAMES += ["Gesa", "Hugo", "Ines", "Jorin", "Kaja", "Levin"]
SURNAMES = ("Abendrot", "Birkner", "Castellan", "Dornfeld", "Eskildsen", "Falkenau", "Grimsby", "Holloway")
THINGS = ["glassblowing", "Order of the Heron", "Northern Academy"]
THINGS += ["cartography", "Silver Quill", "Tallin Institute"]
HOSTILE = ("<script>alert(1)</script>", "{} & \"quotes\" 'n' $x_{", "\u202eevil\x07", "E17", "Ünïcödé 漢字")
RULES = {
    "coverage": ("R1", "R2"),
    "reverse": ("R1>R2", "R3>R4"),
    "composite": ("R1&R2>R3", "R4&R5>R6"),
    "round_easy": ("1-N@R7",),
    "round_hard": ("1-N@R8",),
}
NEARBY = ("neighbour", "neighbour_new", "same_subject", "locality_text")
KNOWN = ["e1_true", "e2_true", "in_context", "tied", "original", "object", "neighbour", "same_subject"]
KNOWN += ["locality_text", "control_same", "control_unrelated", "control_object"]
"""Roles whose objects the unedited model finds likely."""


@dataclass(frozen=True)
class Behaviour:
    """An editor's effect on log-probabilities: what it writes, removes and spills over to others."""

    write: float = 5.0
    erase: float = 3.0
    spill: float = 0.2
    others: float = -1.0
    noise: float = 0.3


EDITORS = {
    "ft": Behaviour(write=6.0, erase=4.0, spill=-1.2, others=-1.6),
    "rome": Behaviour(write=5.5, erase=2.5, spill=-0.25, others=-1.2),
    "memit": Behaviour(write=4.6, erase=2.2, spill=-0.15, others=-0.9),
    "memit_mle": Behaviour(write=3.6, erase=1.8, spill=-0.1, others=0.25),
}


@dataclass(frozen=True)
class Simulated:
    """One dataset with what each editor's run observed."""

    dataset: str
    cases: pd.DataFrame
    probes: pd.DataFrame
    unedited: pd.DataFrame
    observations: dict[str, pd.DataFrame]
    telemetry: dict[str, pd.DataFrame]


def simulate(
    dataset: str,
    n: int = 40,
    seed: int = 0,
    editors: dict[str, Behaviour] = EDITORS,
    strict: float = 0.7,
    texts: int = 0,
) -> Simulated:
    """`n` test cases of `dataset`, about three to a cluster, as every editor leaves them; `texts` of a file
    for each coverage case.
    """
    rng = generator(seed, dataset)
    cases = pd.DataFrame(
        {
            "case_id": np.arange(n),
            "split": "test",
            "rule": rng.choice(RULES[dataset], n),
            "strict": rng.random(n) < strict,
            "functionality": rng.uniform(0.5, 1, n).round(3),
            "cluster": rng.integers(0, max(1, n // 3), n),
            "tied_known": pd.array(
                rng.random(n) < 0.9 if dataset == "composite" else [None] * n, dtype="boolean"
            ),
            "n_objects": 0,
            "n_known": 0,
        },
        columns=list(CASES.columns),
    ).astype({"strict": bool})
    probes = pd.concat(
        [_probes(dataset, case, rng, texts) for case in range(n)] or [PROBES.empty()], ignore_index=True
    )
    if dataset not in CONFLICT:
        objects = probes[probes["role"].isin(["original", "object"])].groupby("case_id").size()
        cases["n_objects"] = cases["n_known"] = objects.reindex(cases["case_id"]).to_numpy()
    facts = probes.drop_duplicates(["case_id", "probe_id"])
    facts = facts[["case_id", "probe_id", "role", "prompts", "object"]]
    prompts = pd.DataFrame({"prompt_id": range(PROMPTS)})
    rows = facts.merge(prompts, how="cross")
    rows = rows[(rows["prompts"] == "all") | (rows["prompt_id"] == 0)].reset_index(drop=True)
    fact = rows.groupby(["case_id", "probe_id"]).ngroup().to_numpy()
    of_fact = rng.normal(0, 0.8, len(facts))[fact]
    base = np.where(rows["role"].isin(KNOWN), -1.2, -5.0) + of_fact + rng.normal(0, 0.5, len(rows))
    tokens = rng.integers(1, 4, len(facts))[fact]
    unedited = _observe(rows, "0", base, tokens)
    observations, telemetry = {}, {}
    for name, behaviour in editors.items():
        own = generator(seed, dataset, name)
        states = _states(dataset, rows, behaviour)
        observations[name] = pd.concat(
            [_observe(rows, s, base + shift + own.normal(0, behaviour.noise, len(rows)), tokens)
             for s, shift in states.items()],
            ignore_index=True,
        )  # fmt: skip
        telemetry[name] = pd.DataFrame(
            [(case, state, 25, 0.05, 1.0, None) for case in range(n) for state in states],
            columns=list(TELEMETRY.columns),
        )
    return Simulated(dataset, cases, probes, unedited, observations, telemetry)


def health_of(run: Simulated, editor: str) -> pd.DataFrame:
    """HEALTH of an editor's run on two weights: the larger its spill, the worse; one case is disabled."""
    behaviour = EDITORS.get(editor, Behaviour())
    telemetry = run.telemetry.get(editor, next(iter(run.telemetry.values())))
    rng, rows = generator(0, run.dataset, editor, "health"), []
    for case, state in telemetry[["case_id", "state"]].itertuples(index=False):
        size = 0.02 * np.exp(rng.normal(0, 0.3)) * (40.0 if case == 3 and editor == "rome" else 1.0)
        nll = 1.5 + abs(behaviour.spill) * rng.exponential(1.5) if case % 4 == 0 else None
        for module in ("layers.0.mlp", "layers.1.mlp"):
            sizes = (10 * size, size, min(1.0, 20 * size), 1 if behaviour.spill > -1 else None)
            rows.append((case, state, module, *sizes, 1e4, nll, None if nll is None else 1.5))
    return pd.DataFrame(rows, columns=list(HEALTH.columns)).astype({"rank": "Int64"})


def failed(run: Simulated) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Observations and telemetry of a method whose first edit and single edit fail on every case."""
    rows = [
        (case, state, 0, 0.0, 0.0, "the loss is not a number")
        for case in run.cases["case_id"]
        for state in ("1", "2", "e2_only", "control", "random")
    ]
    return OBSERVATIONS.empty(), pd.DataFrame(rows, columns=list(TELEMETRY.columns))


def one_editor(dataset: str, n: int = 12, **behaviour: float) -> Simulated:
    """`n` cases as one editor, called editor, leaves them."""
    return simulate(dataset, n, editors={"editor": Behaviour(**behaviour)})


def score(
    sim: Simulated,
    rows: pd.DataFrame | None = None,
    shards: Sequence[str] = ("00000-00007", "00008-00015"),
    editor: str = "editor",
    **changed: Any,
) -> Scored:
    """Score one editor's run, cut into shards; `rows` stand for its observations."""
    rows = sim.observations[editor] if rows is None else rows
    given = {
        **{"cases": sim.cases, "probes": sim.probes, "unedited": sim.unedited, "dataset": sim.dataset},
        "shards": {shard: rows[rows["case_id"].between(*map(int, shard.split("-")))] for shard in shards},
        **{"telemetry": sim.telemetry[editor], "ranges": list(shards)},
    }
    return score_cases(**given | changed)


def run_of(
    dataset: str = "reverse", editor: str = "rome", seed: int = 0, model: str = "demo"
) -> dict[str, Any]:
    """Wildcards that identify one run."""
    return {"model": model, "dataset": dataset, "editor": editor, "seed": seed}


def cases_of(
    n: int, clusters: Iterable[int] | None = None, strict: Iterable[bool] | None = None
) -> pd.DataFrame:
    """Return what summaries need of `n` cases, each in its own cluster unless `clusters` says otherwise."""
    return pd.DataFrame(
        {
            "case_id": range(n),
            "cluster": range(n) if clusters is None else clusters,
            "strict": [True] * n if strict is None else strict,
            "subject_id": [f"E{case}" for case in range(n)],
        }
    )


def summary_of(
    values: dict[str, list[float | None]], run: dict[str, Any], strict: list[bool] | None = None
) -> pd.DataFrame:
    """SUMMARY of a run from the values of its metrics by case."""
    n = len(next(iter(values.values())))
    return summarise(scores_of(values), cases_of(n, strict=strict), run)


def block_of(editors: dict[str, Any], cases: pd.DataFrame, dataset: str = "reverse") -> list[Block]:
    """A study of one dataset from the values of each editor's metrics, or of each of its seeds'."""
    runs, scores = [], []
    for editor, metrics in editors.items():
        for seed, values in enumerate(metrics if isinstance(metrics, list) else [metrics]):
            runs.append(run_of(dataset, editor, seed))
            scores.append(scores_of(values) if isinstance(values, dict) else values)
    return score_blocks(runs, [cases] * len(runs), scores)


def scores_of(values: dict[str, list[float | None]]) -> pd.DataFrame:
    """SCORES of cases 0, 1, 2, … from the values of each metric."""
    rows = [(case, name, value) for name, column in values.items() for case, value in enumerate(column)]
    return pd.DataFrame(rows, columns=list(SCORES.columns)).astype({"value": float})


def values(scores, case=0):
    """The value of each metric for one case."""
    return scores[scores["case_id"] == case].set_index("metric")["value"]


def _states(dataset: str, rows: pd.DataFrame, how: Behaviour) -> dict[str, np.ndarray]:
    """Return what each state adds to the unedited log-probabilities per token, by row."""
    role = rows["role"].to_numpy()

    def shift(**by_role: float) -> np.ndarray:
        return np.array([by_role.get(r, how.spill) for r in role])

    write, erase = how.write, how.erase
    if dataset not in CONFLICT:
        return {
            "1": shift(target=write, original=-erase, object=how.others, control_object=how.spill / 4),
            "2": shift(target=1.0, original=0.8, object=how.others / 2, control_object=how.spill / 4),
            "random": shift(target=0.0, original=0.0, object=0.0, control_object=0.0),
        }
    together = -erase if dataset == "coverage" else (-0.2 if dataset == "reverse" else -erase / 3)
    implied = {"coverage": write, "reverse": 0.3, "composite": write / 2}[dataset]
    return {
        "1": shift(old=write, e1_true=-erase, new_exp=0.1, new_imp=0.1),
        "2": shift(
            old=write + together, e1_true=-erase, new_exp=write, new_imp=implied, tied=2 * how.spill - 0.3
        ),
        "e2_only": shift(old=0.2, new_exp=write, new_imp=implied / 2, tied=how.spill),
        "control": shift(old=write - 0.1, e1_true=-erase, new_exp=0.1, new_imp=0.1, tied=how.spill / 2),
    }


def _observe(rows: pd.DataFrame, state: str, per_token: np.ndarray, tokens: np.ndarray) -> pd.DataFrame:
    per_token = -np.log1p(np.exp(-np.clip(per_token + 1.0, -30, 30)))
    said = np.where(per_token > np.log(0.4), " " + rows["object"] + " and", " nothing of the kind")
    return pd.DataFrame(
        {
            "case_id": rows["case_id"],
            "state": state,
            "probe_id": rows["probe_id"],
            "prompt_id": rows["prompt_id"],
            "logprob": per_token * tokens,
            "n_tokens": tokens,
            "token_logprobs": [[value] * n for value, n in zip(per_token, tokens, strict=True)],
            "argmax_match": per_token > np.log(0.45),
            "tokens_matched": np.where(per_token > np.log(0.45), tokens, tokens // 2),
            "continuation": np.where(rows["prompt_id"] == 0, said, None),
        },
        columns=list(OBSERVATIONS.columns),
    )


def _probes(dataset: str, case: int, rng: np.random.Generator, texts: int) -> pd.DataFrame:
    """Roles and facts of one case; in coverage the implied fact is the explicit one, so it is scored once."""
    if dataset in CONFLICT:
        roles = ["old", "new_exp", "new_imp", "e1_true"]
        if dataset != "coverage":
            roles.append("e2_true")
        if dataset == "composite":
            roles += ["tied", "control_same", "control_unrelated", "in_context"]
        if dataset == "coverage":
            roles += ["neighbour"] * 5 + ["same_subject"] * 3 + ["neighbour_new"] * 5
            roles += ["locality_text"] * texts
    else:
        roles = ["target", "original", *["object"] * int(rng.integers(1, 5)), *["control_object"] * 2]
    labels = rng.choice([*THINGS, *FIRST_NAMES, *HOSTILE], len(roles))
    subject = f"{rng.choice(FIRST_NAMES)} {rng.choice(SURNAMES)}"
    rows, seen = [], {}
    for number, (role, label) in enumerate(zip(roles, labels, strict=True)):
        probe = number - 1 if dataset == "coverage" and role == "new_imp" else number
        position = seen[role] = seen.get(role, -1) + 1
        only_edit = role in NEARBY or (role == "control_same" and case % 2)
        prompts = "context" if role == "in_context" else "edit" if only_edit else "all"
        fact = (f"E{case}", subject, "R7", f"E{case}.{probe}", label)
        rows.append((case, role, position, probe, *fact, prompts))
    return pd.DataFrame(rows, columns=list(PROBES.columns))
