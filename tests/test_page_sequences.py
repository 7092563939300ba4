"""The page's section about sequences of edits."""

import pytest

import pages
import sequence_pages
from aftershock.page.explorer import explore
from aftershock.page.sequences import BUDGET, SequenceResults, heat_maps, items, told_of_sequences
from aftershock.report import page
from pages import Page
from simulate import HOSTILE
from simulated_sequences import CHECKPOINTS, METHODS, TASKS


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


def test_the_section_says_what_was_lost_and_what_cannot_be(shown):
    assert "of 4 tasks the unedited model does 3 better than by accident" in shown.text
    assert "rome after 20 edits" in shown.text
    assert "rome: the sequence ended after 60 edits: weights are not finite." in shown.text
    assert "60 items of each task, drawn at random" in shown.text


def test_what_keeps_abilities_is_told_with_how_many_of_its_edits_hold():
    results = sequence_pages.sequence_results()
    curves = results.tables["curves"]
    kept = curves.query("editor == 'alphaedit' and order == 'all' and measure == 'latest' and age == 'all'")
    share = kept.sort_values("checkpoint")["value"].iloc[-1]
    told = " ".join(told_of_sequences(results))
    assert f"alphaedit ({100 * share:.0f} % of its latest edits hold)" in told


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


def test_without_results_nothing_is_told():
    assert told_of_sequences(SequenceResults()) == []
