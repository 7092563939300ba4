"""Tables, findings, figures and the page: what they show, and that nothing in the data can break them."""

import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from aftershock import figures
from aftershock.findings import found
from aftershock.metrics.layouts import (
    CONTROLLED,
    LAYOUTS,
    all_tables,
    control_table,
    difference,
    recall_table,
    table,
)
from aftershock.metrics.run import DATASETS, score_run
from aftershock.metrics.summary import summarise
from aftershock.report import Material, of_run, page, stages
from aftershock.report_tables import cell, controls, tables
from aftershock.tables import MEND_CURVE, RECALL, RECALL_SUMMARY, SUMMARY, TRIALS
from aftershock.training_figure import training_curve
from aftershock.verdicts import missed, verdicts
from simulate import EDITORS, HOSTILE, failed, scores_of, simulate

MODEL = "demo"


def run_of(dataset, editor="rome", seed=0, model=MODEL):
    return {"model": model, "dataset": dataset, "editor": editor, "seed": seed}


def summary_of(values, dataset, editor="rome", strict=None):
    """SUMMARY of one run from the values of its metrics by case."""
    n = len(next(iter(values.values())))
    cases = pd.DataFrame({"case_id": range(n), "cluster": range(n), "strict": strict or [True] * n})
    return summarise(scores_of(values), cases, run_of(dataset, editor))


@pytest.fixture(scope="module")
def simulated():
    """Runs, SUMMARY, and PROBABILITIES by run of every dataset and editor; ft fails on all reverse cases."""
    runs, summaries, readings = [], [], []
    for dataset in DATASETS:
        sim = simulate(dataset, 24)
        for editor in EDITORS if dataset.startswith("round") else ("ft", "rome", "memit"):
            observations, telemetry = sim.observations[editor], sim.telemetry[editor]
            if (editor, dataset) == ("ft", "reverse"):
                observations, telemetry = failed(sim)
            given = sim.cases, sim.probes, sim.unedited, {"00000-00023": observations}, telemetry
            probabilities, scores = score_run(*given, dataset, ["00000-00023"])
            runs.append(run_of(dataset, editor))
            readings.append(probabilities)
            summaries.append(summarise(scores, sim.cases, runs[-1]))
    return runs, pd.concat(summaries, ignore_index=True), readings


@pytest.fixture(scope="module")
def recall():
    rows = [
        (f"E{s}", r, f"E{s}{r}", p, group, bool((s + p) % 9), -0.1)
        for s in range(20)
        for r in ("R1", "R2")
        for p, group in ((0, "seen"), (8, "held_out_fact"), (9, "held_out_relation"))
    ]
    frame = pd.DataFrame(rows, columns=list(RECALL.columns))
    return recall_table(frame, {"R1": "<b>spouse</b>"}, MODEL)


# --- tables -----------------------------------------------------------------------------------------------
def test_table_1_has_the_papers_columns_in_both_definitions():
    headers = [(c.group, c.header) for c in LAYOUTS["table1"].columns["paper"]]
    assert headers == [
        ("Single", "Succ"),
        ("Coverage", "CS"),
        ("Coverage", "CM"),
        ("Reverse", "CS exp"),
        ("Reverse", "CS imp"),
        ("Reverse", "CM"),
        ("Composite", "CS exp"),
        ("Composite", "CS imp"),
        ("Composite", "CM"),
        ("Composite", "TFD"),
    ]
    released = [c.metric for c in LAYOUTS["table1"].columns["released"]]
    assert released[0] == "success_released"
    assert released[-1] == "tied_fact_damage_released"
    assert [c.header for c in LAYOUTS["table2"].columns["paper"]] == ["Succ", "D", "IR", "FR"] * 2


def test_a_table_has_a_row_per_run_and_the_summarys_values():
    summary = summary_of(
        {"conflict_score_exp": [1.0, 0.0, 1.0, 1.0]}, "reverse", strict=[True] * 2 + [False] * 2
    )
    rows = table(summary, [run_of("reverse"), run_of("reverse", "ft")], LAYOUTS["table1"], "paper")
    assert rows[["editor", "subset"]].to_numpy().tolist() == [
        ["rome", "all"],
        ["rome", "strict"],
        ["ft", "all"],
        ["ft", "strict"],
    ]
    assert rows["reverse.conflict_score_exp.value"].tolist()[:2] == [0.75, 0.5]
    assert rows["reverse.conflict_score_exp.n"].tolist() == [4, 2, 0, 0]
    assert rows["composite.tied_fact_damage.n"].eq(0).all()


def test_every_control_has_a_difference(simulated):
    _, summary, _ = simulated
    for name, control, _ in CONTROLLED:
        assert {name, control, difference(name, control)} <= set(summary["metric"])
    rows = control_table(summary)
    row = rows[(rows["metric"] == "conflict_magnitude") & (rows["n"] > 0)].iloc[0]
    assert row["difference_value"] == pytest.approx(row["value"] - row["control_value"])


def test_all_tables_fit_their_schemas(simulated, recall):
    runs, summary, _ = simulated
    made = all_tables(summary, runs, recall)
    assert set(made) == {
        "single",
        "table1",
        "table1_released",
        "table2",
        "table2_released",
        "controls",
        "recall",
    }
    for schema, frame in made.values():
        schema.check(frame)


def test_recall_is_by_relation_and_group_of_templates():
    rows = [("E1", "R1", "E2", p, "seen", p != 0, -0.1) for p in range(4)]
    rows += [("E3", "R2", "E4", 0, "held_out_fact", True, -0.1)]
    got = recall_table(pd.DataFrame(rows, columns=list(RECALL.columns)), {"R1": "spouse"}, MODEL)
    RECALL_SUMMARY.check(got)
    by_key = got.set_index(["relation", "group"])
    assert by_key.loc[("spouse", "seen"), ["value", "n", "clusters"]].tolist() == [0.75, 4, 1]
    assert by_key.loc[("R2", "held_out_fact"), "value"] == 1
    assert by_key.loc[("all relations", "seen"), "value"] == 0.75


def test_no_run_and_no_case_leave_empty_tables():
    nothing = all_tables(SUMMARY.empty(), [], RECALL_SUMMARY.empty())
    assert all(len(frame) == 0 for _, frame in nothing.values())
    asked = all_tables(SUMMARY.empty(), [run_of("coverage")], RECALL_SUMMARY.empty())
    assert len(asked["table1"][1]) == 2
    for schema, frame in [*nothing.values(), *asked.values()]:
        schema.check(frame)


def test_cells_show_value_interval_and_place():
    shown = cell("conflict_magnitude", -0.5, -1.5, 0.25, 10, 5)
    assert (shown.text, shown.interval, shown.counts) == ("−50.0", "−150.0 to 25.0", "n = 10, 5 clusters")
    assert (shown.left, shown.dot, shown.left + shown.width, shown.zero) == (0.0, 25.0, 62.5, 50.0)
    assert cell("distortion", 0.01, 0.005, 0.02, 10, 5, ends=(0.0, 0.04)).text == "1.00"
    assert cell("success", float("nan"), float("nan"), float("nan"), 0, 0).text == "–"


def test_the_best_value_of_a_column_is_marked_in_the_better_direction():
    summary = pd.concat(
        [
            summary_of({"ignore_rate": [0.5, 0.5], "success": [1.0, 1.0]}, "round_easy", "rome"),
            summary_of({"ignore_rate": [0.0, 0.5], "success": [1.0, 1.0]}, "round_easy", "ft"),
        ]
    )
    runs = [run_of("round_easy"), run_of("round_easy", "ft")]
    panel = next(t for t in tables(summary, runs) if t["name"] == "table2")["panels"][0]
    best = {row["editor"]: [c.best for c in row["cells"][:3]] for row in panel["rows"]}
    assert best == {
        "rome": [False, False, False],
        "ft": [False, False, True],
    }  # equal successes: none is best


# --- findings ---------------------------------------------------------------------------------------------
def test_bars_are_met_or_missed_by_the_value_itself(recall):
    summary = summary_of({"single_exact": [1.0] * 8 + [0.0] * 2}, "coverage")
    bars = [
        {"metric": "single_exact", "dataset": "coverage", "editors": ["rome", "ft"], "at_least": 0.8},
        {"metric": "held_out_fact", "dataset": "recall", "at_least": 0.95},
    ]
    results = verdicts(summary, recall, bars, [MODEL])
    assert [(bar.who, bar.met, bar.n) for bar in results] == [
        ("rome", True, 10),
        ("ft", False, 0),
        ("demo", False, 40),
    ]
    lines = missed(summary, results, [run_of("coverage")])
    assert len(lines) == 2
    assert "ft: single edit, exact (coverage) has no value" in lines[0]
    assert lines[1].startswith("demo: recall on templates held out")


def test_a_bar_on_something_unknown_is_missed_not_a_crash(recall):
    summary = summary_of({"single_exact": [1.0]}, "coverage")
    bars = [
        {"metric": "charm", "dataset": name, "editors": ["rome"], "at_least": 0.5}
        for name in ("coverage", "recall")
    ]
    lines = missed(summary, verdicts(summary, recall, bars, [MODEL]), [run_of("coverage")])
    assert len(lines) == 2
    assert all("charm, which is no metric here" in line for line in lines)


def test_little_known_makes_a_table_a_format_check():
    summary = summary_of({"known": [1.0] + [0.0] * 9}, "composite")
    (line,) = missed(summary, [], [run_of("composite")])
    assert line.startswith("Format check only: demo knows 10.0\N{NO-BREAK SPACE}%")
    assert missed(summary_of({"known": [1.0, 0.0]}, "composite"), [], [run_of("composite")]) == []


def test_failed_edits_and_missing_cases_are_said(simulated):
    runs, summary, _ = simulated
    lines = missed(summary, [], [*runs, run_of("composite", "mend")])
    assert any(line.startswith("ft broke off in 100.0") and "no value there" in line for line in lines)
    assert "No cases: composite has no test case for mend." in lines


def test_findings_name_the_extremes_and_what_is_beyond_control():
    parts = []
    for editor, drop, control in (("rome", 0.5, 0.1), ("ft", 0.9, 0.9)):
        jitter = np.linspace(-0.05, 0.05, 20)
        values = {
            "conflict_score_imp": [0.0] * 20,
            "conflict_magnitude": list(drop + jitter),
            "conflict_magnitude_control": list(control - jitter),
            "conflict_magnitude_control_difference": list(drop - control + 2 * jitter),
        }
        parts.append(summary_of(values, "reverse", editor))
    (finding,) = found(pd.concat(parts), MODEL)
    assert finding.sentences == (
        "Asked in the first edit's direction, the model sides with the second edit in 0\N{NO-BREAK SPACE}% "
        "of cases, whatever the method.",
        "The contradicted fact's loss exceeds that under the second edit of another case for rome; it "
        "cannot be told from it for ft.",
    )
    assert dict(finding.rows)["contradicted fact's probability lost"] == {
        "rome": "50\N{NO-BREAK SPACE}%",
        "ft": "90\N{NO-BREAK SPACE}%",
    }


# --- figures ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def drawn(simulated, tmp_path_factory):
    runs, summary, readings = simulated
    folder = tmp_path_factory.mktemp("figures")
    nothing = [None] * len(runs)
    figures.draw_all(folder, figures.Drawn(summary, runs, _of_rounds(runs, readings), nothing, nothing))
    return folder


def _of_rounds(runs, tables):
    return [t if run["dataset"].startswith("round") else None for run, t in zip(runs, tables, strict=True)]


# --- the page ---------------------------------------------------------------------------------------------
class Page(HTMLParser):
    """What a browser would make of the page: tags, attributes and text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_data(self, data):
        self.text.append(data)


def material(simulated, recall, drawn, **changed):
    runs, summary, _ = simulated
    keys = [(MODEL, d, k) for d in DATASETS for k in ("metrics", "objects")]
    paths = {key: drawn / f"{figures.figure_name(*key)}.svg" for key in keys}
    settings = [{"v_lr": 0.5, "steps": 25}, {"v_lr": 1.0, "steps": 25}]
    trials = pd.DataFrame(
        [(i, json.dumps(s), 0.5, 0.5, 0.9, 0.2 + i, i == 1) for i, s in enumerate(settings)],
        columns=list(TRIALS.columns),
    )
    given = {
        "title": HOSTILE[0],
        "summary": summary,
        "recall": recall,
        "runs": runs,
        "bars": [{"metric": "single_exact", "dataset": "coverage", "editors": ["rome"], "at_least": 0.2}],
        "figures": {key: path.read_bytes() for key, path in paths.items() if path.exists()},
        "trials": {(MODEL, "rome"): trials},
        "timings": [{"rule": "edit", "wildcards": {"kg": "world"}, "seconds": 2.0, "peak_bytes": 2**20}],
        "config": {"kg": HOSTILE[0], "note": "\u202e"},
        "provenance": {"code": HOSTILE[1]},
    }
    return Material(**given | changed)


def test_the_page_stands_alone_and_escapes(simulated, recall, drawn):
    html = page(material(simulated, recall, drawn))
    parsed = Page(html)
    assert parsed.tags.count("script") == 1
    assert "<script>alert" not in html
    assert "<b>spouse</b>" not in html
    assert "<script>alert(1)</script>" in "".join(parsed.text)  # as text, escaped
    external = [
        v
        for _, name, v in parsed.attributes
        if name in ("src", "href") and re.match(r"(https?:)?//", v or "")
    ]
    assert external == []
    loaded = [v for tag, name, v in parsed.attributes if name == "src" or (tag == "link" and name == "href")]
    assert loaded
    assert all(v.startswith("data:image/svg+xml;base64,") for v in loaded)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    assert len(html) < 5_000_000


def test_the_page_says_what_was_found_and_missed(simulated, recall, drawn):
    text = "".join(Page(page(material(simulated, recall, drawn))).text)
    assert text.index("What was missed") < text.index("Does a single edit take")
    assert "ft broke off in 100.0" in text
    for words in (
        "Table 1: knowledge conflict",
        "Table 2: knowledge distortion",
        "all relations",
        "chosen",
        "n = 24",
    ):
        assert words in text


def test_a_trained_hypernetwork_is_shown_with_its_curve(simulated, recall, drawn):
    rows = [
        (50, 9.5, 1.0, 0.3, 0.9, 0.4, 0.49, 0.5, 0.7, 0),
        (100, 19.0, 0.5, 0.1, 0.6, 0.2, 0.26, 0.75, 0.8, 0),
    ]
    rows.append((150, 30.0, 0.4, 0.1, 0.7, 0.2, 0.27, 0.8, 0.9, 1))
    curve = pd.DataFrame(rows, columns=list(MEND_CURVE.columns))
    svg = io.BytesIO()
    training_curve(curve, HOSTILE[0], "all").savefig(svg, format="svg")
    page_of = page(material(simulated, recall, drawn, curves={(HOSTILE[0], "all"): (curve, svg.getvalue())}))
    text = " ".join(" ".join(Page(page_of).text).split())
    assert "all facts 150 30 1 100 0.600 0.200 75.0 % 80.0 %" in text
    assert HOSTILE[0] in text
    assert "<script>alert" not in page_of
    assert "Training of MEND" not in page(material(simulated, recall, drawn))


def test_every_definition_that_a_header_points_to_is_there(simulated, recall, drawn):
    parsed = Page(page(material(simulated, recall, drawn)))
    ids = {v for _, name, v in parsed.attributes if name == "id"}
    targets = {
        v[1:] for tag, name, v in parsed.attributes if tag == "a" and name == "href" and v.startswith("#")
    }
    assert targets <= ids


def test_a_page_about_nothing_says_so():
    empty = Material("Nothing", SUMMARY.empty(), RECALL_SUMMARY.empty(), [run_of("coverage")])
    text = "".join(Page(page(empty)).text)
    assert "No cases: coverage has no test case for rome." in text
    assert "no case has a value" in text
    page(Material("No run", SUMMARY.empty(), RECALL_SUMMARY.empty(), []))


def test_a_single_case_makes_a_page(recall):
    sim = simulate("composite", 1)
    given = sim.cases, sim.probes, sim.unedited, {"00000-00000": sim.observations["ft"]}, sim.telemetry["ft"]
    _, scores = score_run(*given, "composite", ["00000-00000"])
    summary = summarise(scores, sim.cases, run_of("composite", "ft"))
    assert "n = 1, 1 clusters" in page(Material("One", summary, recall, [run_of("composite", "ft")]))


def test_controls_mark_what_is_beyond_them(simulated):
    _, summary, _ = simulated
    blocks = {block["dataset"]: block for block in controls(summary)}
    rows = {(row["title"], row["against"]): row["cells"] for row in blocks["coverage"]["rows"]}
    marks = {c.mark for c in rows["conflict magnitude", "the second edit of another case"]}
    assert marks == {"beyond"}
    assert ("conflict score, implicit", "the unedited model") not in rows  # it is the explicit one
    ft = blocks["reverse"]["editors"].index("ft")
    assert {row["cells"][ft].text for row in blocks["reverse"]["rows"]} == {"–"}


def test_stages_add_up_and_other_studies_stay_out():
    timings = [
        {"rule": "edit", "wildcards": {"kg": "world", "model": MODEL}, "seconds": 2.0, "peak_bytes": 5},
        {"rule": "edit", "wildcards": {"kg": "world", "model": MODEL}, "seconds": 3.0, "peak_bytes": 4},
        {"rule": "edit", "wildcards": {"kg": "wikidata", "model": MODEL}, "seconds": 9.0, "peak_bytes": 4},
        {"rule": "edit", "wildcards": {"kg": "world", "model": "other"}, "seconds": 9.0, "peak_bytes": 4},
        {"rule": "tables", "wildcards": {}, "seconds": 1.0, "peak_bytes": 9},
    ]
    edit, tables_ = stages(of_run(timings, "world", [MODEL]))
    assert (edit["rule"], edit["jobs"], edit["total"], edit["slowest"], edit["memory"]) == (
        "edit",
        2,
        5.0,
        3.0,
        5,
    )
    assert tables_["total"] == 1.0
    assert stages([]) == []


@pytest.mark.program("chromium")
def test_a_browser_shows_the_page_and_its_switches_work(simulated, recall, drawn, tmp_path):
    browser = shutil.which("chromium")
    probe = """<script>
      var errors = []; window.onerror = function (m) { errors.push(m); };
      window.addEventListener("load", function () {
        function shown() { return Array.from(document.querySelectorAll(".panel")).filter(p => !p.hidden); }
        var before = shown().length;
        var input = document.querySelector("input[value=released]");
        input.checked = true; input.dispatchEvent(new Event("change", {bubbles: true}));
        var after = shown();
        var wide = document.documentElement.scrollWidth > window.innerWidth;
        var images = Array.from(document.images).every(i => i.complete && i.naturalWidth > 0);
        document.title = JSON.stringify({before: before, after: after.map(p => p.dataset.definition || ""),
          errors: errors, wide: wide, images: images});
      });
    </script>"""
    file = tmp_path / "index.html"
    file.write_text(page(material(simulated, recall, drawn)).replace("<style>", probe + "<style>", 1))
    switches = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    quiet = "--disable-background-networking --disable-component-update --virtual-time-budget=5000"
    command = [browser, *switches.split(), *quiet.split(), f"--user-data-dir={tmp_path}/profile"]
    result = subprocess.run(
        [*command, "--window-size=500,900", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", result.stdout, re.S).group(1)
    state = json.loads(title.replace("&quot;", '"'))
    assert state == {
        "before": 3,
        "after": ["", "released", "released"],
        "errors": [],
        "wide": False,
        "images": True,
    }
