"""Files, modules and names that documents, docstrings and comments cite exist."""

from collections.abc import Iterable
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

import citations
from citations import ROOT, Passage

pytestmark = pytest.mark.lint


@cache
def cited() -> list[Passage]:
    """Return all text for readers."""
    files = citations.tracked(*citations.CODE, "*.md", "containers/*")
    return [passage for file in files for passage in citations.passages(file)]


def guides() -> list[Passage]:
    """The docstrings of the packages, which say what is in them."""
    files = sorted(citations.PACKAGE.rglob("__init__.py"))
    return [said for file in files for said in islice(citations.passages(file), 1)]


KINDS = {
    "links": (citations.links, citations.link_resolves),
    "files": (citations.paths, citations.path_resolves),
    "modules": (citations.modules, citations.module_resolves),
    "names": (citations.names, citations.name_resolves),
    "guides": (citations.names, citations.guide_resolves),
    "settings": (citations.settings, lambda _, key: key in citations.setting_keys()),
    "targets": (lambda said: citations.MAKE.findall(said.text), lambda _, name: name in citations.targets()),
}


def missing(kind: str, passages: Iterable[Passage]) -> list[str]:
    """Return the citations of passages that resolve to nothing, as file:line: citation."""
    find, resolves = KINDS[kind]
    return [
        f"{passage.file.relative_to(ROOT)}:{passage.line_of(cited)}: {cited}"
        for passage in passages
        for cited in find(passage)
        if not resolves(passage, cited)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cited_is_there(kind: str) -> None:
    """In all text; settings in documents, and in the guides of packages what these hold."""
    passages = guides() if kind == "guides" else cited()
    if kind == "settings":
        passages = [passage for passage in passages if passage.file.suffix == ".md"]
    found = missing(kind, passages)
    assert not found, "nothing of these is there:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("links", "[a guide](docs/gone.md)"),
        ("links", "[a part](README.md#gone)"),
        ("files", "see lm/gone.py"),
        ("files", "`editors/gone`"),
        ("modules", "`aftershock.lm.gone.x`"),
        ("names", "`tokens.gone_name`"),
        ("names", "`shards.minutes_gone`"),
        ("targets", "    make gone"),
        ("settings", "`gone_key: 3`"),
    ],
)
def test_what_is_gone_is_found(kind: str, text: str) -> None:
    assert missing(kind, [Passage(ROOT / "README.md", 7, text)])


def test_a_program_is_read_by_docstrings_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""See `a`."""\n\nx = "`b`"  # see `c`\n', encoding="utf-8")
    found = [name for passage in citations.passages(file) for name in citations.names(passage)]
    assert found == ["a", "c"]
