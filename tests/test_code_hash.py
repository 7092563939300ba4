"""The hash of the package code changes with what runs, however it is imported, and with nothing else."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aftershock import code_hash as hashing
from aftershock.code_hash import code_hash
from aftershock.output import write_text


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of six modules that import each other in every way there is."""
    folder = tmp_path / "aftershock"
    files = {
        "__init__.py": '"""Top."""\n',
        "room/__init__.py": '"""Room."""\n',
        "room/main.py": "import aftershock.room.one\nfrom aftershock.room import two\nfrom . import three\n",
        "room/one.py": "def f():\n    from aftershock.far import g\n    return g\n",
        "room/two.py": "import numpy\n",
        "room/three.py": "from .two import x\n",
        "far.py": '"""Far."""\n# why\ndef g():\n    """One."""\n    return 1\n',
        "apart.py": "y = 1\n",
    }
    for name, text in files.items():
        write_text(folder / name, text)
    monkeypatch.setattr(hashing, "PACKAGE", folder)
    monkeypatch.chdir(tmp_path)
    yield folder
    forget()


def forget() -> None:
    """As a new process begins."""
    hashing._kept.clear()
    hashing._known.clear()
    for function in (hashing._parsed, hashing._imports):
        function.cache_clear()


def hash_after(file: Path, text: str) -> str:
    file.write_text(text)
    forget()
    return code_hash("aftershock.room.main")


def test_hash_ignores_what_does_not_run(package: Path) -> None:
    forget()
    before = code_hash("aftershock.room.main")
    assert (
        hash_after(package / "far.py", '"""Else."""\n\ndef g():\n    "Two."\n    return (1)  # because\n')
        == before
    )
    assert hash_after(package / "apart.py", "y = 2\n") == before


@pytest.mark.parametrize("file", ["far.py", "room/one.py", "room/two.py", "room/three.py", "__init__.py"])
def test_hash_sees_every_import(package: Path, file: str) -> None:
    forget()
    before = code_hash("aftershock.room.main")
    assert hash_after(package / file, (package / file).read_text() + "\nz = 3\n") != before


def test_hash_of_a_room_is_of_all_its_modules(package: Path) -> None:
    forget()
    before = code_hash("aftershock.room")
    write_text(package / "room" / "four.py", "a = 1\n")
    forget()
    assert code_hash("aftershock.room") != before


@pytest.mark.parametrize("name", ["aftershock.rom.main", "aftershock.room.mian", "numpy"])
def test_hash_of_nothing_is_an_error(package: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"no file of module '{name}'"):
        code_hash(name)


def test_what_was_parsed_is_known_to_the_next_start(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    before = code_hash("aftershock.room")
    hashing.keep_parsed()
    forget()
    monkeypatch.setattr(hashing.ast, "parse", lambda *_, **__: pytest.fail("parsed again"))
    assert code_hash("aftershock.room") == before
    monkeypatch.undo()
    monkeypatch.setattr(hashing, "PACKAGE", package)
    assert hash_after(package / "room" / "one.py", "q = 1\n") != before
    hashing.KEPT.write_text('{"half')
    forget()
    assert code_hash("aftershock.room.two")


def test_a_name_becomes_a_module_when_its_file_appears(package: Path) -> None:
    forget()
    (package / "room" / "main.py").write_text("from aftershock.room import late\n")
    before = code_hash("aftershock.room.main")
    hashing.keep_parsed()
    write_text(package / "room" / "late.py", "a = 1\n")
    forget()
    assert code_hash("aftershock.room.main") != before
