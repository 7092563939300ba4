"""Published variants beside the methods of their names, and the page's section about sequences."""

import re
from dataclasses import replace

import pandas as pd
import pytest

import pages
import sequence_pages
from aftershock.editors.methods import settings_of
from aftershock.page.explorer import Setting, explore
from aftershock.page.names import variants_with_names
from aftershock.page.sequences import BUDGET, SequenceResults, heat_maps, items, told_of_sequences
from aftershock.page.variants import Compared, compare_runs, comparing, variants
from aftershock.report import page
from configured import study
from pages import MODEL, Page
from simulate import HOSTILE
from simulated_sequences import CHECKPOINTS, METHODS, TASKS
from small_project import errors, write_project

ENTRY = {"title": "ROME elsewhere", "differs": "It is MEMIT.", "editor": "memit", "of": "rome"}
ENTRY |= {"dataset": "coverage", "metric": "single_exact"}
SEQUENCE = {"title": "Asked early", "differs": "Before later edits.", "editor": "alphaedit"}
SEQUENCE |= {"plan": "hundred", "measure": "just_edited", "of_measure": "latest"}


def coverage() -> Setting:
    return pages.settings()[0]


def test_two_methods_are_compared_in_every_case_and_probe():
    runs = {of.run["editor"]: of for of in coverage().runs}
    found = compare_runs(coverage(), "memit", "rome", "single_exact")
    key = ["case_id", "role", "position", "state"]
    ours, theirs = (runs[name].probabilities.set_index(key)["probability"] for name in ("memit", "rome"))
    gaps = {place: abs(ours[place] - theirs[place]) for place in ours.index if place in theirs.index}
    assert found.largest == pytest.approx(max(gaps.values()))
    exact = [runs[name].scores.query("metric == 'single_exact'").set_index("case_id")["value"]
             for name in ("memit", "rome")]  # fmt: skip
    apart = dict((exact[0] - exact[1]).abs())
    assert (found.cases, found.differing) == (pages.CASES, sum(value > 0 for value in apart.values()))
    totals = {case: sum(gap for place, gap in gaps.items() if place[0] == case) for case in apart}
    assert found.case == max(apart, key=lambda case: (apart[case], totals[case]))


def test_a_method_beside_itself_is_the_same_in_all_cases():
    run = coverage().runs[1]
    twin = replace(run, run={**run.run, "editor": "twin"})
    setting, found = replace(coverage(), runs=[run, twin]), {}
    entry = {**ENTRY, "editor": "twin"}
    assert list(comparing([setting], [entry], found)) == [setting]
    assert found[MODEL, 0] == Compared(MODEL, 0, found[MODEL, 0].case, pages.CASES, 0, 0.0)
    twins = pages.summary().query("editor == 'rome'").assign(editor="twin")
    (made,) = variants([entry], pd.concat([pages.summary(), twins]), found, None, [MODEL])
    assert made.note == f"The two are the same in all {pages.CASES} cases: no probability differs."
    assert made.sides[0].value == made.sides[1].value


@pytest.mark.parametrize(
    ("largest", "words"),
    [(1.0, "at most 100"), (0.0312, "at most 3"), (0.0034, "at most 0.34"), (1e-6, "less than 0.01")],
)
def test_a_difference_of_probabilities_is_said_in_points(largest, words):
    found = {(MODEL, 0): Compared(MODEL, 0, 1, pages.CASES, 2, largest)}
    (made,) = variants([ENTRY], pages.summary(), found, None, [MODEL])
    same = f"The two differ in this value in 2 of {pages.CASES} cases; "
    assert made.note == f"{same}a probability differs by {words} points."


def test_a_variant_has_both_numbers_and_the_address_of_a_case():
    found = {}
    list(comparing(pages.settings(), [ENTRY], found))
    (made,) = variants([ENTRY], pages.summary(), found, None, [MODEL])
    rows = pages.summary().query("dataset == 'coverage' and metric == 'single_exact' and subset == 'all'")
    rows = rows.set_index("editor")["value"]
    assert made.sides[0].value.startswith(f"{100 * rows['memit']:.1f}")
    assert made.sides[1].value.startswith(f"{100 * rows['rome']:.1f}")
    assert made.address == f"#case=demo/coverage/memit/0/{found[MODEL, 0].case}"


def test_a_variant_may_be_another_measure_of_a_sequence():
    curves = sequence_pages.page_tables()["curves"].assign(order="all")
    (made,) = variants([SEQUENCE], pages.summary(), {}, curves, [MODEL])
    mine = curves.query("editor == 'alphaedit' and measure == 'latest' and age == 'all' and checkpoint > 99")
    assert made.sides[1].value == f"{100 * mine['value'].iloc[0]:.1f}\N{NO-BREAK SPACE}%"
    assert made.address == "#abilities"
    (none,) = variants([SEQUENCE], pages.summary(), {}, None, [MODEL])
    assert none.sides is None


def test_the_section_is_on_the_page_and_escapes():
    found = {}
    entry = {**ENTRY, "differs": HOSTILE[0]}
    list(comparing(pages.settings(), [entry], found))
    html = page(pages.material(variants=[entry], compared=found))
    text = Page(html).text
    assert f"ROME elsewhere {HOSTILE[0]}" in text
    assert "as published: memit" in text
    assert "as its name says: rome" in text
    assert "<script>alert" not in html
    assert 'id="variants"' not in page(pages.material())
    nothing = Page(page(pages.material(variants=[{**ENTRY, "editor": "absent"}]))).text
    assert "This run has no value of both." in nothing


def test_names_of_editors_take_the_place_of_labels():
    assert variants_with_names([ENTRY], {"rome": "ROME"})[0]["of"] == "ROME"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"editor": "romee"}, "report.variants.0.editor: 'romee' is unknown; did you mean 'rome'?"),
        ({"metric": "charm"}, "report.variants.0.metric: 'charm' is unknown"),
        ({"plan": "p"}, "report.variants.0.measure: missing"),
        ({"measure": "latest"}, "report.variants.0.measure: not beside dataset, metric, of; leave it out"),
        ({"dataset": "reverse"}, "report.variants.0.dataset: 'reverse' is unknown"),
    ],
)
def test_faulty_variants_are_named(tmp_path, changes, words):
    entry = {**ENTRY, **changes}
    found = errors(write_project(tmp_path), report={"variants": [entry]})
    assert any(line.startswith(words) for line in found), found


def test_memit_is_run_beside_emmet_with_its_settings():
    config, models = study("variants")
    ((_, model),) = models.items()
    made = {
        label: settings_of(method, {**model["editors"][method], **config["editors"][label]["settings"]})
        for label, method in (("emmet_easyedit", "emmet"), ("memit_one", "memit"))
    }
    emmet, memit = (vars(settings) for settings in made.values())
    shared = emmet.keys() & memit.keys() - {"mom2_weight", "damp_single"}
    assert "context_lengths" in shared
    assert {name: memit[name] for name in shared} == {name: emmet[name] for name in shared}


@pytest.fixture(scope="module")
def shown() -> Page:
    given = pages.material()
    tables = {**given.tables, **sequence_pages.page_tables()}
    return Page(page(pages.material(sequences=sequence_pages.sequence_results(number=60), tables=tables)))


def test_a_run_without_sequences_has_no_such_section():
    html = page(pages.material())
    assert 'id="abilities"' not in html
    nothing = {"maps": [], "items": {"plans": [], "words": [], "items": 0}}
    assert Page(html).data("data")["sequences"] == nothing
    assert told_of_sequences(SequenceResults()) == []


def test_the_section_says_what_was_lost_and_what_cannot_be(shown):
    assert "of 4 tasks the unedited model does 3 better than by accident" in shown.text
    assert "rome after 20 edits" in shown.text
    assert "rome: the sequence ended after 60 edits: weights are not finite." in shown.text
    assert "60 items of each task, drawn at random" in shown.text


def test_what_can_be_lost_is_told_once_of_plans_alike():
    results = sequence_pages.sequence_results()
    both = {name: [table, table.assign(plan="other")] for name, table in results.tables.items()}
    tables = {name: pd.concat(pair, ignore_index=True) for name, pair in both.items()}
    told = told_of_sequences(replace(results, tables=tables))
    (plan,) = results.tables["abilities"]["plan"].unique()
    assert [line for line in told if "better than by accident" in line] == [
        told_of_sequences(results)[0].replace(f", {plan}:", f", {plan} and other:")
    ]
    assert sum(line.startswith("other: ") for line in told) == len(told_of_sequences(results)) - 1


def test_what_remains_is_told_with_how_many_of_the_edits_hold():
    results = sequence_pages.sequence_results()
    curves = results.tables["curves"]
    latest = curves.query("order == 'all' and measure == 'latest' and age == 'all'").sort_values("checkpoint")
    share = latest.query("editor == 'alphaedit'")["value"].iloc[-1]
    lost = results.tables["collapses"].query("order == 'all'")
    (kept,) = lost.query("editor == 'alphaedit' and task == 'all tasks'").itertuples()
    told = told_of_sequences(results)
    (remains,) = [line for line in told if "Not lost up to" in line]
    assert f"alphaedit {100 * kept.retained:.0f}" in remains
    (holding,) = [line for line in told if "latest edits hold" in line]
    assert f"alphaedit {100 * share:.0f}" in holding
    doubtful = results.tables["collapses"].copy()
    mine = (doubtful["editor"] == "alphaedit") & (doubtful["order"] == "all")
    doubtful.loc[mine & (doubtful["task"] == "all tasks"), "note"] = "beyond the threshold"
    single = doubtful.index[mine & (doubtful["task"] != "all tasks")][0]
    doubtful.loc[single, ["kind", "checkpoint"]] = ["gradual", 20]
    told = told_of_sequences(replace(results, tables={**results.tables, "collapses": doubtful}))
    assert any("lost, but for the interval" in line for line in told)
    assert any(re.search("^alphaedit loses single tasks: .* after 20 edits", line) for line in told)


def test_hostile_items_stay_text(shown):
    words = shown.data("data")["sequences"]["items"]["words"]
    assert any(HOSTILE[0] in word for word in words)
    assert "alert(1)" not in shown.text.replace(HOSTILE[0], "")
    assert not [name for _, name, _ in shown.attributes if name.startswith("on")]


def test_the_map_has_every_method_task_and_checkpoint():
    (made,) = heat_maps(sequence_pages.sequence_results())
    number = len(METHODS) * len(TASKS) * len(CHECKPOINTS)
    assert made["checkpoints"] == list(CHECKPOINTS)
    assert {len(values) for values in made["values"].values()} == {number}
    assert len(made["significant"]) == number
    assert [task["weak"] for task in made["tasks"]] == [False, False, False, True]
    place = len(CHECKPOINTS) * len(TASKS) * made["editors"].index("rome") + CHECKPOINTS.index(100)
    assert made["values"]["value"][place] is None  # it had ended


def test_items_fit_their_budget_and_are_the_same_for_every_method():
    made = items(sequence_pages.sequence_results(number=8))
    assert sum(map(len, made["words"])) <= BUDGET
    (plan,) = made["plans"]
    assert plan["checkpoints"][0] == 0
    assert plan["checkpoints"][-1] == 100
    for task in plan["tasks"]:
        assert len(task["items"]) == made["items"]
        assert all(len(item["said"]) == len(METHODS) for item in task["items"])
    last = plan["tasks"][0]["items"][0]["said"][plan["editors"].index("rome")][-1]
    assert last is None


def only_sequences(**changes) -> Page:
    """The page of a run without datasets."""
    frame = pages.material().summary[:0]
    given = {"summary": frame, "runs": [], "figures": {}, "explorer": explore([]), "bars": [], "trials": {}}
    given |= {"recall": pages.material().recall[:0], "curves": {}, "counts": {}, "moments": {}}
    given |= {"tables": sequence_pages.page_tables() | {"summary": frame}}
    return Page(page(pages.material(sequences=sequence_pages.sequence_results(), **given | changes)))


def test_a_run_of_sequences_alone_says_what_was_not_asked():
    shown = only_sequences()
    assert "It has no conflict or round cases" in shown.text
    assert f"facts in demo were edited with {', '.join(METHODS)}" in shown.text
    assert "no case" not in shown.text
    ids = {value for _, name, value in shown.attributes if name == "id"}
    assert {"summary", "abilities", "run"} <= ids
    assert not ids & {"tables", "cases", "figures", "definitions", "controls", "health", "certainty"}
    links = {value for tag, name, value in shown.attributes if (tag, name) == ("a", "href")}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert shown.text.count("rome: the sequence ended after 60 edits") == 1


def test_sequences_beside_cases_leave_all_sections(shown):
    assert "It has no conflict or round cases" not in shown.text
    ids = {value for _, name, value in shown.attributes if name == "id"}
    assert {"tables", "cases", "figures", "abilities", "definitions"} <= ids
