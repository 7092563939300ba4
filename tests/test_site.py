"""The documentation's site, built with warnings as errors, and its pages of schemas and docstrings."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from aftershock.schema import read_schema

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(find_spec("mkdocs") is None, reason="the dependency group docs is missing")


def text_of(page: Path) -> str:
    """Return a page's text without its tags."""
    return re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_document_is_a_page_that_can_be_reached(site: Path) -> None:
    start = (site / "index.html").read_text(encoding="utf-8")
    for document in (ROOT / "docs").glob("*.md"):
        assert (site / document.stem / "index.html").is_file()
        assert f'href="{document.stem}/"' in start, document
    assert "Measure" not in (site / "LICENSE").read_text(encoding="utf-8")
    assert not list(site.rglob("*.py"))


@pytest.mark.parametrize(
    ("page", "schema"),
    [
        ("configuration", "config"),
        ("model-files", "model"),
        ("task-files", "task"),
        ("device-files", "devices"),
    ],
)
def test_reference_pages_have_every_key_with_its_description(site: Path, page: str, schema: str) -> None:
    found = " ".join(text_of(site / "reference" / page / "index.html").split())
    root = read_schema(schema)
    for key, part in (root.get("properties") or root["additionalProperties"]["properties"]).items():
        assert key in found
        described = part.get("description", "").replace("`", "").split(",")[0]
        assert " ".join(described.split()) in found.replace("&amp;", "&"), key


def test_a_key_below_has_its_values_and_default(site: Path) -> None:
    found = " ".join(text_of(site / "reference" / "configuration" / "index.html").split())
    assert "engine.precision: of passes through a model" in found
    assert "(one of strict, tf32, bf16; default strict)" in found
    assert "kgs.NAME.source: generated" in found
    assert "report.bars.N.at_least: lowest value that is good enough (number; required)" in found
    datasets = ", ".join(read_schema("config")["$defs"]["dataset"]["enum"])
    assert f"(any of {datasets}; required)" in found


def test_the_library_is_shown_with_its_examples_as_code(site: Path) -> None:
    page = (site / "reference" / "library" / "index.html").read_text(encoding="utf-8")
    assert "<blockquote>" not in page
    found = text_of(site / "reference" / "library" / "index.html")
    for name in ("edit", "score", "generate", "export", "EditRequest", "Query", "LanguageModel"):
        assert re.search(rf"^\s*{name}\b", found, flags=re.MULTILINE), name
    assert "&gt;&gt;&gt; " in page
