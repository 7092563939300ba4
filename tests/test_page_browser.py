"""The page in a real browser: sorting, filtering, the keyboard, definitions, widths."""

import json

import pytest

import pages
from aftershock.metrics.catalogue import metric
from simulate import HOSTILE
from tabs import EXPLORER, TABLE, bring, choose, column, header, listed

pytestmark = pytest.mark.program("chromium")
pytest_plugins = ("tab_fixtures",)


# --- tables -----------------------------------------------------------------------------------------------
def test_a_click_sorts_a_column_and_another_turns_it(tab):
    assert column(tab, "table2") == ["ft", "rome", "memit", "memit_mle"]
    tab.run(header(tab, "table2", "method") + ".click()")
    assert column(tab, "table2") == ["ft", "memit", "memit_mle", "rome"]
    tab.run(header(tab, "table2", "method") + ".click()")
    assert column(tab, "table2") == ["rome", "memit_mle", "memit", "ft"]
    tab.run(header(tab, "table2", "D") + ".click()")
    cells = f"[...{TABLE.format('table2')}.querySelectorAll('tbody td:nth-child(3) b')]"
    values = [float(text) for text in tab.run(f"{cells}.map(b => b.textContent)")]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    orders = tab.run(f"[...{TABLE.format('table2')}.querySelectorAll('th[aria-sort]')].map(t => t.ariaSort)")
    assert orders.count("descending") == 1
    assert orders.count("none") == len(orders) - 1


def test_rows_without_a_value_come_last_either_way(tab):
    for _ in range(2):
        tab.run(header(tab, "table1", "CS imp") + ".click()")
        assert column(tab, "table1")[-1] == "ft"  # it failed on all reverse cases


def titles(**chosen):
    """The titles of the metrics in SUMMARY over all cases, as the page lists them."""
    rows = pages.summary().query("subset == 'all'")
    for name, value in chosen.items():
        rows = rows[rows[name] == value]
    return [metric(name).title for name in rows["metric"]]


def test_filters_and_text_leave_matching_rows(tab):
    choose(tab, TABLE.format("summary"), "setting", "round, hard")
    choose(tab, TABLE.format("summary"), "method", "memit")
    chosen = titles(dataset="round_hard", editor="memit")
    status_of = f"{TABLE.format('summary')}.querySelector('.status').textContent"
    assert column(tab, "summary") == chosen[:50]
    assert tab.run(status_of).startswith(f"{len(chosen)} of the ")
    field = f"{TABLE.format('summary')}.querySelector('input')"
    tab.run(f"{field}.focus()")
    tab.type("distortion")
    wanted = [title for title in chosen if "distortion" in title]
    assert 0 < len(wanted) < len(chosen)
    assert column(tab, "summary") == wanted
    tab.type("!")
    assert column(tab, "summary") == ["No row matches."]


def test_a_table_says_how_many_rows_it_has(tab):
    said = f"{TABLE}.querySelector('.status').textContent"
    assert tab.run(said.format("bars")) == "1 row"
    assert tab.run(said.format("oddments")).endswith(" rows")


def test_long_tables_are_turned_by_page(tab):
    heads = f"[...{TABLE.format('summary')}.querySelectorAll('thead th')]"
    place = tab.run(f"{heads}.map(th => th.textContent.trim())").index("metric")
    assert column(tab, "summary", place) == titles()[:50]
    tab.run(f"{TABLE.format('summary')}.querySelectorAll('.pager button')[1].click()")
    assert column(tab, "summary", place) == titles()[50:100]
    assert "51\N{EN DASH}100 of" in tab.run(f"{TABLE.format('summary')}.querySelector('.pager').textContent")
    tab.run(f"{TABLE.format('summary')}.querySelectorAll('.pager button')[0].click()")
    assert column(tab, "summary", place) == titles()[:50]


def test_a_files_rows_are_those_shown_and_hold_no_formula(tab):
    tab.run("window.made = []; download = (name, text) => window.made.push([name, text])")
    tab.run(f"[...{TABLE.format('oddments')}.querySelectorAll('.files button')][0].click()")
    ((name, text),) = tab.run("window.made")
    lines = text.split("\r\n")
    assert name == "oddments.csv"
    assert lines[0] == "thing,metric,value,value.low,value.high,n"
    things = [line.split(",distortion,")[0] for line in lines[1:-1]]
    assert things[5:8] == ["'=1+1", "'@x", "'-2"]
    assert '"x""y,z"' in things
    assert "plain" in things
    assert "'+3" in things
    assert things[0] == HOSTILE[0]


def test_hostile_labels_are_text(tab):
    words = column(tab, "oddments")
    assert words[0] == HOSTILE[0]
    assert words[2] == "\N{REPLACEMENT CHARACTER}evil\N{REPLACEMENT CHARACTER}"
    assert tab.run("document.querySelectorAll('script[src]').length") == 0
    assert tab.run("document.querySelectorAll('b b, td script').length") == 0
    heads = f"[...{TABLE.format('oddments')}.querySelectorAll('tbody th')]"
    assert tab.run(f"{heads}.every(th => th.querySelector('bdi'))")


def compare(tab, *names):
    """Take a tick from or put one to the methods with these names."""
    for name in names:
        tab.run(f"document.querySelector('#methods input[value=\"{name}\"]').click()")


def test_methods_that_are_compared_are_those_of_all_tables_and_of_the_address(tab):
    cards = "[...document.querySelectorAll('.findings article')][0]"
    rows = f"[...{cards}.querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.dataset.method)"
    assert set(tab.run(rows)) == {"ft", "rome", "memit"}
    compare(tab, "ft", "memit")
    assert tab.run(rows) == ["rome"]
    assert column(tab, "table2") == ["rome", "memit_mle"]
    assert all("/ft/" not in link and "/memit/" not in link for link in listed(tab))
    assert "methods=rome" in tab.run("location.search")
    compare(tab, "ft", "memit")
    assert set(column(tab, "table2")) == {"ft", "rome", "memit", "memit_mle"}
    assert tab.run("location.search") == ""


COUNTS = """{
    const replace = Element.prototype.replaceChildren;
    window.drawn = {};
    Element.prototype.replaceChildren = function (...nodes) {
        const place = this.matches('.table > .scroll') && this.parentNode.id;
        if (place) window.drawn[place] = (window.drawn[place] || 0) + 1;
        return replace.apply(this, nodes);
    };
}"""
"""Script that counts how often each table is drawn."""


def test_opening_draws_each_table_once_with_the_methods_of_the_address(tab, site):
    added = tab.ask("Page.addScriptToEvaluateOnNewDocument", source=COUNTS)
    tab.open((site / "index.html").as_uri() + "?methods=rome")
    tab.ask("Page.removeScriptToEvaluateOnNewDocument", **added)
    tab.requests.clear()  # the address has a question
    assert column(tab, "table2") == ["rome"]
    ids = tab.run("[...document.querySelectorAll('.table')].map(table => table.id)")
    assert len(ids) > 5
    assert tab.run("window.drawn") == dict.fromkeys(ids, 1)
    compare(tab, "ft")
    assert set(column(tab, "table2")) == {"ft", "rome"}
    assert set(tab.run("window.drawn").values()) == {2}


def test_tables_are_laid_out_when_they_come_into_sight_and_found_before(tab):
    far = "[...document.querySelectorAll('.table')].at(-1)"
    laid_out = f"{far}.querySelector('tbody').checkVisibility({{ contentVisibilityAuto: true }})"
    assert not tab.run(laid_out)
    heading = tab.run(f"{far}.querySelector('h3').textContent")
    assert tab.run(f"window.find({json.dumps(heading)}, true) && scrollY > 0")
    tab.run("scrollTo(0, 0)")
    tab.run(f"location.hash = {far}.querySelector('h3').id")
    tab.wait(laid_out)
    place = tab.run(f"{far}.querySelector('h3').getBoundingClientRect().top")
    assert 0 <= place < tab.run("innerHeight")
    tab.run("scrollTo(0, 0)")


# --- keyboard, width, definitions -------------------------------------------------------------------------
def test_the_keyboard_reaches_and_sorts_and_opens(tab):
    tab.run(header(tab, "table2", "method") + ".focus()")
    tab.press("Enter")
    assert column(tab, "table2") == ["ft", "memit", "memit_mle", "rome"]
    focused = "document.activeElement.dataset.column"
    assert tab.run(focused) == "editor"  # it stays where it was
    tab.press("Tab")
    assert tab.run(focused) == "round_easy.success"
    assert tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press("Tab", shift=True)
    assert tab.run(focused) == "editor"
    tab.run(f"{EXPLORER}.querySelector('.pairs a').focus()")
    tab.press("ArrowDown")
    second = tab.run("document.activeElement.getAttribute('href')")
    assert second == listed(tab)[1]
    tab.press("Enter")
    tab.wait(f"{EXPLORER}.querySelector('.probes')")
    tab.wait(f"document.activeElement === {EXPLORER}.querySelector('h3')")


def test_everything_that_can_be_used_has_a_name(tab):
    nameless = """[...document.querySelectorAll('button, select, input, a[href]')].filter(node =>
        !(node.textContent.trim() || node.getAttribute('aria-label') || node.labels?.length))"""
    assert tab.run(f"{nameless}.map(node => node.outerHTML)") == []


def test_definitions_appear_on_focus_and_on_hover(tab):
    tip = "document.getElementById('tip')"
    tab.run(header(tab, "table2", "IR") + ".focus()")
    assert "less likely than in the unedited model" in tab.run(f"{tip}.innerText")
    assert tab.run("document.activeElement.getAttribute('aria-describedby')") == "tip"
    tab.press("Escape")
    assert tab.run(f"{tip}.hidden")
    where = f"{header(tab, 'table2', 'FR')}.getBoundingClientRect()"
    bring(tab, header(tab, "table2", "FR"))
    x, y = tab.run(f"[{where}.x + 5, {where}.y + 5]")
    tab.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    tab.wait(f"!{tip}.hidden")
    assert "More than half" in tab.run(f"{tip}.innerText")
    box = tab.run(f"{tip}.getBoundingClientRect().toJSON()")
    assert box["left"] >= 0
    assert box["right"] <= 1200
    assert 0 <= box["top"] < box["bottom"] <= 900


@pytest.mark.parametrize("width", [360, 768, 1200])
def test_no_width_makes_the_page_scroll_sideways(tab, width):
    tab.resize(width)
    tab.run("location.hash = '#case=demo/composite/rome/0/3'")
    tab.wait(f"{EXPLORER}.querySelector('.probes')")
    assert tab.run("document.documentElement.scrollWidth") <= width
    tab.run("document.querySelectorAll('details').forEach(d => d.open = true)")
    tab.run("document.querySelectorAll('.table').forEach(t => t.style.contentVisibility = 'visible')")
    assert tab.run("document.documentElement.scrollWidth") <= width
    assert tab.run("[...document.images].every(i => i.src.startsWith('data:'))")
