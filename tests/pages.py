"""Made-up runs as a page takes them: all datasets and methods, one that failed, hostile labels."""

import io
import json
from collections.abc import Iterable
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pandas as pd

from aftershock.datasets.table import DATASETS
from aftershock.metrics.layouts import recall_table
from aftershock.page.explorer import Explorer, Outcome, Setting, explore
from aftershock.report import Material
from aftershock.tables.models import RECALL
from aftershock.tables.runs import MEND_CURVE, TRIALS
from aftershock.training_figure import training_curve
from simulate import HOSTILE, Simulated, run_of
from simulated import editors_of, health_summary, scored, simulated_dataset, simulated_run

MODEL = "demo"
CASES = 24
FAILS = ("ft", "reverse")


def edits_of(sim: Simulated) -> pd.DataFrame:
    """EDITS that fit the probes of simulated cases."""
    by_role = {r: p.set_index("case_id") for r, p in sim.probes.groupby("role") if p["position"].eq(0).all()}
    pairs = (
        (("e1", "e1_true", "old"), ("e2", "old", "new_exp"))
        if "old" in by_role
        else (("e1", "original", "target"), ("e2", "target", "original"))
    )
    rows = [
        (case, edit, 0, "E", by_role[new].at[case, "subject"], "R7", "{} was given the", "E",
         by_role[new].at[case, "object"], "E", by_role[old].at[case, "object"])
        for case in sim.cases["case_id"]
        for edit, old, new in pairs
    ]  # fmt: skip
    columns = ["case_id", "edit", "position", "subject_id", "subject", "relation_id", "prompt"]
    return pd.DataFrame(
        rows, columns=[*columns, "target_new_id", "target_new", "target_true_id", "target_true"]
    )


PROMPTS = pd.DataFrame(
    [("R7", 0, "{} was given the", "sheet"), ("R7", 1, "What {} got is the", "sheet")],
    columns=["relation_id", "prompt_id", "template", "source"],
)


@cache
def settings(cases: int = CASES) -> tuple[Setting, ...]:
    """Every dataset under every method; ft fails on all reverse cases."""
    return tuple(setting_of(dataset, cases) for dataset in DATASETS)


def setting_of(dataset: str, cases: int, editors: Iterable[str] | None = None) -> Setting:
    """A simulated dataset with the scores of `editors`, by default of all that run on it."""
    sim = simulated_dataset(dataset, cases)
    runs = [
        Outcome(run_of(dataset, editor), *scored(dataset, editor, cases, (editor, dataset) == FAILS))
        for editor in (editors_of(dataset) if editors is None else editors)
    ]
    return Setting(MODEL, dataset, sim.cases, edits_of(sim), sim.probes, PROMPTS, runs)


@cache
def explorer(cases: int = CASES) -> Explorer:
    """The explorer of all settings."""
    return explore(settings(cases), {"R7": "award <b>received</b>"})


@cache
def summary() -> pd.DataFrame:
    """SUMMARY of all runs."""
    return simulated_run(n=CASES, fails=[FAILS]).summary


@cache
def health() -> pd.DataFrame:
    """HEALTH_SUMMARY of all runs."""
    return health_summary([of.run for s in settings() for of in s.runs], CASES, [FAILS])


@cache
def recall() -> pd.DataFrame:
    """RECALL_SUMMARY of two relations, one with a label of HTML."""
    rows = [
        (f"E{s}", r, f"E{s}{r}", p, group, bool((s + p) % 9), -0.1)
        for s in range(20)
        for r in ("R1", "R2")
        for p, group in ((0, "seen"), (8, "held_out_fact"), (9, "held_out_relation"))
    ]
    return recall_table(pd.DataFrame(rows, columns=list(RECALL.columns)), {"R1": "<b>spouse</b>"}, MODEL)


def curve_of() -> tuple[pd.DataFrame, bytes]:
    """MEND_CURVE with its picture."""
    rows = [
        (50, 9.5, 1.0, 0.3, 0.9, 0.4, 0.49, 0.5, 0.7, 0),
        (100, 19.0, 0.5, 0.1, 0.6, 0.2, 0.26, 0.75, 0.8, 0),
        (150, 30.0, 0.4, 0.1, 0.7, 0.2, 0.27, 0.8, 0.9, 1),
    ]
    curve, svg = pd.DataFrame(rows, columns=list(MEND_CURVE.columns)), io.BytesIO()
    training_curve(curve, HOSTILE[0], "all").savefig(svg, format="svg")
    return curve, svg.getvalue()


def free_table() -> pd.DataFrame:
    """A table that no list knows, with formulas and what else a label can hold."""
    words = [*HOSTILE, "=1+1", "@x", "-2", "</script>", "a\u2028b", "", 'x"y,z', "plain", "+3"]
    return pd.DataFrame(
        {
            "thing": words,
            "metric": "distortion",
            "value": 0.01,
            "low": 0.0,
            "high": 0.02,
            "n": range(len(words)),
        }
    )


def material(**changed: Any) -> Material:
    """A page's material, with some of it replaced."""
    settings_tried = [{"v_lr": 0.5, "steps": 25}, {"v_lr": 1.0, "steps": 25}]
    trials = pd.DataFrame(
        [(i, json.dumps(s), 0.5, 0.5, 0.9, 0.2 + i, i == 1, None) for i, s in enumerate(settings_tried)],
        columns=list(TRIALS.columns),
    )
    picture = (
        b'<svg xmlns="http://www.w3.org/2000/svg" width="80" height="20"><rect width="9" height="9"/></svg>'
    )
    given = {
        "title": HOSTILE[0],
        "summary": summary(),
        "recall": recall(),
        "runs": [of.run for s in settings() for of in s.runs],
        "bars": [{"metric": "single_exact", "dataset": "coverage", "editors": ["rome"], "at_least": 0.2}],
        "figures": {(MODEL, d, "metrics"): picture for d in DATASETS},
        "tables": {"summary": summary(), "health": health(), "oddments": free_table()},
        "files": [
            "summary.parquet",
            "tables/table1.csv",
            "tables/table1_released.csv",
            "tables/oddments.csv",
        ],
        "explorer": explorer(),
        "trials": {(MODEL, "rome"): trials},
        "timings": [{"rule": "edit", "wildcards": {"kg": "world"}, "seconds": 2.0, "peak_bytes": 2**20}],
        "config": {"kg": HOSTILE[0], "note": "\u202e"},
        "provenance": {"summary": {"code": HOSTILE[1], "versions": {"python": "3.11"}}},
    }
    return Material(**given | changed)


class Page(HTMLParser):
    """A page as a browser has it before its scripts run: tags, attributes, text, and scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._script: dict[str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self._script = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.words.append(data)
        else:
            self.scripts.append((self._script, data))

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    @property
    def text(self) -> str:
        """All text outside scripts, with single spaces."""
        return " ".join(" ".join(self.words).split())

    def data(self, name: str) -> Any:
        """The JSON that a script element holds."""
        return json.loads(next(text for about, text in self.scripts if about.get("id") == name))
