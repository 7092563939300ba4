"""The page before its scripts run: what it says, holds, links to, and that no label can break it."""

import math
import re
from dataclasses import replace

import pandas as pd
import pytest

import pages
from aftershock.page.columns import LONGEST, columns_of, of_frame
from aftershock.page.explorer import explore
from aftershock.page.figures import INSIDE, PAGE, Picture, room_beside, shown
from aftershock.page.layouts import controls, datasets, of_run, stages
from aftershock.page.listed import files_of, listed
from aftershock.report import Material, chunk_files, page
from aftershock.tables.models import MOMENTS
from aftershock.tables.report import RECALL_SUMMARY, SUMMARY
from pages import MODEL, Page, material, run_of
from simulate import HOSTILE
from simulated import summarised


@pytest.fixture(scope="module")
def html():
    return page(material())


def by_id(spec):
    return {column["id"]: column for column in spec["columns"]}


# --- columns ----------------------------------------------------------------------------------------------
def test_a_value_with_its_ends_is_one_column_and_texts_are_coded():
    frame = pd.DataFrame(
        [("coverage", 0.1, 0.0, 0.2, 5, 0, True),
         ("coverage", None, None, None, 0, 0, False),
         ("reverse", 0.3, 0.2, 0.4, 7, 1, True)],
        columns=["dataset", "value", "low", "high", "n", "seed", "exact"],
    )  # fmt: skip
    frame.insert(1, "metric", "success_released")
    columns = by_id({"columns": columns_of(frame)})
    assert list(columns) == ["dataset", "metric", "value", "n", "seed", "exact"]
    assert columns["dataset"]["words"] == ["coverage", "reverse"]
    assert columns["dataset"]["codes"] == [0, 0, 1]
    assert columns["metric"]["shown"] == ["success, as released"]
    assert columns["value"]["value"] == [0.1, None, 0.3]
    assert (columns["value"]["low"], columns["value"]["by"]) == ([0, None, 0.2], "metric")
    assert [columns[name]["kind"] for name in ("n", "seed", "exact")] == ["number", "text", "flag"]


def test_ends_belong_to_the_column_that_a_table_names():
    frame = pd.DataFrame([{"metric": "success", "value": 0.5, "difference": 0.1, "low": 0.0, "high": 0.2}])
    columns = by_id({"columns": columns_of(frame, centre="difference")})
    assert (columns["value"]["kind"], columns["value"]["by"]) == ("number", "metric")
    assert (columns["difference"]["kind"], columns["difference"]["signed"]) == ("estimate", True)
    prefixed = pd.DataFrame([{"x_value": 0.5, "x_low": 0.1, "x_high": 0.9, "x_n": 4, "x_clusters": 2}])
    (column, *rest) = columns_of(prefixed)
    assert (column["kind"], column["n"], column["clusters"]) == ("estimate", [4], [2])
    assert [c["id"] for c in rest] == ["x_n", "x_clusters"]


def test_a_very_long_table_is_cut_and_says_so():
    made = of_frame("long", pd.DataFrame({"a": range(LONGEST + 5)}), "Long")
    assert (made["rows"], made["of"]) == (LONGEST, LONGEST + 5)


def test_tables_come_in_the_order_of_the_list_and_unknown_ones_last():
    names = ("zebra", "summary", "claims", "comparisons", "table1")
    tables = dict.fromkeys(names, pd.DataFrame({"a": [1]}))
    made = listed(tables, ["tables/claims.csv", "tables/claims.md"])
    found = [f"{section}: {table['id']}" for section, table in made]
    assert found == ["certainty: comparisons", "paper: claims", "detail: summary", "detail: zebra"]
    files = files_of(["tables/a.md", "tables/b.csv", "tables/a.csv", "a.parquet"], "a")
    assert files == ["tables/a.csv", "a.parquet", "tables/a.md"]


# --- tables about a run -----------------------------------------------------------------------------------
def test_table_1_holds_every_run_subset_and_definition(html):
    spec = Page(html).data("data")["tables"]["table1"]
    columns = by_id(spec)
    assert spec["rows"] == 3 * 2 * 2
    assert columns["definition"]["words"] == ["paper", "released"]
    assert spec["chosen"] == {"subset": "all", "definition": "paper"}
    assert spec["files"] == ["tables/table1.csv", "tables/table1_released.csv"]
    cell = columns["reverse.conflict_score_exp"]
    place = columns["editor"]["words"].index("ft")
    of_ft = [v for v, code in zip(cell["value"], columns["editor"]["codes"], strict=True) if code == place]
    assert of_ft == [None] * 4  # it failed on every reverse case
    rows = pages.summary().query("editor == 'rome' and dataset == 'reverse' and subset == 'all'")
    wanted = rows.set_index("metric").loc["conflict_score_exp"]
    said = [[of["words"][code] for code in of["codes"]] for of in (columns["editor"], columns["subset"])]
    at = list(zip(*said, strict=True)).index(("rome", "all"))
    assert cell["value"][at] == pytest.approx(wanted["value"], rel=1e-3)
    assert (cell["n"][at], cell["clusters"][at]) == (wanted["n"], wanted["clusters"])


def test_controls_hold_the_difference_and_both_sides():
    spec = controls(pages.summary(), [])
    columns = by_id(spec)
    keys = [
        (columns["dataset"]["words"][d], columns["metric"]["words"][m])
        for d, m in zip(columns["dataset"]["codes"], columns["metric"]["codes"], strict=True)
    ]
    assert ("coverage", "conflict_score_imp") not in keys  # it is the explicit one
    at = keys.index(("coverage", "conflict_magnitude"))
    value, control = columns["rome"]["sides"][at]
    assert columns["rome"]["value"][at] == pytest.approx(value - control, abs=1e-3)
    assert columns["rome"]["low"][at] > 0
    assert {columns["ft"]["value"][i] for i, key in enumerate(keys) if key[0] == "reverse"} == {None}
    assert controls(SUMMARY.empty(), []) is None


def test_what_was_tested_is_counted_once_for_all_methods():
    columns = by_id(datasets(pages.summary()))
    assert columns["test cases"]["values"] == [pages.CASES] * 5
    assert columns["strict"]["values"] == [int(s.cases["strict"].sum()) for s in pages.settings()]
    assert columns["clusters"]["values"] == [s.cases["cluster"].nunique() for s in pages.settings()]
    assert datasets(SUMMARY.empty()) is None


def test_stages_add_up_and_other_studies_stay_out():
    given = [
        ("edit", {"kg": "world", "model": MODEL}, 2.0, 5 * 2**20),
        ("edit", {"kg": "world", "model": MODEL}, 3.0, 2**20),
        ("edit", {"kg": "wikidata", "model": MODEL}, 9.0, 4),
        ("edit", {"kg": "world", "model": "other"}, 9.0, 4),
        ("tables", {}, 1.0, 9 * 2**20),
    ]
    timings = [dict(zip(("rule", "wildcards", "seconds", "peak_bytes"), row, strict=True)) for row in given]
    rows = stages(of_run(timings, "world", [MODEL])).to_numpy().tolist()
    assert rows == [["edit", 2, 5.0, 3.0, 5.0], ["tables", 1, 1.0, 1.0, 9.0]]
    assert len(stages([])) == 0


def test_large_pictures_stay_beside_the_page_and_leave_room_for_its_data():
    pictures = [Picture(f"f{i}", "t", "a", "m", b"x" * (INSIDE // 2)) for i in range(3)]
    assert [p["image"][:8] for p in shown(pictures)] == ["data:ima", "data:ima", "figures/"]
    assert room_beside(0) == room_beside(PAGE // 2) == INSIDE
    assert room_beside(PAGE) == room_beside(2 * PAGE) == 0
    pictures = [Picture(f"f{i}", "t", "a", "m", b"x" * 200_000) for i in range(8)]
    for data in (2_000_000, 3_500_000, 4_400_000):
        images = [p["image"] for p in shown(pictures, room_beside(data))]
        assert data + sum(map(len, images)) < PAGE + 1000
        assert (images[0][:8] == "data:ima") == (data < 4_000_000)


# --- the page ---------------------------------------------------------------------------------------------
def test_the_page_stands_alone_and_escapes(html):
    parsed = Page(html)
    assert "<script>alert" not in html
    assert "<b>spouse</b>" not in html
    assert "<b>received</b>" not in html
    assert HOSTILE[0] in parsed.text  # as text
    assert "\u202e" not in html
    names = [about.get("id") for about, _ in parsed.scripts]
    assert names == ["data", "index", *(f"chunk-{i}" for i in range(len(names) - 3)), None]
    (things, *_) = parsed.data("data")["tables"]["oddments"]["columns"]
    assert things["words"] == list(pages.free_table()["thing"])
    loaded = [v for tag, name, v in parsed.attributes if name == "src" or (tag == "link" and name == "href")]
    assert loaded
    assert all(v.startswith("data:image/svg+xml;base64,") for v in loaded)
    links = [v for _, name, v in parsed.attributes if name in ("src", "href")]
    assert not [v for v in links if re.match(r"([a-z]+:)?//", v)]
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    policy = next(v for _, name, v in parsed.attributes if name == "content" and "default-src" in v)
    assert "script-src 'unsafe-inline'" in policy
    assert "file:" not in policy.split("script-src")[1]
    assert len(html) < 5_000_000


def test_the_page_says_what_was_found_and_how_sure(html):
    text = Page(html).text
    assert text.index("Before trusting a number") < text.index("Does a single edit take")
    assert "ft broke off in 100.0" in text
    for words in ("false statement on purpose", "independent. Small", "How far this reaches"):
        assert words in text
    assert "One seed was run" in text
    assert "python 3.11" in text


def test_only_several_methods_have_a_best_that_comes_first(html):
    text = "The best of the first column comes first."
    one = pages.summary().query("editor == 'rome'")
    runs = [of.run for s in pages.settings() for of in s.runs if of.run["editor"] == "rome"]
    assert text in Page(html).text
    assert text not in Page(page(material(summary=one, runs=runs))).text


def test_a_missing_case_is_said_first_and_marks_the_tables(html):
    setting = pages.settings()[2]
    run = setting.runs[0]
    part = replace(run, scores=run.scores[run.scores["case_id"] < 20])
    holes = explore([replace(setting, runs=[part])])
    parsed = Page(page(material(explorer=holes)))
    assert "Incomplete: ft on demo has 20 of 24 composite cases; missing: 20–23." in parsed.text
    tables = parsed.data("data")["tables"]
    for name in ("table1", "table2", "controls", "summary"):
        assert "Incomplete" in tables[name]["marks"][0]
    assert "marks" not in tables["trials-demo-rome"]
    assert "marks" not in Page(html).data("data")["tables"]["table1"]


def test_little_known_marks_the_tables_that_rest_on_it():
    summary = pages.summary()
    known = (summary["metric"] == "known") & (summary["dataset"] == "round_hard")
    weak = summary.assign(value=summary["value"].mask(known, 0.1))
    tables = Page(page(material(summary=weak))).data("data")["tables"]
    said = "Format check only for round, hard: too little was known before any edit."
    assert tables["table2"]["marks"] == [said]
    assert "marks" not in tables["table1"]


def test_a_trained_hypernetwork_is_shown_with_its_curve(html):
    made = page(material(curves={(HOSTILE[0], "all"): pages.curve_of()}))
    parsed = Page(made)
    columns = by_id(parsed.data("data")["tables"]["mend_training"])
    assert columns["kept at"]["values"] == [100]
    assert columns["targets said"]["values"] == [0.75]
    assert "<script>alert" not in made
    assert "Training of MEND" in parsed.text
    assert "Training of MEND" not in Page(html).text


def test_optional_tables_are_there_only_when_given(html):
    names = set(Page(html).data("data")["tables"])
    assert not {"comparisons", "claims", "oddities", "candidates"} & names
    odd = pd.DataFrame([{"file": "easy", "finding": "twice the same", "rows": 3, "examples": "<i>x</i>"}])
    counts = pd.DataFrame({"split": ["test", "dev"], "reason": ["kept", "unknown"], "candidates": [5, 2]})
    given = Page(page(material(oddities=odd, counts={(MODEL, "coverage"): counts}))).data("data")["tables"]
    assert by_id(given["oddities"])["examples"]["words"] == ["<i>x</i>"]
    assert by_id(given["candidates"])["reason"]["words"] == ["kept", "unknown"]
    assert by_id(given["candidates"])["dev"]["values"] == [0, 2]


def test_every_address_inside_the_page_leads_somewhere(html):
    parsed = Page(html)
    ids = {v for _, name, v in parsed.attributes if name == "id"}
    targets = {v[1:] for tag, name, v in parsed.attributes if name == "href" and v.startswith("#")}
    assert targets <= ids
    data = parsed.data("data")
    assert {f"metric-{name}" for name in data["metrics"]} <= ids
    placed = {v for _, name, v in parsed.attributes if name == "data-table"}
    assert placed == set(data["tables"])


def test_a_page_about_nothing_says_so():
    empty = Material("Nothing", SUMMARY.empty(), RECALL_SUMMARY.empty(), [run_of("coverage")])
    text = Page(page(empty)).text
    assert "No cases: coverage has no test case for rome." in text
    assert "no case has a value" in text
    assert "There is no case to look at." in text
    page(Material("No run", SUMMARY.empty(), RECALL_SUMMARY.empty(), []))


def test_second_moments_of_few_directions_come_before_the_numbers():
    rows = [(0, 256, 14495, 200, -3e-8, 2.1, math.inf, 185), (1, 256, 14495, 200, 7e-6, 0.8, 1e5, 256)]
    table = pd.DataFrame(rows, columns=list(MOMENTS.columns))
    text = Page(page(material(moments={"tiny <b>": table}))).text
    before, after = text.index("Before trusting a number"), text.index("Case explorer")
    line = text.index("tiny <b>, layer 0: the second moments are of rank 185 in 256 dimensions.")
    assert before < line < after
    assert "layer 1:" not in text


def test_a_single_case_makes_a_page():
    one = pages.setting_of("composite", 1, ["ft"])
    summary = summarised("composite", "ft", 1)
    made = Material("One", summary, RECALL_SUMMARY.empty(), [one.runs[0].run], explorer=explore([one]))
    assert "1 case in 1 cluster, worth 1 independent" in Page(page(made)).text


def test_many_pairs_go_into_scripts_beside_the_page(monkeypatch):
    monkeypatch.setattr("aftershock.page.explorer.PAIRS", 100)
    found = explore(pages.settings(), chunk=60)
    files = chunk_files(found)
    assert list(files) == [f"{i:03}.js" for i in range(len(found.chunks))]
    assert all(text.isascii() and text.startswith("takeCases(") for text in files.values())
    html = page(material(explorer=found))
    assert "chunk-0" not in html
    assert "script-src 'unsafe-inline' 'self' file:" in html
    assert chunk_files(explore([])) == {}
