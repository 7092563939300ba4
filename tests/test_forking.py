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

import psutil
import pytest

from aftershock.jobs import forking
from aftershock.jobs.forking import run_forked
from light_server import LIGHT_SERVER
from small_workflow import DEADLINE, gone, start

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
