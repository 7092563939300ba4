"""Tables and findings: what they show, and that nothing in the data can break them."""

import numpy as np
import pandas as pd
import pytest

import pages
import simulate
from aftershock.metrics.layouts import (
    CONTROLLED,
    LAYOUTS,
    all_tables,
    control_table,
    difference,
    recall_table,
    table,
)
from aftershock.page.findings import certainty, found
from aftershock.report import Material, context, page
from aftershock.tables.models import RECALL
from aftershock.tables.report import RECALL_SUMMARY, SUMMARY
from aftershock.verdicts import missed, verdicts
from pages import MODEL
from simulate import run_of

RUNS = [of.run for setting in pages.settings() for of in setting.runs]


def summary_of(values, dataset, editor="rome", strict=None):
    return simulate.summary_of(values, run_of(dataset, editor), strict)


# --- tables -----------------------------------------------------------------------------------------------
def test_table_1_has_the_papers_columns_in_both_definitions():
    headers = [f"{c.group}: {c.header}" for c in LAYOUTS["table1"].columns["paper"]]
    assert headers == [
        *("Single: Succ", "Coverage: CS", "Coverage: CM"),
        *("Reverse: CS exp", "Reverse: CS imp", "Reverse: CM"),
        *("Composite: CS exp", "Composite: CS imp", "Composite: CM", "Composite: TFD"),
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
    assert list(rows["editor"] + " " + rows["subset"]) == ["rome all", "rome strict", "ft all", "ft strict"]
    assert rows["reverse.conflict_score_exp.value"].tolist()[:2] == [0.75, 0.5]
    assert rows["reverse.conflict_score_exp.n"].tolist() == [4, 2, 0, 0]
    assert rows["composite.tied_fact_damage.n"].eq(0).all()


def test_every_control_has_a_difference():
    summary = pages.summary()
    for name, control, _ in CONTROLLED:
        assert {name, control, difference(name, control)} <= set(summary["metric"])
    rows = control_table(summary)
    row = rows[(rows["metric"] == "conflict_magnitude") & (rows["n"] > 0)].iloc[0]
    assert row["difference_value"] == pytest.approx(row["value"] - row["control_value"])


def test_all_tables_fit_their_schemas():
    made = all_tables(pages.summary(), RUNS, pages.recall())
    assert list(made) == [
        *("single", "table1", "table1_released", "table2", "table2_released", "controls", "recall")
    ]
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


# --- findings ---------------------------------------------------------------------------------------------
def test_bars_are_met_or_missed_by_the_value_itself():
    summary = summary_of({"single_exact": [1.0] * 8 + [0.0] * 2}, "coverage")
    bars = [
        {"metric": "single_exact", "dataset": "coverage", "editors": ["rome", "ft"], "at_least": 0.8},
        {"metric": "held_out_fact", "dataset": "recall", "at_least": 0.95},
    ]
    results = verdicts(summary, pages.recall(), bars, [MODEL])
    found = [(bar.who, bar.met, bar.n) for bar in results]
    assert found == [("rome", True, 10), ("ft", False, 0), ("demo", False, 40)]
    lines = missed(summary, results, [run_of("coverage")])
    assert len(lines) == 2
    assert "ft: single edit, exact (coverage) has no value" in lines[0]
    assert lines[1].startswith("demo: recall on templates held out")


def test_a_bar_on_something_unknown_is_missed_not_a_crash():
    summary = summary_of({"single_exact": [1.0]}, "coverage")
    bars = [
        {"metric": "charm", "dataset": name, "editors": ["rome"], "at_least": 0.5}
        for name in ("coverage", "recall")
    ]
    lines = missed(summary, verdicts(summary, pages.recall(), bars, [MODEL]), [run_of("coverage")])
    assert len(lines) == 2
    assert all("charm, which is no metric here" in line for line in lines)


def test_little_known_makes_a_table_a_format_check():
    summary = summary_of({"known": [1.0] + [0.0] * 9}, "composite")
    (line,) = missed(summary, [], [run_of("composite")])
    assert line.startswith("Format check only: demo knows 10.0\N{NO-BREAK SPACE}%")
    assert missed(summary_of({"known": [1.0, 0.0]}, "composite"), [], [run_of("composite")]) == []


def test_failed_edits_and_missing_cases_are_said():
    lines = missed(pages.summary(), [], [*RUNS, run_of("composite", "mend")])
    assert any(line.startswith("ft broke off in 100.0") and "no value there" in line for line in lines)
    assert "No cases: composite has no test case for mend." in lines


def test_failed_edits_of_any_seed_are_said():
    seeds = [
        summary_of({"edit_failed": [0.0, share]}, "coverage", "ft").assign(seed=seed)
        for seed, share in enumerate((0.0, 1.0))
    ]
    (line,) = missed(pd.concat(seeds), [], [run_of("coverage", "ft")])
    assert line.startswith("ft broke off in 50.0\N{NO-BREAK SPACE}% of the 2 coverage cases of seed 1;")


PERCENT = "\N{NO-BREAK SPACE}%"


def two_editors():
    """SUMMARY of rome, beyond its control, and ft, not told from it."""
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
    return pd.concat(parts)


def test_findings_give_intervals_counts_and_what_is_beyond_control():
    (finding,) = found(two_editors(), MODEL)
    assert finding.sentences == (
        f"Asked in the first edit's direction, the model sides with the second edit in 0{PERCENT} "
        f"of cases, whatever the method (95 % interval 0 to 16{PERCENT}).",
        "The contradicted fact's loss exceeds that under the second edit of another case for rome; it "
        "may equal it for ft.",
    )
    place = [words for words, _ in finding.columns].index("contradicted fact's probability lost")
    lost = {editor: values[place] for editor, values in finding.rows}
    assert (lost["rome"].text, lost["ft"].text) == (f"50{PERCENT}", f"90{PERCENT}")
    assert lost["rome"].interval == f"49 to 51{PERCENT}"
    assert finding.counts == "20 cases in 20 clusters, worth 20 independent"
    assert {len(values) for _, values in finding.rows} == {len(finding.columns)}


def exact_answers():
    """SUMMARY of two editors whose second edits are exact in 12 and 17 of 20 cases."""
    parts = [
        summary_of({"e2_exact": [1.0] * k + [0.0] * (20 - k)}, "coverage", editor)
        for editor, k in (("rome", 12), ("ft", 17))
    ]
    return pd.concat(parts)


def test_extremes_with_overlapping_intervals_are_not_said_to_differ():
    (finding,) = found(exact_answers(), MODEL)
    assert finding.sentences == (
        f"The second object is the greedy answer in 60{PERCENT} (rome; 39 to 78{PERCENT}) to 85{PERCENT} "
        f"(ft; 64 to 95{PERCENT}) of cases. These intervals overlap.",
    )


@pytest.mark.parametrize(
    ("p", "significant", "words"),
    [
        (0.0004, True, "does not explain the difference between the two (corrected p below 0.001)."),
        (0.31, False, "could explain the difference between the two (corrected p 0.310)."),
        (None, False, "These intervals overlap."),
    ],
)
def test_a_test_decides_whether_methods_differ_where_there_is_one(p, significant, words):
    about = {"model": MODEL, "subset": "all", "dataset": "coverage", "metric": "e2_exact"}
    pair = {"editor": "ft", "other": "rome", "p_adjusted": p, "significant": significant, "seeds": 1}
    other = {**about, "metric": "e1_exact", **pair, "p_adjusted": 0.9}
    (finding,) = found(exact_answers(), MODEL, pd.DataFrame([{**about, **pair}, other]))
    assert finding.sentences[0].endswith(words)


def test_a_test_over_several_seeds_names_their_means():
    pair = {"model": MODEL, "subset": "all", "dataset": "coverage", "metric": "e2_exact", "seeds": 3}
    pair |= {"editor": "ft", "other": "rome", "p_adjusted": 0.002, "significant": True}
    (finding,) = found(exact_answers(), MODEL, pd.DataFrame([{**pair, "value": 0.4, "other_value": 0.7}]))
    assert finding.sentences[0].endswith(
        "Chance alone does not explain the difference between their means over 3 seeds, "
        f"40{PERCENT} (ft) and 70{PERCENT} (rome) (corrected p 0.002)."
    )


def test_methods_come_best_first_and_one_without_any_value_last():
    (finding,) = found(exact_answers(), MODEL)
    assert [editor for editor, _ in finding.rows] == ["ft", "rome"]
    lost = exact_answers()
    lost.loc[lost["editor"] == "ft", ["value", "low", "high", "n"]] = [None, None, None, 0]
    (finding,) = found(lost, MODEL)
    assert [editor for editor, _ in finding.rows] == ["rome", "ft"]
    assert dict(finding.rows)["ft"] == (None,) * len(finding.columns)


def test_texts_name_the_level_of_the_run():
    runs, config = [run_of("reverse"), run_of("reverse", "ft")], {"statistics": {"level": 0.9}}
    assert "Intervals are 90 %, each on its own" in certainty(exact_answers(), runs, config)[-1]
    shown = context(Material("t", two_editors(), RECALL_SUMMARY.empty(), runs, config=config))
    assert "(90 % interval 0 to" in shown["findings"][MODEL][0].sentences[0]
    text = page(Material("t", two_editors(), RECALL_SUMMARY.empty(), runs, config=config))
    assert "Small: 90 % intervals." in text
    assert "95 %" not in text


def test_what_limits_the_findings_is_said():
    generated = {"kg": "world", "kgs": {"world": {"source": "generated"}}}
    lines = certainty(exact_answers(), [run_of("coverage"), run_of("coverage", "ft")], generated)
    assert [line.split(":")[0].split(".")[0] for line in lines] == [
        "The graph is generated and the model was made for it",
        "One model was edited",
        "One seed was run",
        "Intervals are 95 %, each on its own",
    ]
    assert "2 of the 2 values above rest on fewer than 30 independent cases (the least is 20)" in lines[-1]
    runs = [run_of("coverage", seed=s, model=m) for s in (0, 1) for m in ("a", "b")]
    assert len(certainty(exact_answers(), runs, {})) == 1
    assert certainty(SUMMARY.empty(), runs, {}) == []
