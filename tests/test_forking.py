"""Jobs that are forked: as those that are started in the ordinary way, and gone with what they belong to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from snakemake.shell import shell

from aftershock.jobs import forking, patches
from aftershock.jobs.forking import SERVER, imported_libraries, kind_of_server, run_forked
from aftershock.stage import VERSIONED
from small_workflow import DEADLINE, LAUNCH, ROOT, SNAKEFILE, WORK, gone, kill_in_last, start

SCRIPTS = ROOT / "workflow" / "scripts"
LIGHT_SERVER = f"""
import runpy, sys
del sys.path[0]
server = runpy.run_path({str(SERVER)!r})
server["serve_jobs"].__globals__["LIBRARIES"] = {{"light": ("numpy",)}}
server["serve_jobs"](int(sys.argv[1]), "light")
"""
"""The server, which imports next to nothing."""
DESCRIBE = """
import json, numpy, os, signal, sys, threading, warnings
main = sys.modules["__main__"]
print(json.dumps({
    "arguments": list(map(os.path.abspath, sys.argv)), "path": sys.path[0],
    "main": [vars(main) is globals(), __name__, __file__],
    "environment": dict(os.environ), "folder": os.getcwd(), "given": sys.stdin.read(),
    "interrupt": str(signal.getsignal(signal.SIGINT)), "child": str(signal.getsignal(signal.SIGCHLD)),
    "terminate": str(signal.getsignal(signal.SIGTERM)), "wakeup": signal.set_wakeup_fd(-1),
    "threads": threading.active_count(), "files": sorted(map(int, os.listdir("/proc/self/fd")))[:-1],
    "group": os.getpgid(0), "umask": os.umask(0o22), "filters": str(warnings.filters),
}))
print("said", file=sys.stderr)
"""
WAIT = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda number, _: sys.exit(40 + number))
print(os.getpid(), flush=True)
open(f"{os.getpid()}.waits", "w").close()
signal.pause()
"""


class Jobs:
    """Jobs forked from a server that this process starts, and what they print."""

    def __init__(self, capfd: pytest.CaptureFixture) -> None:
        self.capfd = capfd

    def ended(self, text: str, **environment: str) -> tuple[int | None, str, str]:
        """Return the exit code of a script and its output; no code where it is not forked."""
        Path("scripts").mkdir(exist_ok=True)
        Path("scripts/job.py").write_text(text)
        self.capfd.readouterr()
        code = run_forked("light", "scripts/job.py", os.environ | environment)
        return code, *self.capfd.readouterr()

    def server(self) -> psutil.Process:
        """The server, started by a first job."""
        return psutil.Process(int(self.ended("import os; print(os.getppid())")[1]))


def ordinary(text: str, **environment: str) -> tuple[int, str, str]:
    """Return the outcome of the same script in a process of its own."""
    Path("scripts/job.py").write_text(text)
    command = [sys.executable, os.path.abspath("scripts/job.py")]
    ran = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def jobs(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Iterator[Jobs]:
    """Jobs that are forked from a light server."""
    (folder / "light.py").write_text(LIGHT_SERVER)
    servers: dict[tuple[str, str], socket.socket] = {}
    monkeypatch.setattr(forking, "SERVER", folder / "light.py")
    monkeypatch.setattr(forking, "_servers", servers)
    yield Jobs(capfd)
    for connection in servers.values():
        connection.close()


def test_a_job_is_forked(jobs: Jobs) -> None:
    server = jobs.server()
    assert "light.py" in server.cmdline()[1]
    assert jobs.server() == server


def test_a_forked_process_is_as_a_new_one(jobs: Jobs) -> None:
    code, printed, said = jobs.ended(DESCRIBE)
    assert (code, said) == (0, "said\n")
    assert json.loads(printed) == json.loads(ordinary(DESCRIBE)[1])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a reason')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit; atexit.register(print, 'last'); print('first', end=' ')",
        "raise KeyboardInterrupt",
    ],
)
def test_a_forked_process_ends_as_a_new_one(jobs: Jobs, text: str) -> None:
    found, expected = jobs.ended(text), ordinary(text)
    assert found[:2] == expected[:2]
    assert found[2].splitlines()[-1:] == expected[2].splitlines()[-1:]


def test_an_error_is_told(jobs: Jobs) -> None:
    code, _, said = jobs.ended("1 / 0")
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("ZeroDivisionError: division by zero\n")


def test_jobs_with_another_environment_have_another_server_or_none(jobs: Jobs) -> None:
    parent = "import os; print(os.getppid(), os.environ['OMP_NUM_THREADS'])"
    one, three = (jobs.ended(parent, OMP_NUM_THREADS=threads)[1].split() for threads in "13")
    assert (one[1], three[1]) == ("1", "3")
    assert one[0] != three[0]
    assert jobs.ended(parent, OMP_NUM_THREADS="1", MORE="x") == (None, "", "")
    assert jobs.ended(parent, OMP_NUM_THREADS="1")[1].split() == one


def test_jobs_draw_other_numbers(jobs: Jobs) -> None:
    text = "import numpy, random; print(numpy.random.random(), random.random())"
    drawn = [number for _ in range(2) for number in jobs.ended(text)[1].split()]
    assert len(set(drawn)) == 4


@pytest.fixture
def waiting(jobs: Jobs) -> Iterator[tuple[list[psutil.Process], list[Future]]]:
    """Three jobs at the same time that wait for a signal."""
    server = jobs.server()
    Path("scripts/wait.py").write_text(WAIT)
    with ThreadPoolExecutor() as pool:
        try:
            codes = [pool.submit(run_forked, "light", "scripts/wait.py", os.environ) for _ in range(3)]
            deadline, found = time.monotonic() + DEADLINE, list[Path]()
            while len(found) < 3 and time.monotonic() < deadline:
                found = list(Path().glob("*.waits"))
                time.sleep(0.01)
            yield [psutil.Process(int(path.stem)) for path in found], codes
        finally:
            server.kill()  # and what still waits with it


def test_jobs_run_at_the_same_time(waiting: tuple) -> None:
    processes, codes = waiting
    assert len({process.ppid() for process in processes}) == 1
    for process in processes:
        process.terminate()
    assert [code.result(DEADLINE) for code in codes] == [40 + signal.SIGTERM] * 3


def test_no_job_outlives_its_server(waiting: tuple, capfd: pytest.CaptureFixture) -> None:
    processes, codes = waiting
    processes[0].parent().kill()
    assert [code.result(DEADLINE) for code in codes] == [1, 1, 1]
    assert gone(processes, within=DEADLINE)
    assert "has ended, and the job with it" in capfd.readouterr().err


def test_without_its_server_a_job_starts_in_the_ordinary_way(jobs: Jobs) -> None:
    server = jobs.server()
    server.kill()
    server.wait(DEADLINE)
    assert jobs.ended("print(1)") == (None, "", "")


def test_a_server_that_cannot_import_leaves_jobs_to_the_ordinary_way(jobs: Jobs) -> None:
    Path("light.py").write_text(LIGHT_SERVER.replace('("numpy",)', '("no_library",)'))
    code, _, said = jobs.ended("print(1)")
    assert code is None
    assert "no_library" in said


def test_a_server_and_its_jobs_end_with_the_process_that_started_it(folder: Path) -> None:
    (folder / "light.py").write_text(LIGHT_SERVER)
    (folder / "wait.py").write_text(WAIT)
    code = "import os; from pathlib import Path; from aftershock.jobs import forking; "
    code += "forking.SERVER = Path('light.py'); forking.run_forked('light', 'wait.py', os.environ)"
    run = start(folder, sys.executable, "-c", code)
    job = psutil.Process(int(run.stdout.readline()))
    server = job.parent()
    assert server.ppid() == run.pid
    run.kill()
    assert gone([job, server], within=DEADLINE)
    run.communicate(timeout=DEADLINE)


# --- in Snakemake -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("edit", "models"),
        ("baseline", "models"),
        ("score", "tables"),
        ("figures", "tables"),
        ("make_world", None),
    ],
)
def test_a_script_is_forked_from_the_server_with_its_libraries(script: str, kind: str | None) -> None:
    assert kind_of_server(str(SCRIPTS / f"{script}.py")) == kind


def test_no_server_has_a_library_that_a_script_of_its_kind_might_lack() -> None:
    """A stage notes the version of each library that is there."""
    code = """
import runpy, sys
server = runpy.run_path(sys.argv[1])
server["import_libraries"](sys.argv[2])
print(*sorted(set(sys.argv[3:]) & set(sys.modules)))
"""
    command = [sys.executable, "-c", code, str(SERVER), "tables", *VERSIONED]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert set(printed.split()) <= {"numpy", *forking.LIBRARIES["tables"]}


def test_a_library_counts_where_it_is_imported_at_once(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import numpy.linalg as algebra\n"
        "from aftershock.jobs import sizes\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import torch\n"
        "def later():\n    import pandas\n"
    )
    found = imported_libraries(str(script))
    assert "numpy" in found
    assert not {"torch", "pandas", "aftershock"} & found


def test_what_has_an_interpreter_or_a_benchmark_of_its_own_is_not_forked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Script:
        conda_env = container_img = env_modules = bench_record = None
        is_local, local_path, threads, resources = True, "edit.py", 2, {}

        def _execute_cmd(self, command: str, **names: str) -> str:
            return command.format(**names)

    monkeypatch.setattr(patches, "kind_of_server", lambda path: "models" if path == "edit.py" else None)
    given: list[tuple] = []
    codes = {"good": 0, "bad": 3, "odd": None}
    monkeypatch.setattr(patches, "run_forked", lambda *words: given.append(words) or codes[words[1]])
    patches.run_scripts(Script, fork=True)

    def run(script: Script, name: str = "odd") -> str | None:
        return script._execute_cmd("{py_exec} {fname}", py_exec="my python", fname=name)

    assert run(Script(), "good") is None
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        run(Script(), "bad")
    assert run(Script()) == "'my python' odd"
    assert Script()._execute_cmd("echo") == "echo"
    several = Script()
    several.resources = {"process_threads": 1, "tmpdir": "/elsewhere"}
    run(several)
    assert several.threads == 1  # that is what Snakemake then writes into the environment
    assert [environment["OMP_NUM_THREADS"] for _, _, environment in given] == ["2", "2", "2", "1"]
    assert given[-1][2]["TMPDIR"] == "/elsewhere"
    given.clear()
    for name, value in (
        *(("conda_env", "/env"), ("container_img", "image.sif"), ("env_modules", ["R"])),
        *(("bench_record", SimpleNamespace()), ("is_local", False), ("local_path", "score.py")),
    ):
        script = Script()
        setattr(script, name, value)
        assert run(script) == "'my python' odd"
    assert not given


def test_the_environment_of_a_job_is_the_one_that_snakemake_gives(folder: Path) -> None:
    script = SimpleNamespace(resources={"tmpdir": str(folder)}, threads=3)
    printed = shell("env -0", read=True, resources=script.resources, threads=3)
    there = dict(line.split("=", 1) for line in printed.split("\0") if line)
    ours = patches.environment_of(script)
    assert {name for name in ours.keys() | there.keys() if ours.get(name) != there.get(name)} <= {
        "PWD",
        "SHLVL",
        "_",
    }


@pytest.fixture
def forking_run(folder: Path) -> Path:
    """The small workflow, whose scripts are forked and fail where they are not."""
    (folder / "light.py").write_text(LIGHT_SERVER)
    forked = f"""
from pathlib import Path
from aftershock.jobs import forking, patches
forking.LIBRARIES, forking.SERVER = {{"light": frozenset()}}, Path({str(folder / "light.py")!r})
patches.patch_snakemake(fork=True)
"""
    (folder / "Snakefile").write_text(SNAKEFILE.replace("name_run()\n", f"name_run()\n{forked}"))
    (folder / "work.py").write_text(f"assert 'light.py' in open('/proc/self/cmdline').read()\n{WORK}")
    return folder


def test_a_run_forks_its_jobs(forking_run: Path) -> None:
    run = start(forking_run, *LAUNCH)
    printed = run.communicate(timeout=DEADLINE)[0]
    assert run.returncode == 0, printed
    assert Path("results/last.txt").exists()
    record = json.loads(Path("results/jobs/last/all.json").read_text())
    assert record["state"] == "done"


@pytest.mark.thorough  # an interrupted one is tried
def test_a_killed_run_leaves_no_forked_job_and_no_server(forking_run: Path) -> None:
    kill_in_last(start(forking_run, *LAUNCH, STOP_IN="last"))


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
    assert any("light.py" in process.cmdline()[1] for process in below)
    os.killpg(run.pid, signal.SIGINT)
    run.communicate(timeout=DEADLINE)
    assert run.returncode != 0
    assert gone(below, within=1)
    assert json.loads(Path("results/jobs/last/all.json").read_text())["state"] == "stopped"


@pytest.mark.slow
def test_libraries_compute_the_same_after_a_fork(folder: Path, capfd: pytest.CaptureFixture) -> None:
    """With the real server: threads, random numbers, bits, and modules that are there from the start."""
    text = """
import hashlib, os, sys
import pandas, torch
from transformers import GPT2Config, GPT2LMHeadModel
torch.manual_seed(0)
model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_embd=64, n_head=2, vocab_size=500)).eval()
model(torch.arange(300)[None], labels=torch.arange(300)[None]).loss.backward()
print(hashlib.sha256(model.transformer.wte.weight.grad.numpy().tobytes()).hexdigest())
print(torch.get_num_threads(), torch.__config__.parallel_info())
print(torch.backends.cpu.get_cpu_capability())
print(os.getppid(), file=sys.stderr)
"""
    asked = {"ATEN_CPU_CAPABILITY": "default", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    (folder / "scripts").mkdir()
    expected = ordinary(text, **asked)
    capfd.readouterr()
    code = run_forked("models", "scripts/job.py", os.environ | asked)
    printed = capfd.readouterr()
    assert int(printed.err.split()[-1]) != os.getpid()
    assert (code, printed.out) == expected[:2]
