"""The hash of a stage's code changes with what the stage computes, and with nothing else."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aftershock.editors.regularisers import code_of_entries
from aftershock.output import write_text
from aftershock.provenance import code_hash as hashing
from aftershock.provenance.code_hash import code_hash, needed_symbols

ROOT = Path(__file__).parents[1]
MAIN = '''
from typing import TYPE_CHECKING

import aftershock.room.one
import aftershock.room.six as aliased
from aftershock.room import two
from aftershock.room import three
from aftershock.progress import Progress
from aftershock.far import KEPT

if TYPE_CHECKING:
    from aftershock.apart import Kind

def start(x: int, progress: Progress | None = None) -> int:
    """Begin."""
    return aftershock.room.one.f() + two.y + three.x + Inner().go(KEPT)

def unused():
    from aftershock.far import lost
    return lost()

class Inner:
    kind: Kind = aliased.z

    def go(self, x):
        print("going")
        return helper(x)

def helper(x):
    return x
'''
FILES = {
    "__init__.py": '"""Top."""\n',
    "room/__init__.py": '"""Room."""\nOUTER = 1\n',
    "room/main.py": MAIN,
    "room/one.py": "def f():\n    from aftershock.far import g\n    return g\n\ndef f2():\n    return 2\n",
    "room/two.py": "import numpy\ny = 1\n",
    "room/three.py": "from aftershock.room.four import x\n",
    "room/four.py": "x = 1\n",
    "room/six.py": "z = 1\n",
    "far.py": '"""Far."""\n# why\ndef g():\n    """One."""\n    return 1\n\nKEPT = {}\nlost = None\n',
    "progress.py": "class Progress:\n    def step(self): return 1\n",
    "apart.py": "Kind = int\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package whose modules import each other in every way there is."""
    folder = tmp_path / "aftershock"
    for name, text in FILES.items():
        write_text(folder / name, text)
    monkeypatch.setattr(hashing, "PACKAGE", folder)
    look_again()
    yield folder
    look_again()


def look_again() -> None:
    """As a new process begins: files may have changed."""
    for function in vars(hashing).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()


ON_IMPORT = "KEPT = {}\nfor _ in ():\n    KEPT.clear()"
CHANGES = {
    True: [
        ("far.py", "return 1", "return 2"),  # imported within a function
        ("far.py", "KEPT = {}", "KEPT = {1: 2}"),
        ("far.py", "KEPT = {}", "KEPT = {}\nKEPT[3] = 4"),  # filled by a later statement
        ("far.py", "KEPT = {}", ON_IMPORT),
        ("room/two.py", "y = 1", "y = 2"),  # an attribute of an imported module
        ("room/four.py", "x = 1", "x = 2"),  # handed on by a third module
        ("room/six.py", "z = 1", "z = 2"),  # by another name
        ("room/main.py", "    return x", "    return -x"),  # through a method
        ("room/main.py", "f() + two", "f() - two"),
    ],
    False: [
        ("apart.py", "Kind = int", "Kind = str"),  # imported for types alone
        ("far.py", '"""One."""', '"""Another."""'),
        ("far.py", "# why", "# because"),
        ("far.py", "lost = None", "lost = 1"),  # beside what is needed
        ("room/one.py", "return 2", "return 3"),
        ("room/main.py", "return lost()", "return lost() + 1"),
        ("room/main.py", 'print("going")', 'print("going on", x)'),
        ("room/main.py", "x: int", "x: float"),
        ("progress.py", "return 1", "return 2"),
        ("room/__init__.py", "OUTER = 1", "OUTER = 2"),
    ],
}
"""Changes of code that `start` needs, and of other code."""


@pytest.mark.parametrize(
    ("counts", "change"), [(c, change) for c, some in CHANGES.items() for change in some]
)
def test_what_a_definition_needs_counts_and_nothing_else(package: Path, counts: bool, change: tuple) -> None:
    before = code_hash("aftershock.room.main:start")
    file, old, new = change
    text = (package / file).read_text()
    assert old in text
    (package / file).write_text(text.replace(old, new))
    look_again()
    assert (code_hash("aftershock.room.main:start") != before) is counts


def test_a_file_counts_as_a_whole_and_wherever_it_lies(package: Path) -> None:
    script = "from aftershock.far import g\n\nwith open('x') as run:\n    run.write(g())\n"
    here, there = (package.parent / folder / "work.py" for folder in ("here", "there"))
    for file in (here, there):
        write_text(file, script)
    before = code_hash(str(here))
    assert code_hash(str(there)) == before
    write_text(there, script.replace("write", "read"))
    look_again()
    assert code_hash(str(there)) != before
    write_text(package / "far.py", FILES["far.py"].replace("return 1", "return 2"))
    look_again()
    assert code_hash(str(here)) != before


def test_a_package_counts_with_all_its_modules_by_its_name_and_by_its_file(package: Path) -> None:
    write_text(package.parent / "mine" / "__init__.py", "METHOD = 1\n")
    for root, folder in (
        ("aftershock.room", package / "room"),
        (str(package.parent / "mine" / "__init__.py"), package.parent / "mine"),
    ):
        before = code_hash(root)
        write_text(folder / "five.py", "a = 1\n")
        look_again()
        assert code_hash(root) != before


@pytest.mark.parametrize("name", ["aftershock.rom.main", "aftershock.room.mian", "numpy"])
def test_hash_of_nothing_is_an_error(package: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"no file of module '{name}'"):
        code_hash(name)
    with pytest.raises(ValueError, match=r"no definition 'stop' in module 'aftershock.room.main'"):
        code_hash("aftershock.room.main:stop")


# --- on the project itself ---------------------------------------------------------------------------------
STAGES = sorted(path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py"))
METHOD = """from pydantic.dataclasses import dataclass

from aftershock.editors.contract import Method


@dataclass(frozen=True)
class Settings:
    layers: tuple[int, ...] = (0,)


METHOD = Method(settings=Settings, editor=".edit:Mine", title="Mine")
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the project's package and scripts."""
    for name in ("aftershock", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "workflow" / name, tmp_path / name, ignore=ignored)
    monkeypatch.setattr(hashing, "PACKAGE", tmp_path / "aftershock")
    look_again()
    yield tmp_path
    look_again()


def hashes(project: Path) -> dict[str, str]:
    """The hash of every stage, with the editors and the family that the embedded default runs."""
    look_again()
    editors = [f"aftershock.editors.{name}.edit" for name in ("ft", "rome", "memit", "mend")]
    named = [*editors, "aftershock.lm.families.gpt2"]
    return {stage: code_hash(str(project / "scripts" / f"{stage}.py"), *named) for stage in STAGES}


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def a_method(project: Path) -> None:
    write_text(project / "aftershock" / "editors" / "mine" / "__init__.py", METHOD)
    write_text(project / "aftershock" / "editors" / "mine" / "edit.py", "class Mine:\n    pass\n")


def a_family(project: Path) -> None:
    families = project / "aftershock" / "lm" / "families"
    write_text(families / "mine.py", (families / "llama.py").read_text())


def a_dataset(project: Path) -> None:
    entry = '    Dataset("mine", "round", "mine", "Mine.", ROUND_STATES, "mine.json"),\n'
    replace(project / "aftershock" / "datasets" / "table.py", "\n)\nDATASETS", f"\n{entry})\nDATASETS")


def a_task(project: Path) -> None:
    write_text(project / "resources" / "tasks" / "mine.yaml", "name: mine\n")


def a_line_in_the_progress_bar(project: Path) -> None:
    file = project / "aftershock" / "progress.py"
    file.write_text(file.read_text() + "\n\ndef more() -> str:\n    return 'more'\n")
    old = "        progress.step(share)\n    return ("
    new = "        progress.step(share, more=1)\n    return ("
    replace(project / "aftershock" / "experiments" / "cases.py", old, new)


def a_log_message(project: Path) -> None:
    old = "    walk = Walk(editor, states, seed)\n"
    new = f'{old}    logging.info("%d cases", len(all_ids))\n    print("editing")\n'
    replace(project / "aftershock" / "experiments" / "cases.py", old, new)


def test_what_is_added_beside_a_stage_makes_nothing_again(project: Path) -> None:
    before = hashes(project)
    for add in (a_method, a_family, a_dataset, a_task, a_line_in_the_progress_bar, a_log_message):
        add(project)
    changed = {stage for stage, found in hashes(project).items() if found != before[stage]}
    assert not changed


def test_a_changed_editor_makes_its_own_edits_again(project: Path) -> None:
    script, family = str(project / "scripts" / "edit.py"), "aftershock.lm.families.gpt2"
    mine, other = "aftershock.editors.rome.edit:Rome", "aftershock.editors.memit.edit:Memit"
    before = {editor: code_hash(script, editor, family) for editor in (mine, other)}
    file = project / "aftershock" / "editors" / "rome" / "edit.py"
    replace(file, "keys.mean(dim=1)", "keys.sum(dim=1)")
    look_again()
    assert code_hash(script, mine, family) != before[mine]
    assert code_hash(script, other, family) == before[other]


def reachable(*roots: str) -> set[str]:
    """The modules that the hash of some roots covers."""
    return {module for module, _ in needed_symbols(*roots)}


def test_only_editors_with_regularisers_depend_on_their_code() -> None:
    rect, prune = [{"rect": {}}], [{"prune": {}}]
    script, memit = str(ROOT / "workflow/scripts/edit.py"), "aftershock.editors.memit.edit:Memit"
    assert code_of_entries([]) == []
    algebra = {"aftershock.editors.regularise", "aftershock.editors.regularised"}
    assert not algebra & reachable(script, memit)
    assert algebra <= reachable(script, memit, *code_of_entries(rect))
    hashes = {
        code_hash(script, memit, *code_of_entries(listed)) for listed in ([], rect, prune, rect + prune)
    }
    assert len(hashes) == 4
