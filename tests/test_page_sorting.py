"""The case explorer's filters by facet, its orders by metric, and the case that it opens on."""

import pandas as pd
import pytest

import pages
from aftershock.page.embed import Words
from aftershock.page.explorer import Setting, explore
from aftershock.page.sorting import SORTED, facet_codes, sortable
from aftershock.report import page
from browser import Browser
from simulate import scores_of
from tabs import EXPLORER, case, choose, listed, status

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
    return [Setting(**{**vars(first), "facets": FACETS}), *others]


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
    runs = pages.settings()[0].runs
    many = Setting(**{**vars(pages.settings()[0]), "runs": [runs[i % 3] for i in range(40)]})
    one = Setting(**{**vars(pages.settings()[0]), "runs": runs[:1]})
    size = [len(str(explore([setting]).index["settings"])) for setting in (one, many)]
    assert (size[1] - size[0]) / (39 * pages.CASES) < 60  # characters of a pair


# --- in a browser -----------------------------------------------------------------------------------------
def metric_of(setting: Setting, name: str) -> pd.DataFrame:
    """Values by case and method."""
    columns = {of.run["editor"]: of.scores.set_index(["metric", "case_id"])["value"] for of in setting.runs}
    return pd.DataFrame(
        {editor: column.get(name, pd.Series(dtype=float)) for editor, column in columns.items()}
    )


@pytest.fixture(scope="module")
def faceted(tmp_path_factory, browser) -> Browser:
    folder = tmp_path_factory.mktemp("faceted")
    made = page(pages.material(explorer=explore(with_facets())))
    (folder / "index.html").write_text(made, encoding="utf-8")
    browser.problems.clear()
    browser.resize(1200)
    browser.open("about:blank")
    browser.open((folder / "index.html").as_uri())
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
