"""Imports point one way, and what Snakemake loads needs no torch."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workflow" / "aftershock"
TENSORS = {"torch", "transformers", "tokenizers", "safetensors"}
ALLOWED = {
    "kg": {"kg"},
    "datasets": {"datasets", "kg"},
    "metrics": {"metrics"},
    "paraphrases": {"paraphrases", "kg"},
    "lm": {"lm"},
    "editors": {"editors", "lm"},
    "experiments": {"experiments", "datasets", "editors", "lm"},
    "costs": {"costs", "datasets", "editors", "jobs", "kg", "metrics"},
    "jobs": {"jobs", "datasets", "kg"},
}


def imports(file: Path) -> Iterator[str]:
    """Full names of all that a file imports, names taken from a module included."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def rooms_of(names: Iterator[str]) -> set[str]:
    found = {name.split(".")[1] for name in names if name.startswith("aftershock.")}
    return found & set(ALLOWED)


def modules(room: str) -> list[Path]:
    found = sorted((PACKAGE / room).rglob("*.py"))
    assert found, f"no module in {room}"
    return found


@pytest.mark.parametrize("room", ALLOWED)
def test_rooms_import_only_what_lies_below(room: str) -> None:
    for file in modules(room):
        assert rooms_of(imports(file)) <= ALLOWED[room], file.name


@pytest.mark.parametrize("room", ["kg", "datasets", "metrics", "paraphrases", "costs"])
def test_rooms_without_tensors(room: str) -> None:
    for file in modules(room):
        assert not {name.split(".")[0] for name in imports(file)} & TENSORS, file.name


def test_no_editor_imports_another() -> None:
    for folder in (path for path in (PACKAGE / "editors").iterdir() if (path / "__init__.py").is_file()):
        for file in folder.rglob("*.py"):
            named = {name.split(".")[2] for name in imports(file) if name.startswith("aftershock.editors.")}
            others = {n for n in named - {folder.name} if (PACKAGE / "editors" / n / "edit.py").is_file()}
            editors = {f"aftershock.editors.{other}.edit" for other in others}
            assert not [name for name in imports(file) if name.startswith(tuple(editors))], file


def workflow_imports() -> list[str]:
    """The import statements of the Snakefile and all .smk files that concern the package."""
    lines = []
    for file in [ROOT / "Snakefile", *sorted((ROOT / "workflow" / "rules").rglob("*.smk"))]:
        lines += re.findall(r"^(?:from|import) aftershock.*$", file.read_text(encoding="utf-8"), flags=re.M)
    return lines


def test_snakemake_files_load_no_tensor_library() -> None:
    lines = workflow_imports()
    assert lines
    loaded = "import sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    found = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, loaded])],
        env={"PYTHONPATH": str(ROOT / "workflow")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert not set(found.stdout.split()) & (TENSORS | {"matplotlib"})


@pytest.mark.parametrize("program", ["why", "status"])
def test_programs_that_look_at_a_run_load_no_tensor_library(program: str) -> None:
    loaded = f"import sys, aftershock.jobs.{program}; print(*{{name.split('.')[0] for name in sys.modules}})"
    found = subprocess.run(
        [sys.executable, "-c", loaded],
        env={"PYTHONPATH": str(ROOT / "workflow")},
        check=True,
        capture_output=True,
        text=True,
    )
    assert not set(found.stdout.split()) & (TENSORS | {"pandas", "snakemake"})


def test_nothing_read_is_executed() -> None:
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and hasattr(node.func, "id")
        }
        keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword)]
        assert not {name.split(".")[0] for name in imports(file)} & {"pickle", "joblib", "shelve"}, file
        assert not calls & {"eval", "exec"}, file
        assert not [k for k in keywords if k.arg in ("shell", "trust_remote_code") and k.value.value], file
