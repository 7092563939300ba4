"""pyproject.toml, constraints.txt and envs/ name the same dependencies: those that the code imports."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.metadata import distribution, packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RUN_NOT_IMPORTED = {
    *("accelerate", "fastapi", "hatchling", "mkdocs-material", "mkdocstrings", "mypy", "opentelemetry-api"),
    *("pip", "pre-commit-hooks", "ruff", "snakefmt", "types-jsonschema", "types-psutil", "types-pyyaml"),
    *("types-tqdm", "uvicorn", "yamllint"),
}
OF_ENCODER = {"cloudpickle", "joblib", "narwhals", "scikit-learn", "sentence-transformers", "threadpoolctl"}


def requirements(name: str) -> list[Requirement]:
    """The requirements of a dependency group, those of the groups it includes among them."""
    found = []
    for entry in PYPROJECT["dependency-groups"][name]:
        found += [Requirement(entry)] if isinstance(entry, str) else requirements(entry["include-group"])
    return found


def group(name: str) -> set[str]:
    """Canonical names of a dependency group, those of the groups it includes among them."""
    return {canonicalize_name(requirement.name) for requirement in requirements(name)}


def pins(lines: list[str]) -> dict[str, str]:
    """Versions by canonical name of lines `name==version`."""
    found = [re.split(r"(?:\[\w+\])?==", line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in found}


CONSTRAINTS = pins((ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines())
ENCODER = find_spec("sentence_transformers") is not None  # the optional group is installed
ENVIRONMENTS = ("tables", "models", "encoder", "atlas", "harness")


def test_torch_has_no_local_version() -> None:
    assert CONSTRAINTS["torch"] == "2.13.0"
    assert not [version for version in CONSTRAINTS.values() if Version(version).local]


def test_everything_installed_is_constrained() -> None:
    waiting, seen = requirements("dev") + (requirements("encoder") if ENCODER else []), set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        asked = name, frozenset(requirement.extras)
        if asked in seen or "==" in str(requirement.specifier) and name not in CONSTRAINTS:
            continue  # CUDA libraries, which torch itself pins where it needs them
        seen.add(asked)
        assert name in CONSTRAINTS, f"{name} is in no line of constraints.txt"
        for text in distribution(name).requires or ():
            below = Requirement(text)
            extras = requirement.extras or {""}
            if below.marker is None or any(below.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(below)
    assert set(CONSTRAINTS) == {name for name, _ in seen} or not ENCODER


def test_what_is_installed_has_the_tested_version() -> None:
    for name, version in CONSTRAINTS.items():
        if ENCODER or name not in OF_ENCODER:
            assert Version(distribution(name).version).public == version, name


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_conda_environments_are_the_groups(name: str) -> None:
    environment = yaml.safe_load((ROOT / "envs" / f"{name}.yaml").read_text(encoding="utf-8"))
    *others, with_pip = environment["dependencies"]
    assert others == ["python=3.11", "pip"]
    assert pins(with_pip["pip"]) == {package: CONSTRAINTS[package] for package in group(name)}


@cache
def distributions() -> Mapping[str, list[str]]:
    """The distributions of each top-level package that is installed."""
    return packages_distributions()


def imported(folder: Path, pattern: str) -> set[str]:
    """Canonical names of the distributions that the Python files of a folder import."""
    names = set()
    for file in folder.rglob(pattern):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.split(".")[0])
    ours = {
        "aftershock",
        "benchmarks",
        "docs",
        "slurm",
        *(file.stem for file in (ROOT / "tests").rglob("*.py")),
    }
    owners = distributions()
    return {
        canonicalize_name(owners.get(name, [name])[0]) for name in names - ours - set(sys.stdlib_module_names)
    }


def test_the_code_imports_what_is_declared() -> None:
    used = imported(ROOT / "workflow", "*.py")
    assert used == group("workflow") | group("encoder") | group("slurm") | group("atlas") | group("harness")


def test_packages_without_tensors_need_only_the_tables_environment() -> None:
    used = set()
    for package in ("kg", "datasets", "metrics", "paraphrases"):
        used |= imported(ROOT / "workflow" / "aftershock" / package, "*.py")
    assert used <= group("tables") | group("atlas")


def test_the_tests_import_what_is_declared() -> None:
    used = imported(ROOT / "tests", "*.py") | imported(ROOT / "benchmarks", "*.py")
    assert not used - group("dev") - group("encoder")
    unused = group("dev") - group("workflow") - group("atlas") - used
    assert unused == RUN_NOT_IMPORTED


@pytest.mark.parametrize(
    "file", ["Makefile", "constraints.txt", ".ci/run", *(f"envs/{name}.yaml" for name in ENVIRONMENTS)]
)
def test_no_address_or_path_of_a_machine(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"index-url|find-links|/home/|/Users/", text)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PYPROJECT["project"]["version"]
    assert citation["license"] == PYPROJECT["project"]["license"]
