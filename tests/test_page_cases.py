"""The case explorer in a real browser, with its cases in the page and beside it."""

from dataclasses import replace

import pytest

import pages
from aftershock.page.explorer import explore
from aftershock.report import chunk_files, page
from tabs import EXPLORER, case, choose, listed, opened, status

pytestmark = pytest.mark.program("chromium")
pytest_plugins = ("tab_fixtures",)


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
    headings = ("OLD FACT", "NEW FACT", "TIED FACT", "CONTROLS", "second alone")
    for words in ("First edit", "Second edit", *headings):
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
    opened(tab, site, "#case=demo/round_hard/memit_mle/0/7")
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


def test_a_case_of_many_methods_is_listed_with_one_of_them(browser, tmp_path):
    """Ten methods: the list names the one that is open, and the case itself has a link to each."""
    setting = pages.setting_of("composite", 3)
    (run, *_) = setting.runs
    many = [replace(run, run={**run.run, "editor": f"method {i}"}) for i in range(10)]
    found = explore([replace(setting, runs=many)])
    (tmp_path / "index.html").write_text(page(pages.material(explorer=found)), encoding="utf-8")
    opened(browser, tmp_path, "#case=demo/composite/method 7/0/1")
    browser.wait(f"{EXPLORER}.querySelector('.probes')")
    methods = [link.split("/")[2] for link in listed(browser)]
    assert methods == ["method%207"] * 3
    assert browser.run(f"{EXPLORER}.querySelector('.pairs').innerText").count("and 9 more methods") == 3
    links = "[...document.querySelectorAll('.case > .methods a')].map(a => a.innerText)"
    assert {f"method {i}" for i in range(10)} <= set(browser.run(links))
    choose(browser, EXPLORER, "method", "method 3")
    assert [link.split("/")[2] for link in listed(browser)] == ["method%203"] * 3
