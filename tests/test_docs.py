"""Files, modules and names that documents, docstrings and comments cite exist."""

from collections.abc import Callable, Iterable
from functools import cache
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


def missing(
    passages: Iterable[Passage],
    find: Callable[[Passage], list[str]],
    resolves: Callable[[Passage, str], bool],
) -> list[str]:
    """Return the citations of passages that resolve to nothing, as file:line: citation."""
    return [
        f"{passage.file.relative_to(ROOT)}:{passage.line_of(cited)}: {cited}"
        for passage in passages
        for cited in find(passage)
        if not resolves(passage, cited)
    ]


def none_of(found: list[str]) -> None:
    assert not found, "nothing of these is there:\n" + "\n".join(found)


def test_links_resolve() -> None:
    none_of(missing(cited(), citations.links, citations.link_resolves))


def test_files_that_are_named_are_there() -> None:
    none_of(missing(cited(), citations.paths, citations.path_resolves))


def test_modules_that_are_named_are_there() -> None:
    none_of(missing(cited(), citations.modules, lambda _, name: citations.module_resolves(name)))


def test_names_in_backticks_are_in_the_code() -> None:
    none_of(missing(cited(), citations.names, lambda _, name: citations.name_resolves(name)))


def test_guides_of_packages_name_what_these_hold() -> None:
    none_of(missing(citations.guides(), citations.names, citations.guide_resolves))


def test_settings_that_documents_show_are_there() -> None:
    documents = [passage for passage in cited() if passage.file.suffix == ".md"]
    none_of(missing(documents, citations.settings, lambda _, key: citations.key_resolves(key)))


def test_make_targets_are_there() -> None:
    none_of(missing(cited(), citations.make_targets, lambda _, name: name in citations.targets()))


@pytest.mark.parametrize(
    ("text", "find", "resolves"),
    [
        ("[a guide](docs/gone.md)", citations.links, citations.link_resolves),
        ("[a part](README.md#gone)", citations.links, citations.link_resolves),
        ("see lm/gone.py", citations.paths, citations.path_resolves),
        ("`editors/gone`", citations.paths, citations.path_resolves),
        ("`aftershock.lm.gone.x`", citations.modules, lambda _, name: citations.module_resolves(name)),
        ("`tokens.gone_name`", citations.names, lambda _, name: citations.name_resolves(name)),
        ("`shards.minutes_gone`", citations.names, lambda _, name: citations.name_resolves(name)),
        ("    make gone", citations.make_targets, lambda _, name: name in citations.targets()),
        ("`gone_key: 3`", citations.settings, lambda _, key: citations.key_resolves(key)),
    ],
)
def test_what_is_gone_is_found(
    text: str, find: Callable[[Passage], list[str]], resolves: Callable[[Passage, str], bool]
) -> None:
    assert missing([Passage(ROOT / "README.md", 7, text)], find, resolves)


def test_a_program_is_read_by_docstrings_and_comments(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text('"""See `a`."""\n\nx = "`b`"  # see `c`\n', encoding="utf-8")
    found = [name for passage in citations.passages(file) for name in citations.names(passage)]
    assert found == ["a", "c"]
