"""Steps that tests take with a page in a browser: `tab` is one that is open."""

import json

TABLE = "document.getElementById('table-{}')"


def opened(browser, folder, address=""):
    """Open the page of a folder anew, at an address inside it, with nothing noted before."""
    browser.resize(1200)
    browser.problems.clear()
    browser.requests.clear()
    browser.open("about:blank")
    browser.open((folder / "index.html").as_uri() + address)


def column(tab, table, place=0):
    """The texts of one column of a table's body, as far as it is on the page."""
    rows = f"[...{TABLE.format(table)}.querySelectorAll('tbody tr')]"
    return tab.run(f"{rows}.map(row => row.children[{place}].textContent.trim())")


def header(tab, table, name):
    """An expression for the button that sorts a table by one column."""
    buttons = f"[...{TABLE.format(table)}.querySelectorAll('thead button')]"
    return f"{buttons}.find(b => b.textContent.trim().startsWith({json.dumps(name)}))"


FRAME = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"


def bring(tab, node):
    """Scroll a node into the middle; those around it are laid out on the way, so that it moves at first."""
    before = place = None
    while place is None or place != before:
        before = place
        tab.run(f"{node}.scrollIntoView({{block: 'center'}})")
        tab.run(FRAME)
        place = tab.run(f"{node}.getBoundingClientRect().top")


def choose(tab, place, name, option):
    """Choose an option, by its text, in the list called `name`."""
    tab.run(
        f"""(() => {{
        const label = [...{place}.querySelectorAll('label')].find(l => l.firstChild.textContent === {name!r});
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
