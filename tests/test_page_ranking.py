"""The page's sections that rank methods and show what a model knew, remarks, and names of editors."""

import json
from math import log
from pathlib import Path

import pandas as pd
import pytest

import pages
from aftershock.editors.names import display_names
from aftershock.metrics.ranking.questions import BY_NAME
from aftershock.metrics.ranking.ranking import ranking
from aftershock.metrics.ranking.samples import of_cases
from aftershock.metrics.settings import Statistics
from aftershock.page.knowledge import knowledge
from aftershock.page.names import bars_with_names, run_with_name, runs_with_names, with_names
from aftershock.page.ranking import _gap, answers, rank_table, value_in_words
from aftershock.page.weights import dequantised, read_origin
from aftershock.report import context, page
from aftershock.tables.report import RANKS
from pages import MODEL, Page, material
from simulate import HOSTILE, block_of, cases_of

N = 40


def ranks_of(shares: dict[str, float], kept: dict[str, float] | None = None) -> pd.DataFrame:
    """RANKS of methods that write these shares of their edits."""
    values: dict[str, dict[str, list[float]]] = {editor: {} for editor in shares}
    for metric, given in (("single_exact", shares), ("single_neighbours_kept", kept or {})):
        for editor, share in given.items():
            values[editor][metric] = [float(i < share * N) for i in range(N)]
    return ranking(of_cases(block_of(values, cases_of(N), "coverage")), Statistics(resamples=200))


def said(shares: dict[str, float], kept: dict[str, float] | None = None, question: int = 0) -> str:
    return plain(" ".join(answers(ranks_of(shares, kept), MODEL)[question].sentences))


def plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def test_a_winner_is_named_with_its_lead():
    text = said({"ROME": 1.0, "FT": 0.25})
    assert text.startswith("ROME is the best (100 %). The next is FT (25 %), 75 points behind (")
    assert "of 100 runs like this one" in text


def test_without_a_winner_the_sentence_says_so():
    near = "No winner. ROME comes first (55 %), but chance could explain its lead over MEMIT (50 %)."
    assert said({"ROME": 0.55, "MEMIT": 0.5, "FT": 0.0}).startswith(near)
    same = "No winner: all 2 methods have the same value (50 %)."
    assert said({"ROME": 0.5, "MEMIT": 0.5}).startswith(same)
    ahead = "No winner. ROME and MEMIT come first together (90 %), ahead of all others by more than chance "
    assert said({"ROME": 0.9, "MEMIT": 0.9, "FT": 0.0}).startswith(ahead)


@pytest.mark.parametrize(("size", "words"), [(1.25, "1.2"), (9.94, "9.9"), (383.2, "383"), (1234.4, "1,234")])
def test_costs_have_two_digits_or_are_whole(size, words):
    assert value_in_words(BY_NAME["cost"], log(size)) == f"{words} s"
    assert _gap(BY_NAME["cost"], log(size)) == f"{words} times"


def test_one_method_has_nothing_to_be_compared_with():
    assert said({"ROME": 0.5}) == "ROME alone has a rank (50 %): there is nothing to compare it with."


def test_a_method_that_writes_nothing_is_said_to_have_little_to_lose():
    text = said({"ROME": 1.0, "FT": 0.0}, {"ROME": 0.5, "FT": 1.0}, question=2)
    assert "A method that writes little has little to lose: FT (0 % of its edits)." in text


def test_questions_that_a_run_did_not_ask_are_said_to_be_such():
    found = answers(ranks_of({"ROME": 1.0, "FT": 0.25}), MODEL)
    assert len(found) == 7
    assert found[4].sentences == ("This run did not ask: it makes no sequence of edits.",)


@pytest.mark.parametrize("methods", [1, 2, 40])
def test_the_table_has_a_row_for_each_method_however_many(methods):
    shares = {f"method {i:02}": i / 40 for i in range(methods)}
    ranks = ranks_of(shares)
    made = rank_table(ranks, ["tables/summary.csv", "tables/ranks.csv", "tables/.snakemake_timestamp"])
    assert made["files"] == ["tables/ranks.csv"]
    columns = {column["id"]: column for column in made["columns"]}
    assert made["rows"] == methods
    assert sorted(columns["write.coverage"]["value"]) == list(range(1, methods + 1))
    best = plain(columns["write.coverage"]["beside"][0])
    assert best.startswith(f"{100 * (methods - 1) / 40:.0f} %")
    named = [w for w in answers(ranks, MODEL)[0].sentences if "method" in w]
    assert all(sentence.count("method ") <= 6 for sentence in named)
    assert rank_table(RANKS.empty(), []) is None


def test_the_section_is_on_the_page_and_escapes():
    ranks = ranks_of({HOSTILE[0]: 1.0, "FT": 0.25})
    html = page(pages.material(tables={"summary": pages.summary(), "ranks": ranks}))
    parsed = Page(html)
    assert f"{HOSTILE[0]} is the best" in parsed.text
    assert "<script>alert" not in html
    assert parsed.text.index("Which method writes the fact?") < parsed.text.index("Case explorer")
    tables = parsed.data("data")["tables"]
    assert tables["ranking"]["sort"] == "write.coverage"
    assert tables["ranks"]["rows"] == 2
    assert {c["id"]: c.get("unit") for c in tables["ranks"]["columns"]}["rank"] == "rank"
    assert 'id="ranking"' not in page(pages.material())


def test_few_clusters_tell_nothing():
    values = {"ROME": {"single_exact": [1.0, 0.0] * (N // 2)}, "FT": {"single_exact": [0.0] * N}}
    ranks = ranking(of_cases(block_of(values, cases_of(N, [0] * N), "coverage")))
    text = plain(answers(ranks, MODEL)[0].sentences[0])
    assert text == "No winner. ROME comes first (50 %), but one group of cases cannot tell that from chance."


FACTS = pd.DataFrame(
    [
        ("relation", "T1", 85, 44, 62, 83, 44),
        ("rule", "T1>T2", 30, 18, 22, 30, 18),
        ("relation", "T9", 0, 0, 0, 0, 0),
    ],
    columns=["of", "name", "asked", "continuation", "probability", "rank", "known"],
)
OBJECTS = pd.DataFrame([{"relation_id": "T10", "keys": 54, "usable_keys": 17, "objects": 252, "known": 72}])
LABELS = {"T1": "capital", "T10": "shares a border with"}


def column(table, name):
    (found,) = [each for each in table["columns"] if each["id"] == name]
    if found["kind"] == "text":
        return [found["words"][code] for code in found["codes"]]
    return found["values"]


def test_facts_are_counted_by_relation_and_rule():
    facts, objects = knowledge([("demo", FACTS), ("demo", OBJECTS)], LABELS)
    assert column(facts, "name") == ["capital", "T1>T2", "T9"]
    assert column(facts, "asked") == [85, 30, 0]
    assert column(facts, "share")[:2] == pytest.approx([44 / 85, 0.6], rel=1e-3)
    assert column(facts, "share")[2] is None
    assert facts["chosen"] == {"of": "relation"}
    assert column(objects, "relation") == ["shares a border with"]
    assert column(objects, "usable_keys") == [17]


def test_a_model_that_was_asked_nothing_has_no_table():
    assert knowledge([], LABELS) == []
    (facts,) = knowledge([("a", FACTS), ("b", FACTS)], {})
    assert column(facts, "model") == ["a"] * 3 + ["b"] * 3


def test_the_page_has_them():
    html = page(pages.material(known=[("demo", FACTS), ("demo", OBJECTS)], labels=LABELS))
    tables = Page(html).data("data")["tables"]
    assert {"known_facts", "known_objects"} <= set(tables)
    assert "known_facts" not in Page(page(pages.material())).data("data")["tables"]


ORIGIN = {"package": "some", "gguf": "small.Q4_1.gguf", "gguf_sha256": "ab12", "quantisation": "Q4_1"}


def test_a_model_that_was_dequantised_is_named_with_its_file() -> None:
    (line,) = dequantised("small", ORIGIN)
    assert line.startswith("small: weights dequantised from Q4_1 (small.Q4_1.gguf, sha256 ab12) to float32.")
    assert dequantised("large", {"hub": "o/n", "commit": "ab"}) == []
    assert dequantised("trained", {}) == []
    said = context(material(origins={"small": ORIGIN, "large": {"hub": "o/n"}}))["missed"]
    assert [text for text in said if "dequantised" in text] == [line]


def test_the_origin_of_a_copied_folder_is_that_of_the_folder(tmp_path: Path) -> None:
    for name, contents in (("first", ORIGIN), ("copy", {"path": str(tmp_path / "first")})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(json.dumps(contents))
    assert read_origin(tmp_path / "first") == ORIGIN
    assert read_origin(tmp_path / "copy")["quantisation"] == "Q4_1"
    assert read_origin(tmp_path / "none") == {}
    (tmp_path / "first" / "provenance.json").unlink()
    assert read_origin(tmp_path / "copy") == {"path": str(tmp_path / "first")}


def test_a_method_that_is_not_set_up_stands_at_the_top() -> None:
    made = material()
    assert not [line for line in context(made)["missed"] if "Not set up" in line]
    weak = {key: rows.assign(success=0.1) for key, rows in made.trials.items()}
    (line,) = (line for line in context(material(trials=weak))["missed"] if "Not set up" in line)
    assert f"rome on {MODEL}" in line


def test_the_page_says_what_texts_begin_with_and_warns():
    found = {"document_token": "auto", "begins_with": [], "first_token": 130.0}
    text = page(material(beginnings={MODEL: found}))
    assert "What the model reads has nothing in front, document_token: auto." in text
    assert "the first position of a text is an attention sink" in text
    behind = found | {"document_token": "<b>", "begins_with": ["<b>"], "first_token": 1.5}
    text = page(material(beginnings={MODEL: behind}))
    assert "&lt;b&gt; in front" in text
    assert "attention sink" not in text
    assert "What the model reads has" not in page(material())


EDITORS = {
    "plain": {"method": "rome"},
    "ft_m": {"method": "ft", "settings": {"objective": "target_new"}},
    "ft": {"method": "ft"},
    "memit_mle": {"method": "memit", "second_edit": "multi_label"},
    "memit_mle_3": {"method": "memit", "second_edit": "multi_label", "labels": 3},
    "small": {"method": "memit", "regularisers": [{"rect": {}}, {"norm_clamp": {"limit": 0.1}}]},
}
NAMES = display_names(EDITORS)


def test_names_are_those_of_papers_and_none_stands_for_two_labels():
    assert NAMES == {
        "plain": "ROME",
        "ft_m": "FT (ft_m)",
        "ft": "FT",
        "memit_mle": "MEMIT+MLE",
        "memit_mle_3": "MEMIT+MLE (memit_mle_3)",
        "small": "MEMIT+RECT+norm clamp",
    }


def test_tables_name_editors_in_columns_and_among_words():
    rows = [("ft", "plain", "memit_mle > ft = ft_m", "CS exp: ft above plain (10 %), drift of ft.x")]
    rows += [("elsewhere", "ft_m", None, "ft-like")]
    frame = pd.DataFrame(rows, columns=["editor", "other", "order", "evidence"])
    named = with_names(frame, NAMES)
    assert list(named["editor"]) == ["FT", "elsewhere"]
    assert list(named["other"]) == ["ROME", "FT (ft_m)"]
    assert named["order"][0] == "MEMIT+MLE > FT = FT (ft_m)"
    assert named["order"].isna()[1]
    assert list(named["evidence"]) == ["CS exp: FT above ROME (10 %), drift of FT.x", "ft-like"]
    assert with_names(frame, {}).equals(frame)


def test_runs_and_bars_are_named_and_keep_the_rest():
    assert runs_with_names([{"editor": "ft", "seed": 1}], NAMES) == [{"editor": "FT", "seed": 1}]
    assert run_with_name({"kg": "world"}, NAMES) == {"kg": "world"}
    named, plain_bars = bars_with_names([{"metric": "m", "editors": ["ft", "new"]}, {"metric": "k"}], NAMES)
    assert (named, plain_bars) == ({"metric": "m", "editors": ["FT", "new"]}, {"metric": "k"})
