"""Files and targets that continuous integration relies on."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(("ci", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_a_missing_program_fails_there_and_only_there(tmp_path: Path, ci: str, outcome: str) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = program(name)\n")
    (tmp_path / "test_it.py").write_text(
        "import pytest\n\n@pytest.mark.program('no-such-browser')\ndef test_it():\n    assert False\n"
    )
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**os.environ, "AFTERSHOCK_CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )
    assert run.stdout.splitlines()[-1].startswith(outcome)


MAKE = """#!/bin/sh
echo "make $*"
echo "$*" >> called
case "$*" in
*"$FAILS"*) exit 1 ;;
test) sleep .3; echo "== 7 passed in 1 s ==" ;;
slurm-test*) echo "== 1 passed in 2 s ==" ;;
demo) grep -c '^demo$' called | grep -q 2 && echo "Nothing to be done" ;;
esac
exit 0
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], subprocess.CompletedProcess]:
    """Run the script with a make that computes nothing and fails where its arguments hold a text."""
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "apt.txt").write_text("# none\n")
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)

    def run(fails: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [tmp_path / ".ci" / "run"],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "FAILS": fails},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_all_steps_are_run_and_timed(script: Callable[[str], subprocess.CompletedProcess]) -> None:
    ran = script("no step")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    *_, cluster, tests = ran.stdout.splitlines()
    assert (cluster, tests) == ("== 1 passed in 2 s ==", "== 7 passed in 1 s ==")
    for step in ("environment", "lint", "documentation", "tests", "cluster", "real model", "demo"):
        assert re.search(rf"^ +\d+ s  {step}", ran.stdout, re.MULTILINE), step
    assert "a real model was edited" in ran.stdout


@pytest.mark.parametrize(
    ("fails", "step", "next_step"),
    [
        ("-m cluster", "cluster", "demo"),
        ("-m real", "real model", "tests"),
        ("lint", "lint", "documentation"),
        ("demo", "demo", "passed"),
    ],
)
def test_a_step_that_fails_is_named_and_the_last(
    script: Callable[[str], subprocess.CompletedProcess], fails: str, step: str, next_step: str
) -> None:
    ran = script(fails)
    assert ran.returncode == 1
    assert ran.stderr == f"CI failed: {step}\n"
    assert not re.search(rf"^=== {next_step} ", ran.stdout, re.MULTILINE)
    assert "make slurm-test PYTEST_ARGS=-m cluster\n" in ran.stdout  # printed, whatever else failed


@pytest.mark.program("make")
def test_an_old_python_is_refused_with_a_clear_message(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.9.1 && exit\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    run = subprocess.run(
        ["make", "environment", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode
    assert f"Aftershock needs Python 3.11 or later; {old} is Python 3.9.1." in run.stderr
    assert not (tmp_path / ".venv").exists()
