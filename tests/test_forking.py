"""Jobs that are forked: as those that are started in the ordinary way, and gone with what they belong to."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.forkserver import ForkServer
from pathlib import Path

import psutil
import pytest

from aftershock.jobs import forking
from aftershock.jobs.forking import run_forked
from small_workflow import DEADLINE, gone, start

DESCRIBE = """
import json, numpy, os, signal, sys, threading, warnings
main = sys.modules["__main__"]
print(json.dumps({
    "arguments": list(map(os.path.abspath, sys.argv)), "path": sys.path,
    "main": [vars(main) is globals(), __name__, __file__],
    "environment": dict(os.environ), "folder": os.getcwd(), "given": sys.stdin.read(),
    "interrupt": str(signal.getsignal(signal.SIGINT)), "child": str(signal.getsignal(signal.SIGCHLD)),
    "terminate": str(signal.getsignal(signal.SIGTERM)), "wakeup": signal.set_wakeup_fd(-1),
    "threads": threading.active_count(), "group": os.getpgid(0), "umask": os.umask(0o22),
    "filters": str(warnings.filters), "ours": [name for name in sys.modules if "aftershock" in name],
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
LIGHT = """
from multiprocessing.forkserver import ForkServer
from aftershock.jobs import forking
forking.IMPORTED.clear()
forking.IMPORTED["light"] = ("numpy",)
forking._servers = {"light": ForkServer()}
"""
"""Statements for a server that imports next to nothing."""


class Jobs:
    """Jobs forked from a server that this process starts, and what they print."""

    def __init__(self, capfd: pytest.CaptureFixture) -> None:
        self.capfd = capfd

    def ended(self, text: str, **environment: str) -> tuple[int | None, str, str]:
        """Return the exit code of a script and its output; no code where it is not forked."""
        Path("scripts").mkdir(exist_ok=True)
        Path("scripts/job.py").write_text(text)
        self.capfd.readouterr()
        code = run_forked("light", "scripts/job.py", environment)
        return code, *self.capfd.readouterr()

    def server(self) -> psutil.Process:
        """The server, started by a first job."""
        return psutil.Process(int(self.ended("import os; print(os.getppid())")[1]))


def ordinary(text: str, **environment: str) -> tuple[int, str, str]:
    """Return the outcome of the same script in a process of its own."""
    Path("scripts").mkdir(exist_ok=True)
    Path("scripts/job.py").write_text(text)
    command = [sys.executable, os.path.abspath("scripts/job.py")]
    ran = subprocess.run(
        command, env=os.environ | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return ran.returncode, ran.stdout, ran.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, in the environment that a run sets."""
    monkeypatch.chdir(tmp_path)
    for name in (*forking.THREADS, "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # so that all are set back afterwards
    forking.set_environment()
    return tmp_path


@pytest.fixture
def jobs(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> Iterator[Jobs]:
    """Jobs that are forked from a light server."""
    server = ForkServer()
    monkeypatch.setattr(forking, "_servers", {"light": server})
    monkeypatch.setattr(forking, "IMPORTED", {"light": ("numpy",)})
    yield Jobs(capfd)
    if server._forkserver_pid:
        server._stop()


def test_a_forked_process_is_as_a_new_one(jobs: Jobs) -> None:
    code, printed, said = jobs.ended(DESCRIBE, TMPDIR="/elsewhere")
    assert (code, said) == (0, "said\n")
    forked, new = (json.loads(text) for text in (printed, ordinary(DESCRIBE, TMPDIR="/elsewhere")[1]))
    imported = {"aftershock", "aftershock.project", "aftershock.jobs", "aftershock.jobs.forking"}
    assert set(forked.pop("ours")) == imported
    assert new.pop("ours") == []
    for terminal in ("LINES", "COLUMNS"):  # which readline sets behind Python's back where tests run
        forked["environment"].pop(terminal, None)
        new["environment"].pop(terminal, None)
    assert forked == new


@pytest.mark.parametrize(
    "text",
    [
        "",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a reason')",
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "import atexit; atexit.register(print, 'last'); print('first', end=' ')",
        "import threading, time; threading.Thread(target=lambda: time.sleep(.1) or print('late')).start()",
        "1 / 0",
        "import sys; sys.excepthook = lambda *error: print('one line', file=sys.stderr); 1 / 0",
    ],
)
def test_a_forked_process_ends_as_a_new_one(jobs: Jobs, text: str) -> None:
    found, expected = jobs.ended(text), ordinary(text)
    assert found[:2] == expected[:2]
    assert found[2].splitlines()[-1:] == expected[2].splitlines()[-1:]


def test_an_interrupted_job_has_failed(jobs: Jobs) -> None:
    assert jobs.ended("raise KeyboardInterrupt")[0] == 1


def test_jobs_draw_other_numbers(jobs: Jobs) -> None:
    text = "import numpy, random; print(numpy.random.random(), random.random())"
    drawn = [number for _ in range(2) for number in jobs.ended(text)[1].split()]
    assert len(set(drawn)) == 4


@pytest.fixture
def waiting(jobs: Jobs) -> Iterator[tuple[list[psutil.Process], list[Future]]]:
    """Three jobs at the same time that wait for a signal."""
    jobs.server()
    Path("scripts/wait.py").write_text(WAIT)
    with ThreadPoolExecutor() as pool:
        codes = [pool.submit(run_forked, "light", "scripts/wait.py", {}) for _ in range(3)]
        deadline, found = time.monotonic() + DEADLINE, list[Path]()
        while len(found) < 3 and time.monotonic() < deadline:
            found = list(Path().glob("*.waits"))
            time.sleep(0.01)
        processes = [psutil.Process(int(path.stem)) for path in found]
        yield processes, codes
        for process in filter(psutil.Process.is_running, processes):
            process.kill()


def test_jobs_run_at_the_same_time(waiting: tuple) -> None:
    processes, codes = waiting
    assert len({process.ppid() for process in processes}) == 1
    for process in processes:
        process.terminate()
    assert [code.result(DEADLINE) for code in codes] == [40 + signal.SIGTERM] * 3


def test_a_job_whose_server_has_ended_has_failed(waiting: tuple, capfd: pytest.CaptureFixture) -> None:
    processes, codes = waiting
    processes[0].parent().kill()
    assert [code.result(DEADLINE) for code in codes] == [1, 1, 1]
    assert "has ended, and the job with it" in capfd.readouterr().err


def test_a_server_that_has_ended_is_started_again(jobs: Jobs) -> None:
    server = jobs.server()
    assert "forkserver" in " ".join(server.cmdline())
    assert jobs.server() == server
    server.kill()
    assert gone([server], within=DEADLINE)
    assert jobs.ended("print(1)") == (0, "1\n", "")


def test_what_a_server_cannot_fork_starts_in_the_ordinary_way(jobs: Jobs) -> None:
    forking.IMPORTED["light"] = ("this_module_fails",)
    Path("this_module_fails.py").write_text("1 / 0")
    code, _, said = jobs.ended("print(1)")
    assert code is None
    assert "ZeroDivisionError" in said


def test_a_server_ends_with_the_process_that_started_it_and_its_jobs(folder: Path) -> None:
    (folder / "wait.py").write_text(WAIT)
    run = start(folder, sys.executable, "-c", f"{LIGHT}\nforking.run_forked('light', 'wait.py', {{}})")
    job = psutil.Process(int(run.stdout.readline()))
    server = job.parent()
    assert server.ppid() == run.pid
    run.kill()
    job.kill()  # which a stage does by itself when its run has ended
    assert gone([server], within=DEADLINE)
    run.communicate(timeout=DEADLINE)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", forking.IMPORTED)
def test_importing_the_libraries_starts_no_thread_and_opens_no_gpu(kind: str) -> None:
    code = """
import os, sys, threading
from importlib import import_module
[import_module(name) for name in sys.argv[1:]]
files = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
print(threading.active_count(), *(os.readlink(file) for file in files if os.path.lexists(file)))
"""
    command = [sys.executable, "-c", code, *forking.IMPORTED[kind]]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.startswith("1 ")
    assert "nvidia" not in printed


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
    expected = ordinary(text)
    capfd.readouterr()
    code = run_forked("models", "scripts/job.py", {})
    printed = capfd.readouterr()
    assert int(printed.err.split()[-1]) != os.getpid()
    assert (code, printed.out) == expected[:2]
