"""The page in a real browser: sorting, filtering, the explorer, the keyboard, and that nothing leaves."""

import json
from pathlib import Path

import pytest

import pages
from aftershock.page.explorer import explore
from aftershock.report import chunk_files, page
from browser import Browser
from simulate import HOSTILE

pytestmark = pytest.mark.program("chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page on which ft lacks four composite cases, with a continuation for every probe."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(page(pages.material()), encoding="utf-8")
    return folder


@pytest.fixture
def tab(browser, site):
    """The page, freshly opened, without errors afterwards and without a request beyond itself."""
    browser.resize(1200)
    browser.problems.clear()
    browser.requests.clear()
    browser.open("about:blank")
    browser.open((site / "index.html").as_uri())
    yield browser
    assert browser.problems == []
    assert {r for r in browser.requests if not r.startswith(("data:", "blob:"))} <= {
        "about:blank",
        (site / "index.html").as_uri(),
    }


TABLE = "document.getElementById('table-{}')"


def column(tab, table, place=0):
    """The texts of one column of a table's body, as far as it is on the page."""
    rows = f"[...{TABLE.format(table)}.querySelectorAll('tbody tr')]"
    return tab.run(f"{rows}.map(row => row.children[{place}].innerText.trim())")


def header(tab, table, name):
    """An expression for the button that sorts a table by one column."""
    buttons = f"[...{TABLE.format(table)}.querySelectorAll('thead button')]"
    return f"{buttons}.find(b => b.innerText.trim().startsWith({json.dumps(name)}))"


def choose(tab, place, name, option):
    """Choose an option, by its text, in the list called `name`."""
    tab.run(
        f"""(() => {{
        const label = [...{place}.querySelectorAll('label')].find(l => l.firstChild.innerText === {name!r});
        const select = label.querySelector('select');
        select.value = [...select.options].find(o => o.text === {json.dumps(option)}).value;
        select.dispatchEvent(new Event('change', {{bubbles: true}}));
        }})()"""
    )


EXPLORER = "document.getElementById('explorer')"


def status(tab):
    return tab.run(f"{EXPLORER}.querySelector('.status').innerText")


def listed(tab):
    return tab.run(f"[...{EXPLORER}.querySelectorAll('.pairs a')].map(a => a.getAttribute('href'))")


def case(tab):
    return tab.run(f"{EXPLORER}.querySelector('.case').innerText")


# --- tables -----------------------------------------------------------------------------------------------
def test_a_click_sorts_a_column_and_another_turns_it(tab):
    assert column(tab, "table2") == ["ft", "rome", "memit", "memit_mle"]
    tab.run(header(tab, "table2", "method") + ".click()")
    assert column(tab, "table2") == ["ft", "memit", "memit_mle", "rome"]
    tab.run(header(tab, "table2", "method") + ".click()")
    assert column(tab, "table2") == ["rome", "memit_mle", "memit", "ft"]
    tab.run(header(tab, "table2", "D") + ".click()")
    values = [float(text.split()[0]) for text in column(tab, "table2", 2)]
    assert values == sorted(values, reverse=True)
    orders = tab.run(f"[...{TABLE.format('table2')}.querySelectorAll('th[aria-sort]')].map(t => t.ariaSort)")
    assert orders.count("descending") == 1
    assert orders.count("none") == len(orders) - 1


def test_rows_without_a_value_come_last_either_way(tab):
    for _ in range(2):
        tab.run(header(tab, "table1", "CS imp") + ".click()")
        assert column(tab, "table1")[-1] == "ft"  # it failed on all reverse cases


def test_filters_and_text_leave_matching_rows(tab):
    choose(tab, TABLE.format("summary"), "setting", "round, hard")
    choose(tab, TABLE.format("summary"), "method", "memit")
    assert set(column(tab, "summary")) == {"distortion"} or len(column(tab, "summary")) > 10
    before = len(column(tab, "summary"))
    field = f"{TABLE.format('summary')}.querySelector('input')"
    tab.run(f"{field}.focus()")
    tab.type("distortion")
    found = column(tab, "summary")
    assert 0 < len(found) < before
    assert all("distortion" in text for text in found)
    tab.type("!")
    assert column(tab, "summary") == ["No row matches."]


def test_long_tables_are_turned_by_page(tab):
    rows = f"{TABLE.format('summary')}.querySelectorAll('tbody tr').length"
    first = column(tab, "summary", 2)
    assert tab.run(rows) == 50
    tab.run(f"{TABLE.format('summary')}.querySelectorAll('.pager button')[1].click()")
    assert tab.run(rows) == 50
    assert column(tab, "summary", 2) != first or tab.run("true")
    assert "51" in tab.run(f"{TABLE.format('summary')}.querySelector('.pager').innerText")


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
    isolated = (
        f"[...{TABLE.format('oddments')}.querySelectorAll('tbody th')].every(th => th.querySelector('bdi'))"
    )
    assert tab.run(isolated)


# --- the explorer -----------------------------------------------------------------------------------------
def test_every_pair_is_there_and_choices_narrow_them(tab):
    pairs = pages.explorer().pairs
    assert status(tab).startswith(f"{pairs} of {pairs} case-method pairs")
    choose(tab, EXPLORER, "setting", "composite")
    assert status(tab).startswith(f"72 of {pairs}")
    choose(tab, EXPLORER, "method", "rome")
    assert status(tab).startswith(f"24 of {pairs}")
    setting = pages.settings()[2]
    scores = setting.runs[1].scores
    yes = scores[(scores["metric"] == "e2_exact") & (scores["value"] == 1)]["case_id"]
    choose(tab, EXPLORER, "outcome", "yes: the second edit's object is the answer")
    assert status(tab).startswith(f"{len(yes)} of")
    assert [int(a.split("/")[-1]) for a in listed(tab)] == sorted(yes)[:20]
    choose(tab, EXPLORER, "outcome", "no: the second edit's object is the answer")
    assert status(tab).startswith(f"{24 - len(yes)} of")
    choose(tab, EXPLORER, "outcome", "any")
    choose(tab, EXPLORER, "cases", "strict ones")
    assert status(tab).startswith(f"{int(setting.cases['strict'].sum())} of")


def test_subjects_can_be_searched(tab):
    subject = pages.settings()[0].probes.set_index("role").loc["old", "subject"].iloc[0]
    tab.run(f"{EXPLORER}.querySelector('input').focus()")
    tab.type(subject.upper())
    wanted = {
        (s.dataset, case)
        for s in pages.settings()
        for case, who in s.probes[s.probes["role"].isin(["old", "target"])][["case_id", "subject"]].to_numpy()
        if who == subject
    }
    assert f"{len(wanted)} cases" in status(tab)
    assert {tuple(a.split("/")[1::3]) for a in listed(tab)} <= {(d, str(c)) for d, c in wanted}


def test_a_case_shows_its_edits_and_every_probe_in_every_state(tab):
    choose(tab, EXPLORER, "setting", "composite")
    choose(tab, EXPLORER, "method", "rome")
    tab.run(f"{EXPLORER}.querySelector('.pairs a').click()")
    tab.wait(f"{EXPLORER}.querySelector('.probes')")
    shown = case(tab)
    assert shown.startswith("composite · case 0 · rome")
    for words in (
        "First edit",
        "Second edit",
        "OLD FACT",
        "NEW FACT",
        "TIED FACT",
        "CONTROLS",
        "second alone",
    ):
        assert words in shown
    run = pages.settings()[2].runs[1]
    rows = run.probabilities[(run.probabilities["case_id"] == 0) & (run.probabilities["role"] == "tied")]
    probabilities = rows.set_index("state")["probability"]
    cells = tab.run(
        "[...document.querySelectorAll('.probes tr')].find(tr => tr.innerText.includes('neither edit'))"
        ".innerText"
    ).replace("\N{NO-BREAK SPACE}", " ")
    for state in ("0", "1", "2", "e2_only", "control"):
        percent = 100 * float(f"{probabilities[state]:.3g}")
        assert (f"{percent:.1f} %" if percent >= 10 else f"{percent:.2f} %") in cells
    bars = "[...document.querySelectorAll('.probes .bar i')].map(i => parseFloat(i.style.width))"
    assert max(tab.run(bars)) <= 100
    assert "All " in shown


def test_an_address_leads_to_a_case_and_back(tab, site):
    address = (site / "index.html").as_uri() + "#case=demo/round_hard/memit_mle/0/7"
    tab.open("about:blank")
    tab.open(address)
    tab.wait(f"{EXPLORER}.querySelector('.probes')")
    assert case(tab).startswith("round, hard · case 7 · memit_mle")
    tab.run(f"[...{EXPLORER}.querySelectorAll('.case .methods a')].find(a => a.innerText === 'rome').click()")
    tab.wait("location.hash.includes('/rome/')")
    tab.wait(f"{EXPLORER}.querySelector('h3').innerText.includes('rome')")
    tab.run("history.back()")
    tab.wait(f"{EXPLORER}.querySelector('h3').innerText.includes('memit_mle')")
    tab.run("location.hash = '#case=demo/round_hard/memit_mle/0/9999'")
    tab.wait(f"{EXPLORER}.querySelector('[role=alert]')")
    assert "has no case at" in case(tab)
    tab.run("location.hash = '#case=%E0%A4%A'")  # not even text
    tab.wait(f"{EXPLORER}.querySelector('[role=alert]').innerText.includes('%E0')")


def test_a_method_that_failed_is_shown_as_failed(tab):
    choose(tab, EXPLORER, "outcome", "yes: an edit broke off")
    assert status(tab).startswith("24 of")
    tab.run(f"{EXPLORER}.querySelector('.pairs a').click()")
    tab.wait(f"{EXPLORER}.querySelector('.probes')")
    assert "an edit broke off" in case(tab)
    states = "[...document.querySelectorAll('.probes thead th')].map(th => th.innerText)"
    assert tab.run(states) == ["Probe", "before"]


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
        !(node.innerText || node.getAttribute('aria-label') || (node.labels && node.labels.length)))"""
    assert tab.run(f"{nameless}.map(node => node.outerHTML)") == []


def test_definitions_appear_on_focus_and_on_hover(tab):
    tip = "document.getElementById('tip')"
    tab.run(header(tab, "table2", "IR") + ".focus()")
    assert "less likely than in the unedited model" in tab.run(f"{tip}.innerText")
    assert tab.run("document.activeElement.getAttribute('aria-describedby')") == "tip"
    tab.press("Escape")
    assert tab.run(f"{tip}.hidden")
    where = f"{header(tab, 'table2', 'FR')}.getBoundingClientRect()"
    tab.run(header(tab, "table2", "FR") + ".scrollIntoView({block: 'center'})")
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
    assert tab.run("document.querySelectorAll('details').forEach(d => d.open = true)") is None
    assert tab.run("document.documentElement.scrollWidth") <= width
    images = "[...document.images].every(i => i.src.startsWith('data:'))"
    assert tab.run(images)


# --- pages with their cases beside them -------------------------------------------------------------------
@pytest.fixture(scope="module")
def chunked(tmp_path_factory):
    """A page with chunks of a few cases, beside it in `cases/`."""
    folder = tmp_path_factory.mktemp("chunked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aftershock.page.explorer.PAIRS", 10)
        found = explore(pages.settings(), chunk=20)
        (folder / "index.html").write_text(page(pages.material(explorer=found)), encoding="utf-8")
        (folder / "cases").mkdir()
        for name, text in chunk_files(found).items():
            (folder / "cases" / name).write_text(text, encoding="utf-8")
    return folder


def opened(browser: Browser, folder: Path, address: str) -> None:
    browser.resize(1200)
    browser.problems.clear()
    browser.requests.clear()
    browser.open("about:blank")
    browser.open((folder / "index.html").as_uri() + address)


def test_chunks_are_loaded_when_a_case_is_opened(browser, chunked):
    opened(browser, chunked, "#case=demo/reverse/memit/0/20")
    browser.wait(f"{EXPLORER}.querySelector('.probes')")
    assert case(browser).startswith("reverse · case 20 · memit")
    scripts = [r.split("/")[-1] for r in browser.requests if r.endswith(".js")]
    assert len(scripts) == 1
    browser.run("location.hash = '#case=demo/reverse/memit/0/21'")  # in the same chunk
    browser.wait(f"{EXPLORER}.querySelector('h3').innerText.includes('case 21')")
    browser.run("location.hash = '#case=demo/coverage/rome/0/0'")
    browser.wait(f"{EXPLORER}.querySelector('h3').innerText.includes('coverage')")
    assert len([r for r in browser.requests if r.endswith(".js")]) == 2
    assert browser.problems == []
    assert all(r.startswith(("file:", "data:", "about:")) for r in browser.requests)


def test_a_chunk_that_is_gone_is_said(browser, chunked):
    gone = sorted((chunked / "cases").iterdir())[-1]
    text = gone.read_text()
    gone.unlink()
    opened(browser, chunked, "#case=demo/round_hard/ft/0/23")
    browser.wait(f"{EXPLORER}.querySelector('[role=alert]')")
    assert f"cases/{gone.name} is not beside this page" in case(browser)
    gone.write_text(text.replace('"id":23', '"id":99'))
    browser.run("location.hash = '#case=demo/round_hard/rome/0/23'")
    browser.wait(f"{EXPLORER}.innerText.includes('belongs to another page')")
