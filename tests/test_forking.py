"""Jobs that are forked: as those that are started in the ordinary way, and gone with what they belong to."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace

import psutil
import pytest

from aftershock.jobs import forking, patches
from aftershock.jobs.forking import CLIENT, SERVER, forking_interpreter, kind_of_server
from aftershock.jobs.forking.libraries import imported_libraries
from aftershock.stage import VERSIONED
from small_workflow import DEADLINE, LAUNCH, ROOT, SNAKEFILE, WORK, gone, kill_in_last, start

SCRIPTS = ROOT / "workflow" / "scripts"
SOCKET = "jobs.socket"
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
signal.pause()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)  # the path of a socket has to be short
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[Popen]:
    """A server at SOCKET."""
    (folder / "light.py").write_text(LIGHT_SERVER)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        number = listener.fileno()
        process = Popen([sys.executable, "light.py", str(number)], stdin=subprocess.PIPE, pass_fds=[number])
    yield process
    process.communicate(timeout=DEADLINE)


def ask(text: str, **environment: str) -> Popen:
    """A client that has a script run."""
    Path("scripts").mkdir(exist_ok=True)
    Path("scripts/job.py").write_text(text)
    return Popen(
        [sys.executable, "-IS", CLIENT, SOCKET, sys.executable, "scripts/job.py"],
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(text: str, **environment: str) -> tuple[int, str, str]:
    """Return a script's exit status and output."""
    client = ask(text, **environment)
    printed = client.communicate("a line\n", timeout=10 * DEADLINE)  # where it imports torch
    return client.returncode, *printed


def parent(**environment: str) -> int:
    return int(ended("import os; print(os.getppid())", **environment)[1])


def ordinary(text: str, **environment: str) -> tuple[int, str, str]:
    """The same where no server answers."""
    os.rename(SOCKET, "away")
    try:
        return ended(text, **environment)
    finally:
        os.rename("away", SOCKET)


def test_a_job_is_forked(server: Popen) -> None:
    assert parent() == parent() == server.pid


def test_a_forked_process_is_as_a_new_one(server: Popen) -> None:
    code, printed, said = ended(DESCRIBE)
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
def test_a_forked_process_ends_as_a_new_one(server: Popen, text: str) -> None:
    found, expected = ended(text), ordinary(text)
    assert found[:2] == expected[:2]
    assert found[2].splitlines()[-1:] == expected[2].splitlines()[-1:]


def test_an_error_is_told(server: Popen) -> None:
    code, _, said = ended("1 / 0")
    assert code == 1
    assert said.startswith("Traceback")
    assert said.endswith("ZeroDivisionError: division by zero\n")


def test_a_job_with_another_environment_starts_in_the_ordinary_way(server: Popen) -> None:
    assert parent(OMP_NUM_THREADS="1") == server.pid
    assert parent(OMP_NUM_THREADS="3") != server.pid
    assert ended("import os; print(os.environ['OMP_NUM_THREADS'])", OMP_NUM_THREADS="3")[1] == "3\n"


def test_jobs_draw_other_numbers(server: Popen) -> None:
    text = "import numpy, random; print(numpy.random.random(), random.random())"
    drawn = [number for _ in range(2) for number in ended(text)[1].split()]
    assert len(set(drawn)) == 4


def test_jobs_run_at_the_same_time(server: Popen) -> None:
    jobs = [ask(WAIT) for _ in range(3)]
    numbers = [int(job.stdout.readline()) for job in jobs]
    assert {psutil.Process(number).ppid() for number in numbers} == {server.pid}
    for job in jobs:
        job.terminate()
    for job in jobs:
        job.communicate(timeout=DEADLINE)
        assert job.returncode == 40 + signal.SIGTERM


def test_a_job_ends_with_its_client(server: Popen) -> None:
    client = ask(WAIT)
    job = psutil.Process(int(client.stdout.readline()))
    client.kill()
    assert gone([job], within=DEADLINE)
    client.communicate(timeout=DEADLINE)
    assert parent() == server.pid


def test_a_client_outlives_no_server(server: Popen) -> None:
    client = ask(WAIT)
    job = psutil.Process(int(client.stdout.readline()))
    server.kill()
    assert "has ended" in client.communicate(timeout=DEADLINE)[1]
    assert client.returncode == 1
    assert gone([job], within=DEADLINE)


def test_without_its_server_a_job_starts_in_the_ordinary_way(server: Popen) -> None:
    assert parent() == server.pid
    server.kill()
    server.wait(timeout=DEADLINE)
    assert parent() == os.getpid()


def test_a_server_that_cannot_import_leaves_jobs_to_the_ordinary_way(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        script = LIGHT_SERVER.replace('("numpy",)', '("no_library",)')
        server = Popen(
            [sys.executable, "-c", f"import sys; sys.path[:0] = ['']\n{script}", str(listener.fileno())],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[listener.fileno()],
        )
    assert parent() == os.getpid()
    assert b"no_library" in server.communicate(timeout=DEADLINE)[1]


def test_a_server_ends_with_its_input(server: Popen) -> None:
    assert parent() == server.pid
    server.communicate(timeout=DEADLINE)
    assert server.returncode == 0
    assert not os.path.lexists(SOCKET)


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
    monkeypatch.setattr(patches, "forking_interpreter", lambda *words: " ".join(map(str, words)))
    patches.fork_scripts(Script)
    assert Script()._execute_cmd("{py_exec} x", py_exec="python") == "python models 2 x"
    assert Script()._execute_cmd("echo") == "echo"
    several = Script()
    several.resources = {"process_threads": 1}
    assert several._execute_cmd("{py_exec} x", py_exec="python") == "python models 1 x"
    assert several.threads == 1  # that is what Snakemake then writes into the environment
    for name, value in (
        *(("conda_env", "/env"), ("container_img", "image.sif"), ("env_modules", ["R"])),
        *(("bench_record", SimpleNamespace()), ("is_local", False), ("local_path", "score.py")),
    ):
        script = Script()
        setattr(script, name, value)
        assert script._execute_cmd("{py_exec} x", py_exec="python") == "python x"


def test_where_no_socket_can_be_made_jobs_start_in_the_ordinary_way(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(forking, "_sockets", {})
    words = forking_interpreter(shlex.quote(sys.executable), "models", 1)  # there is no folder .snakemake
    assert "without a fork server" in capsys.readouterr().err
    (folder / "job.py").write_text("import os; print(os.getppid())")
    command = shlex.split(f"{words} job.py")
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout == f"{os.getpid()}\n"


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
    assert not list(Path(".snakemake").glob("*.socket"))


@pytest.mark.thorough  # an interrupted one is tried
def test_a_killed_run_leaves_no_forked_job_and_no_server(forking_run: Path) -> None:
    kill_in_last(start(forking_run, *LAUNCH, STOP_IN="last"))
    assert not list(Path(".snakemake").glob("*.socket"))


def test_an_interrupted_run_leaves_no_forked_job_and_no_server(forking_run: Path) -> None:
    """As a terminal interrupts it: with all that belongs to its process group."""
    launch = f"import os, sys; os.setsid(); os.execv(sys.executable, {list(LAUNCH)})"
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
def test_libraries_compute_the_same_after_a_fork(folder: Path) -> None:
    """With the real server: threads, random numbers, bits, and modules that are there from the start."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(SOCKET)
        listener.listen()
        number = listener.fileno()
        server = Popen(
            [sys.executable, SERVER, str(number), "models"], stdin=subprocess.PIPE, pass_fds=[number]
        )
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
    forked = ended(text, **asked)
    assert forked[2].endswith(f"\n{server.pid}\n")
    assert forked[:2] == ordinary(text, **asked)[:2]
    server.communicate(timeout=DEADLINE)
