"""The case explorer's data, filters and orders: every pair and probe, and nothing a label could break."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import pages
from aftershock.page.embed import Words, embedded, numbers, visible
from aftershock.page.explorer import Outcome, Setting, explore
from aftershock.page.outcomes import ABSENT, OUTCOMES, flags, lacking, spans
from aftershock.page.roles import GROUPS, rule_words
from aftershock.page.sorting import SORTED, facet_codes, sortable
from aftershock.report import page
from browser import Browser
from simulate import EDITORS, HOSTILE, scores_of
from tabs import EXPLORER, case, choose, listed, opened, status


def test_json_in_a_page_cannot_end_its_script_and_says_the_same():
    texts = ["</script><script>", "\u2028\u2029", "<!--", "&amp;", "\ud800", "é漢\u202e", 'q"\\']
    value = {"a": texts, "b": None}
    text = embedded(value)
    assert text.isascii()
    assert not set("<>&\n") & set(text)
    assert json.loads(text) == value
    with pytest.raises(ValueError, match="JSON"):
        embedded(float("nan"))


def test_numbers_are_short_and_holes_are_none():
    found = numbers([1.0, 0.123456, float("nan"), float("inf"), -0.0, 1.66e-5, 2500], 3)
    assert found == [1, 0.123, None, None, 0, 1.66e-5, 2500]
    assert [type(x) for x in found[:2]] == [int, float]


def test_control_and_turning_characters_get_a_mark():
    assert visible("a\x07\u202eb\u2066c\ud800\n\td é漢") == "a��b�c�\n\td é漢"


def test_outcomes_are_digits_of_one_number():
    scores = scores_of({"success": [1.0, 0.5, None], "edit_failed": [0.0, 0.0, 1.0], "charm": [1.0] * 3})
    found = flags(scores, np.array([0, 1, 2, 7]))
    place = {name: place for place, (name, _) in enumerate(OUTCOMES)}

    def answers(value):
        return {name: value // 4 ** place[name] % 4 for name in ("success", "edit_failed", "e2_exact")}

    assert answers(found[0]) == {"success": 2, "edit_failed": 1, "e2_exact": 0}
    assert answers(found[1]) == {"success": 1, "edit_failed": 1, "e2_exact": 0}
    assert answers(found[2]) == {"success": 0, "edit_failed": 2, "e2_exact": 0}
    assert found[3] == ABSENT
    assert max(4 ** len(OUTCOMES), 0) < 2**31  # fits a script's array of 32-bit numbers


def test_cases_that_scores_call_missing_are_absent():
    scores = scores_of({"success": [1.0, None], "missing": [0.0, 1.0]})
    assert flags(scores, np.array([0, 1]))[1] == ABSENT


def test_missing_cases_are_said_in_spans():
    assert spans([5, 1, 2, 3, 9]) == "1–3, 5, 9"
    assert spans(list(range(0, 40, 2)), most=2) == "0, 2 and 18 more spans"
    run = pages.run_of("composite", "ft")
    said = lacking(run, [0, 1, 2, 3], [5, ABSENT, ABSENT, 0])
    assert said == "Incomplete: ft on demo has 2 of 4 composite cases; missing: 1–2."
    assert lacking(run, [0, 1], [5, 0]) is None


def test_rules_are_said_with_the_labels_of_their_relations():
    labels = {"P22": "father", "P26": "spouse"}
    assert rule_words("P22&P26>P25", labels) == "father and spouse → P25 (P22&P26>P25)"
    assert rule_words("1-N@P26", labels) == "spouse, several objects (1-N@P26)"
    assert rule_words("P22", labels) == "father (P22)"


def slow(run, case, state):
    """(subject, object, probability) of one case and state, row by row."""
    return sorted((*fact, float(f"{p:.3g}")) for c, s, *fact, p in run if (c, s) == (case, state))


@pytest.mark.parametrize("place", range(5))
def test_every_probe_of_every_run_is_there_in_every_state(place):
    setting = pages.settings()[place]
    found = explore([setting], chunk=30)
    part = found.index["settings"][0]
    columns = ["case_id", "state", "subject", "object", "probability"]
    once = setting.probes.drop_duplicates(["case_id", "probe_id"])  # a fact probed twice is shown once
    shown_rows = [of.probabilities.merge(once[["case_id", "role", "position"]]) for of in setting.runs]
    rows = [of[columns].itertuples(index=False, name=None) for of in shown_rows]
    rows = [[row for row in of if row[0] % 6 == 0] for of in rows]
    unique = once.groupby("case_id").size()
    scores = [of.scores.set_index(["case_id", "metric"])["value"] for of in setting.runs]
    assert found.pairs == pages.CASES * len(setting.runs)
    assert len(found.chunks) == -(-pages.CASES // part["size"])
    for chunk_place, text in enumerate(found.chunks):
        chunk = json.loads(text)
        for within, record in enumerate(chunk["cases"]):
            case = part["cases"][chunk_place * part["size"] + within]
            assert record["id"] == case
            facts = [(chunk["words"][p[3]], chunk["words"][p[4]]) for p in record["probes"]]
            groups = [p[0] for p in record["probes"]]
            assert groups == sorted(groups)
            if case % 6:
                continue
            for number, own in enumerate(record["runs"]):
                for state, values in {"0": record["before"], **own["p"]}.items():
                    shown = [(*fact, p) for fact, p in zip(facts, values, strict=True) if p is not None]
                    wanted = slow(rows[number], case, state) or slow(rows[-1], case, state)
                    assert len(shown) == unique[case]
                    assert set(shown) == set(wanted)
                for name, value in zip(chunk["metrics"][number], own["m"], strict=True):
                    expected = scores[number][case, name]
                    assert (value is None) == bool(pd.isna(expected))
                    if value is not None:
                        assert value == pytest.approx(expected, rel=1e-3)


def test_a_fact_probed_in_two_roles_is_shown_once_with_both():
    chunk = json.loads(explore([pages.settings()[0]]).chunks[0])
    record = chunk["cases"][0]
    roles = [chunk["words"][p[1]] for p in record["probes"]]
    both = [text for text in roles if text.startswith("explicit") and "implicit" in text]
    assert len(both) == 1
    assert {GROUPS[p[0]] for p in record["probes"]} == {"Old fact", "New fact", "Controls"}


def test_greedy_answers_and_continuations_stand_beside_their_probe():
    setting = pages.settings()[2]
    run = setting.runs[1]
    said = run.probabilities.assign(continuation=[f"says {i}" for i in range(len(run.probabilities))])
    found = explore([replace(setting, runs=[Outcome(run.run, said, run.scores)])])
    chunk = json.loads(found.chunks[0])
    record, own = chunk["cases"][3], chunk["cases"][3]["runs"][0]
    rows = said[(said["case_id"] == 3) & (said["role"] == "tied")].set_index("state")
    place = next(i for i, p in enumerate(record["probes"]) if GROUPS[p[0]] == "Tied fact")
    for state in ("0", "1", "2"):
        assert chunk["words"][own["c"][state][place]] == rows.loc[state, "continuation"]
        assert own["x"][state][place] == str(int(rows.loc[state, "exact"]))


def test_a_method_that_failed_everywhere_keeps_its_cases():
    setting = pages.settings()[1]
    found = explore([setting])
    ft = found.index["settings"][0]["runs"][0]
    assert ft["editor"] == "ft"
    assert {flag % 4 for flag in ft["flags"]} == {2}  # edit_failed: yes
    own = json.loads(found.chunks[0])["cases"][0]["runs"][0]
    assert set(own["p"]) == set()
    assert found.holes == []


def test_missing_cases_and_their_reasons_are_kept():
    setting = pages.settings()[2]
    run = setting.runs[0]
    gone = run.scores["case_id"] < 20
    rows = [(21, "1", False, HOSTILE[0]), (3, "2", True, "no loss")]
    holes = pd.DataFrame(rows, columns=["case_id", "state", "failed", "reason"]).assign(shard="00000-00031")
    part = Outcome(run.run, run.probabilities, run.scores[gone], holes)
    found = explore([replace(setting, runs=[part, setting.runs[1]])])
    why = f"00000-00031: {HOSTILE[0]}"
    assert found.holes == [f"Incomplete: ft on demo has 20 of 24 composite cases; missing: 20–23 ({why})."]
    chunk = json.loads(found.chunks[0])
    ((state, word),) = chunk["cases"][21]["runs"][0]["why"]
    assert (state, chunk["words"][word]) == ("1", HOSTILE[0])
    assert found.index["settings"][0]["runs"][0]["flags"][20:] == [ABSENT] * 4


def test_no_case_one_case_and_no_run_make_an_explorer():
    nothing = explore([])
    assert (nothing.pairs, nothing.chunks, nothing.inside) == (0, [], True)
    one = explore([pages.setting_of("round_easy", 1, ["rome"])])
    assert (one.pairs, len(one.chunks)) == (1, 1)
    none = explore([pages.setting_of("coverage", 1, [])])
    assert none.pairs == 0
    empty = pages.setting_of("coverage", 2, list(EDITORS)[:1])
    assert explore([replace(empty, cases=empty.cases.assign(split="dev"))]).pairs == 0


pytest_plugins = ("tab_fixtures",)
FACETS = pd.DataFrame(
    [
        *((case, "relation", f"R{case % 2 + 1}") for case in range(pages.CASES)),
        *((case, "popularity", ("low", "middle", "high")[case % 3]) for case in range(20)),
        *((case, "tied_known", "yes") for case in range(pages.CASES)),
        *((case, "e1_success", ("no", "yes")[case % 2]) for case in range(pages.CASES)),
    ],
    columns=["case_id", "facet", "level"],
)


def with_facets() -> list[Setting]:
    first, *others = pages.settings()
    return [replace(first, facets=FACETS), *others]


def test_facets_are_those_in_which_cases_differ_and_methods_do_not():
    words = Words()
    found = facet_codes(FACETS, range(22), words, {"R1": "spouse"})
    assert list(found) == ["relation", "popularity"]  # the tied fact is known in all
    assert [words.texts[code] for code in found["relation"][:3]] == ["spouse", "R2", "spouse"]
    assert found["popularity"][20:] == [-1, -1]
    assert facet_codes(None, range(3), Words(), {}) == {}


def test_values_to_sort_by_are_in_the_order_of_cases():
    scores = scores_of({SORTED[0]: [0.12345, None, 0.5], "charm": [1.0] * 3, SORTED[1]: [None] * 3})
    assert sortable(scores, [2, 0, 1, 9]) == {SORTED[0]: [0.5, 0.123, None, None]}


def test_an_index_of_forty_methods_is_small():
    first = pages.settings()[0]
    sizes = first.runs[:1], [first.runs[i % 3] for i in range(40)]
    size = [len(str(explore([replace(first, runs=runs)]).index["settings"])) for runs in sizes]
    assert (size[1] - size[0]) / (39 * pages.CASES) < 60  # characters of a pair


# --- in a browser -----------------------------------------------------------------------------------------
def metric_of(setting: Setting, name: str) -> pd.DataFrame:
    """Values by case and method."""
    columns = {of.run["editor"]: of.scores.set_index(["metric", "case_id"])["value"] for of in setting.runs}
    none = pd.Series(dtype=float)
    return pd.DataFrame({editor: column.get(name, none) for editor, column in columns.items()})


@pytest.fixture(scope="module")
def faceted(tmp_path_factory, browser) -> Browser:
    folder = tmp_path_factory.mktemp("faceted")
    made = page(pages.material(explorer=explore(with_facets())))
    (folder / "index.html").write_text(made, encoding="utf-8")
    opened(browser, folder)
    return browser


@pytest.mark.program("chromium")
def test_the_page_opens_on_the_case_in_which_methods_differ_most(faceted):
    faceted.wait(f"{EXPLORER}.querySelector('.probes')")
    setting = max(
        (s for s in pages.settings() if metric_of(s, SORTED[0]).notna().any(axis=None)),
        key=lambda s: (metric_of(s, SORTED[0]).max(axis=1) - metric_of(s, SORTED[0]).min(axis=1)).max(),
    )
    values = metric_of(setting, SORTED[0])
    chosen = (values.max(axis=1) - values.min(axis=1)).idxmax()
    worst = values.loc[chosen].idxmin()
    assert f"{setting.dataset} · case {chosen} · {worst}" in case(faceted)
    assert "Shown first because methods differ most here in" in case(faceted)
    assert faceted.run("scrollY") == 0
    assert faceted.problems == []


@pytest.mark.program("chromium")
def test_cases_are_filtered_by_facets(faceted):
    choose(faceted, EXPLORER, "setting", "coverage")
    choose(faceted, EXPLORER, "facts about the subject", "middle")
    numbers = sorted({int(address.split("/")[-1]) for address in listed(faceted)})
    assert numbers == [number for number in range(20) if number % 3 == 1]
    choose(faceted, EXPLORER, "relation", "R2")
    assert f"{sum(n % 2 == 1 for n in numbers)} cases" in status(faceted)
    choose(faceted, EXPLORER, "relation", "any")
    choose(faceted, EXPLORER, "facts about the subject", "any")
    assert "24 cases" in status(faceted)


@pytest.mark.program("chromium")
@pytest.mark.parametrize(
    ("words", "of"),
    [
        ("lowest first", lambda values: values.mean(axis=1)),
        ("highest first", lambda values: -values.mean(axis=1)),
        ("methods differ most", lambda values: values.min(axis=1) - values.max(axis=1)),
    ],
)
def test_cases_are_sorted_by_a_metric(faceted, words, of):
    choose(faceted, EXPLORER, "setting", "coverage")
    choose(faceted, EXPLORER, "order", f"neighbours kept: {words}")
    order = list(dict.fromkeys(int(address.split("/")[-1]) for address in listed(faceted)))
    values = of(metric_of(pages.settings()[0], "single_neighbours_kept")).round(6)
    ranked = values.reindex(order).to_numpy()
    known = ranked[~pd.isna(ranked)]
    assert list(known) == sorted(known)
    assert not pd.isna(ranked[: len(known)]).any()  # those without a value come last
    choose(faceted, EXPLORER, "order", "by number")
