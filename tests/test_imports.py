"""Imports point one way, and what Snakemake loads needs no torch."""

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workflow" / "aftershock"
TENSORS = {"torch", "transformers", "tokenizers", "safetensors"}
# Modules beside the packages that import each other alone: everything may use them.
SHARED = {
    *("figure_names", "labels", "lock", "matching", "offline", "output", "process", "project"),
    *("progress", "prompts", "requests", "second_edit", "seeds", "text_files"),
}
# What else packages, and the modules beside them, may import: what lies below, from the bottom to the top.
ALLOWED = {
    **dict.fromkeys(sorted(SHARED), set()),
    "tables": set(),
    "shards": {"tables"},
    "kg": {"schema", "tables"},
    "paraphrases": {"kg", "tables"},
    "datasets": {"kg", "tables"},
    "schema": {"datasets"},
    "lm": {"tables"},
    "editors": {"lm", "schema"},
    "experiments": {"datasets", "editors", "lm", "tables"},
    "metrics": {"datasets", "tables"},
    "words": {"metrics"},
    "verdicts": {"datasets", "metrics", "words"},
    "figures": {"datasets", "metrics"},
    "dataset_figure": {"datasets", "figures"},
    "training_figure": {"figures"},
    "layers": {"figures", "metrics", "tables"},
    "paper": {"datasets", "metrics", "tables", "verdicts", "words"},
    "page": {"datasets", "metrics", "verdicts", "words"},
    "report": {"datasets", "metrics", "page", "training_figure", "verdicts"},
    "stage": {"jobs"},
    "jobs": {"datasets"},
    "provenance": {"jobs", "kg", "stage", "tables"},
    "tasks": {"datasets", "lm", "paraphrases", "schema", "tables"},
    "config": {"tasks", "datasets", "editors", "experiments", "kg", "lm", "metrics", "schema"},
    "budget": {"config", "datasets", "editors", "experiments", "jobs", "kg", "metrics", "schema", "tasks"},
    "launch": {"config", "jobs"},
    "library": {"editors", "lm"},
    "command": {
        *("budget", "datasets", "editors", "jobs", "kg", "launch", "library", "lm", "metrics"),
        *("provenance", "schema", "tasks"),
    },
    "__main__": {"command"},
}
# Imports that point the other way, still.
CYCLES = {("kg", "schema"), ("jobs", "stage")}
WITH_TENSORS = {"command", "lm", "library", "editors", "experiments", "provenance", "stage", "tasks"}
WITHOUT_TENSORS = set(ALLOWED) - WITH_TENSORS
WITH_SNAKEMAKE = {"jobs", "launch"}


@cache
def imports(file: Path) -> tuple[str, ...]:
    """Full names of all that a file imports, names taken from a module included."""
    return tuple(_imports(file))


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts() -> dict[str, list[Path]]:
    """The files of every package, and of every module beside the packages."""
    packages = {file.parent.name: sorted(file.parent.rglob("*.py")) for file in PACKAGE.glob("*/__init__.py")}
    return packages | {file.stem: [file] for file in PACKAGE.glob("*.py") if file.stem != "__init__"}


def imported_parts(file: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(file) if name.startswith("aftershock.")}


def test_the_table_has_every_package_and_module() -> None:
    assert set(parts()) == set(ALLOWED)


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_only_what_lies_below(part: str) -> None:
    for file in parts()[part]:
        assert imported_parts(file) <= {part} | ALLOWED[part] | SHARED, file


def test_imports_point_one_way() -> None:
    below = {
        part: {other for other in allowed if (part, other) not in CYCLES} for part, allowed in ALLOWED.items()
    }
    graphlib.TopologicalSorter(below).prepare()  # CycleError names a cycle


@pytest.mark.parametrize("part", sorted(WITHOUT_TENSORS))
def test_parts_without_tensors(part: str) -> None:
    for file in parts()[part]:
        assert not {name.split(".")[0] for name in imports(file)} & TENSORS, file


@pytest.mark.parametrize("part", sorted(set(ALLOWED) - WITH_SNAKEMAKE))
def test_parts_without_snakemake(part: str) -> None:
    for file in parts()[part]:
        assert "snakemake" not in {name.split(".")[0] for name in imports(file)}, file


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


def loaded_by(code: str) -> set[str]:
    """Top-level names of all modules that are loaded after some code has run."""
    said = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    found = subprocess.run(
        [sys.executable, "-c", f"{code}\n{said}"],
        env={"PYTHONPATH": str(ROOT / "workflow")},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(found.stdout.split())


def test_snakemake_files_load_no_tensor_library() -> None:
    lines = workflow_imports()
    assert lines
    assert not loaded_by("\n".join(lines)) & (TENSORS | {"matplotlib"})


@pytest.mark.parametrize("program", ["why", "status"])
def test_programs_that_look_at_a_run_load_no_tensor_library(program: str) -> None:
    assert not loaded_by(f"import aftershock.jobs.{program}") & (TENSORS | {"pandas", "snakemake"})


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
