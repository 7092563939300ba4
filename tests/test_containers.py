"""The recipes of containers/ make the environment that `make` makes, and agree with each other."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from test_dependencies import CONSTRAINTS, PYPROJECT, ROOT, group

FOLDER = ROOT / "containers"
NEEDED = ["Makefile", "pyproject.toml", "constraints.txt"]


def instructions(name: str) -> str:
    """A recipe without its comments, lines that go on joined."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    kept = "\n".join(line.strip() for line in lines if not line.lstrip().startswith("#"))
    return kept.replace("\\\n", " ")


def base(name: str) -> str:
    return re.search(r"^from:? (\S+)$", instructions(name), re.MULTILINE | re.IGNORECASE)[1]


def packages(name: str) -> list[str]:
    """The Debian packages of a recipe, in the only call that installs any."""
    (call,) = re.findall(r"apt-get install ([^\n&]*)", instructions(name))
    assert "--no-install-recommends" in call.split()
    return [word for word in call.split() if not word.startswith("-")]


def make(folder: Path, *arguments: str, image: Path | None = None) -> subprocess.CompletedProcess:
    """`make` on a machine, or in a container whose environment is in `image`."""
    env = {name: value for name, value in os.environ.items() if name != "AFTERSHOCK_IMAGE"}
    env |= {"AFTERSHOCK_IMAGE": str(image)} if image else {}
    command = ["make", *arguments]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )


RECIPES = pytest.mark.parametrize("name", ["Dockerfile", "aftershock.def"])


@RECIPES
def test_the_base_has_the_python_that_was_tested(name: str) -> None:
    image, tag = base(name).split(":")
    assert image == "python"  # no registry of its own
    version = tag.partition("-")[0]
    assert version in SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert f"as tested on Python {version}." in (ROOT / "constraints.txt").read_text(encoding="utf-8")
    environment = yaml.safe_load((ROOT / "envs" / "models.yaml").read_text(encoding="utf-8"))
    assert f"python={version}" in environment["dependencies"]


@RECIPES
def test_a_recipe_makes_the_environment_of_make_and_names_no_version(name: str) -> None:
    text = instructions(name)
    calls = re.findall(r"\bmake environment\b.*", text)
    assert [re.sub(r'"\$PIP_ARGS"|"\{\{ PIP_ARGS \}\}"', "X", call) for call in calls] == [
        "make environment PIP_ARGS=X"
    ]
    words = {canonicalize_name(word) for word in re.findall(r"[A-Za-z][\w.-]*", text)}
    assert not words & set(CONSTRAINTS)
    assert "==" not in text
    assert "://" not in (FOLDER / name).read_text(encoding="utf-8")
    assert not re.search(r"index-url [^A\"]|find-links|/home/|/Users/|/work/", (FOLDER / name).read_text())
    assert "rm -rf /var/lib/apt/lists/*" in text


@RECIPES
@pytest.mark.program("make")
def test_what_a_recipe_copies_is_enough_and_installs_what_a_run_needs(tmp_path: Path, name: str) -> None:
    if name == "Dockerfile":
        copied = re.search(r"^COPY (.*) \./$", instructions(name), re.MULTILINE)[1].split()
    else:
        copied = re.findall(r"^(\S+) /opt/aftershock/$", instructions(name), re.MULTILINE)
    assert copied == NEEDED
    for file in copied:
        shutil.copy(ROOT / file, tmp_path)
    run = make(tmp_path, "-n", "environment")
    assert re.search(r"pip install .*-c constraints.txt --group dev$", run.stdout, re.MULTILINE)
    assert group("workflow") | group("encoder") | group("slurm") <= group("dev")


def test_both_recipes_agree() -> None:
    assert base("Dockerfile") == base("aftershock.def")
    assert packages("Dockerfile") == packages("aftershock.def") == ["make"]
    for line in ("AFTERSHOCK_IMAGE=/opt/aftershock", "PATH=/opt/aftershock/.venv/bin:$PATH"):
        assert line in instructions("Dockerfile")
        assert f"export {line}" in instructions("aftershock.def")


def test_docker_sends_only_what_is_copied_and_does_not_run_as_root() -> None:
    ignore = (FOLDER / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert ignore == ["*", *(f"!{file}" for file in NEEDED)]
    users = re.findall(r"^USER (\S+)$", instructions("Dockerfile"), re.MULTILINE)
    assert users
    assert users[-1] not in ("root", "0")


@pytest.mark.program("make")
def test_make_takes_the_environment_of_a_container_and_refuses_an_outdated_one(tmp_path: Path) -> None:
    image, clone = tmp_path / "image", tmp_path / "clone"
    for folder in (image, clone):
        folder.mkdir()
        shutil.copy(ROOT / "constraints.txt", folder)
    shutil.copy(ROOT / "Makefile", clone)
    assert make(clone, "environment", image=image).returncode == 0
    assert f"{image}/.venv/bin/python -m aftershock demo" in make(clone, "-n", "demo", image=image).stdout
    (image / "constraints.txt").write_text("torch==2.12.0\n")
    run = make(clone, "environment", image=image)
    assert run.returncode
    assert "This container was built with other versions than constraints.txt names" in run.stderr
    assert not (clone / ".venv").exists()
