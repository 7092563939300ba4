"""The page's section that ranks methods: sentences for one, two and forty methods, and the table of ranks."""

from math import log

import pandas as pd
import pytest

import pages
from aftershock.metrics.ranking.questions import BY_NAME
from aftershock.metrics.ranking.ranking import ranking
from aftershock.metrics.ranking.samples import of_cases
from aftershock.metrics.settings import Statistics
from aftershock.page.ranking import _gap, answers, rank_table, value_in_words
from aftershock.report import page
from aftershock.tables.report import RANKS
from pages import MODEL, Page
from simulate import HOSTILE, block_of, cases_of

N = 40


def ranks_of(shares: dict[str, float], kept: dict[str, float] | None = None) -> pd.DataFrame:
    """RANKS of methods that write these shares of their edits."""
    values = {
        editor: {"single_exact": [float(i < share * N) for i in range(N)]} for editor, share in shares.items()
    }
    for editor, share in (kept or {}).items():
        values[editor]["single_neighbours_kept"] = [float(i < share * N) for i in range(N)]
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
    text = said({"ROME": 0.55, "MEMIT": 0.5, "FT": 0.0})
    assert text.startswith(
        "No winner. ROME comes first (55 %), but chance could explain its lead over MEMIT (50 %)."
    )
    assert said({"ROME": 0.5, "MEMIT": 0.5}).startswith(
        "No winner: all 2 methods have the same value (50 %)."
    )
    assert said({"ROME": 0.9, "MEMIT": 0.9, "FT": 0.0}).startswith(
        "No winner. ROME and MEMIT come first together (90 %), ahead of all others by more than chance "
    )


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
    assert plain(columns["write.coverage"]["beside"][0]).startswith(
        "0 %" if methods == 1 else f"{100 * (methods - 1) / 40:.0f} %"
    )
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
    values = {
        name: {"single_exact": [share] * (N // 2) + [0.0] * (N // 2)}
        for name, share in (("ROME", 1.0), ("FT", 0.0))
    }
    ranks = ranking(of_cases(block_of(values, cases_of(N, [0] * N), "coverage")))
    text = plain(answers(ranks, MODEL)[0].sentences[0])
    assert text == "No winner. ROME comes first (50 %), but one group of cases cannot tell that from chance."
