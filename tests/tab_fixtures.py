"""Fixtures of a browser with a page of simulated runs."""

import pytest

import pages
from aftershock.report import page
from browser import Browser
from tabs import opened


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of a page of simulated runs."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "index.html").write_text(page(pages.material()), encoding="utf-8")
    return folder


@pytest.fixture
def tab(browser, site):
    """The page, freshly opened, without errors afterwards and without a request beyond itself."""
    opened(browser, site)
    yield browser
    assert browser.problems == []
    assert {r for r in browser.requests if not r.startswith(("data:", "blob:"))} <= {
        "about:blank",
        (site / "index.html").as_uri(),
    }
