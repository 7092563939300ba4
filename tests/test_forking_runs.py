"""Jobs that a run of Snakemake forks: which ones, in what environment, and gone with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from snakemake.shell import shell

from aftershock.jobs import forking, patches
from small_workflow import DEADLINE, LAUNCH, SNAKEFILE, WORK, gone, start
from test_forking import LIGHT


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_has_an_interpreter_or_a_benchmark_of_its_own_is_not_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Script:
        conda_env = container_img = env_modules = bench_record = None
        is_local, local_path, threads = True, "edit.py", 1
        resources = {"tmpdir": "/elsewhere"}

        def _execute_cmd(self, command: str, **names: str) -> str:
            return command.format(**names)

    environments = {"../edit.py": "../../envs/models.yaml", "score.py": "envs/encoder.yaml", "make.py": None}
    rules = [SimpleNamespace(script=script, conda_env=env) for script, env in environments.items()]
    workflow = SimpleNamespace(rules=[SimpleNamespace(script=None, conda_env=None), *rules])
    monkeypatch.setattr(patches, "set_environment", lambda: None)
    given: list[tuple] = []
    codes = {"good": 0, "bad": 3, "odd": None}
    monkeypatch.setattr(patches, "run_forked", lambda *words: given.append(words) or codes[words[1]])
    patches.run_scripts(Script, workflow)

    def run(script: Script, name: str = "odd") -> str | None:
        return script._execute_cmd("{py_exec} {fname}", py_exec="my python", fname=name)

    assert run(Script(), "good") is None
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        run(Script(), "bad")
    assert run(Script()) == "'my python' odd"
    assert Script()._execute_cmd("echo") == "echo"
    assert given[-1][2]["TMPDIR"] == "/elsewhere"
    several = Script()
    several.threads, several.resources = 2, {"process_threads": 1}
    assert run(several, "good") is None
    assert several.threads == 1
    assert given[-1] == ("models", "good", {})
    given.clear()
    for name, value in (
        *(("conda_env", "/env"), ("container_img", "image.sif"), ("env_modules", ["R"]), ("threads", 2)),
        *(("bench_record", SimpleNamespace()), ("is_local", False), ("local_path", "score.py")),
        *(("local_path", name) for name in ("make.py", "another.py")),
    ):
        script = Script()
        setattr(script, name, value)
        assert run(script) == "'my python' odd"
    assert not given


def test_the_environment_of_a_job_is_the_one_that_snakemake_gives(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*forking.THREADS, "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # so that all are set back afterwards
    forking.set_environment()
    printed = shell("env -0", read=True, resources={"tmpdir": str(folder)}, threads=1)
    there = dict(line.split("=", 1) for line in printed.split("\0") if line)
    ours = {**os.environ, **dict.fromkeys(patches.FOLDERS, str(folder))}
    assert {name for name in ours.keys() | there.keys() if ours.get(name) != there.get(name)} <= {
        *("PWD", "SHLVL", "_", "LINES", "COLUMNS")
    }


@pytest.fixture
def forking_run(folder: Path) -> Path:
    """The small workflow, whose scripts are forked and fail where they are not."""
    forked = f"{LIGHT}\nfrom aftershock.jobs import patches\npatches.patch_snakemake(workflow)\n"
    (folder / "light.yaml").write_text("channels: []\n")
    text = SNAKEFILE.replace("name_run()\n", f"name_run()\n{forked}")
    (folder / "Snakefile").write_text(text.replace("    log:", '    conda: "light.yaml"\n    log:'))
    (folder / "work.py").write_text(f"assert 'forkserver' in open('/proc/self/cmdline').read()\n{WORK}")
    return folder


def test_a_run_forks_its_jobs(forking_run: Path) -> None:
    run = start(forking_run, *LAUNCH)
    printed = run.communicate(timeout=DEADLINE)[0]
    assert run.returncode == 0, printed
    assert Path("results/last.txt").exists()
    record = json.loads(Path("results/jobs/last/all.json").read_text())
    assert record["state"] == "done"


def test_an_interrupted_run_leaves_no_forked_job_and_no_server(forking_run: Path) -> None:
    """As a terminal interrupts it: with all that belongs to its process group."""
    launch = (
        "import os, signal, sys; os.setsid(); "
        "signal.signal(signal.SIGINT, signal.SIG_DFL); "  # ignored by what runs in a shell's background
        f"os.execv(sys.executable, {list(LAUNCH)})"
    )
    run = start(forking_run, sys.executable, "-c", launch, STOP_IN="last")
    for _ in ("first", "last"):
        assert "written\n" in iter(run.stdout.readline, "")
    below = psutil.Process(run.pid).children(recursive=True)
    assert any("forkserver" in " ".join(process.cmdline()) for process in below)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=DEADLINE)
    assert run.returncode != 0
    assert gone(below, within=1)
    assert json.loads(Path("results/jobs/last/all.json").read_text())["state"] == "stopped"
