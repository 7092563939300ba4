"""One run in a folder, over hosts too."""

import errno
import fcntl
import os
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest

from aftershock import lock
from aftershock.lock import LOCK, hold
from small_workflow import DEADLINE

HOLD = "from aftershock.lock import hold, LOCK; hold(LOCK); print('held', flush=True); input()"
ELSEWHERE = f"import socket; socket.gethostname = lambda: 'node7'; {HOLD}"


def test_a_second_run_is_refused_until_the_first_has_ended(
    tmp_path: Path, python: Callable[..., Popen]
) -> None:
    first = python(HOLD, cwd=tmp_path)
    assert first.stdout.readline() == "held\n"
    second = python(HOLD, cwd=tmp_path)
    _, err = second.communicate(timeout=DEADLINE)
    assert second.returncode == 1
    assert f"another run is working in results/: process {first.pid}, started 2" in err
    assert f"end it with: kill {first.pid}" in err
    first.kill()
    first.communicate(timeout=DEADLINE)
    third = python(HOLD, cwd=tmp_path)
    assert third.communicate("\n", timeout=DEADLINE)[0] == "held\n"


def test_a_holder_on_another_host_is_named_with_it(tmp_path: Path, python: Callable[..., Popen]) -> None:
    first = python(ELSEWHERE, cwd=tmp_path)
    assert first.stdout.readline() == "held\n"
    _, err = python(HOLD, cwd=tmp_path).communicate(timeout=DEADLINE)
    assert f"another run is working in results/: process {first.pid} on node7, started 2" in err
    assert f"or on node7: kill {first.pid}" in err
    first.communicate("\n", timeout=DEADLINE)


def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, python: Callable[..., Popen]) -> None:
    first = python(HOLD, cwd=tmp_path)
    assert first.stdout.readline() == "held\n"
    os.truncate(tmp_path / LOCK, 0)
    _, err = python(HOLD, cwd=tmp_path).communicate(timeout=DEADLINE)
    assert err == "another run is working in results/. Wait until it has finished\n"
    first.communicate("\n", timeout=DEADLINE)


def test_a_shorter_note_replaces_a_longer_one(tmp_path: Path) -> None:
    note = tmp_path / "results" / ".lock"
    note.parent.mkdir()
    note.write_text("x" * 200)
    hold(note)
    assert note.read_text().startswith(f"{os.getpid()} ")
    assert len(note.read_text()) < 200


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(SystemExit, match="is on a file system without file locks .*Mount it with locks"):
        hold(tmp_path / ".lock")


@pytest.mark.parametrize(("job", "counts"), [("", True), ("42", False)])
def test_a_submission_under_way_counts_and_a_job_on_this_host_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, counts: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lock, "ORPHAN_SECONDS", 0.2)
    (tmp_path / "sbatch").write_text("import time; time.sleep(60)")
    environment = {**os.environ, **({"SLURM_JOB_ID": job} if job else {})}
    with Popen([sys.executable, "sbatch"], env=environment) as process:
        found = lock.others_at_work()
        process.kill()
    assert [other.pid for other in found] == ([process.pid] if counts else [])
