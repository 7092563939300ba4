"""A folder that cannot take what a run writes, and files with dates that cannot be."""

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import started
from aftershock.jobs.folder import PreflightError, check_dates, check_writable

ROOT = Path(__file__).parents[1]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A working directory on a small disk of its own, where the tests may mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-o", "size=200m,nr_inodes=5000", "tmpfs", str(place)]
    if subprocess.run(["mount", "-t", "tmpfs", *options], capture_output=True, check=False).returncode:
        pytest.skip("needs to mount a disk")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def told(place: Path) -> str:
    with pytest.raises(PreflightError) as caught:
        check_writable(place)
    return str(caught.value)


def test_a_folder_that_takes_files_is_left_as_it_was(tmp_path: Path) -> None:
    before = time.time()
    now = check_writable(tmp_path / "results")
    assert before - 2 < now < time.time() + 2
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "is on a read-only disk. Run where it can be written"),
        (errno.EACCES, "may not be written by"),
        (errno.EPERM, "may not be written by"),
        (errno.ENOSPC, "is on a full disk, or one without room for more files. Free some space"),
        (errno.EDQUOT, "is beyond the quota of"),
        (errno.EFBIG, "may hold no file of 64 KiB: a limit on file sizes is in force. Raise it"),
        (errno.EIO, "cannot be written (Input/output error). Check the disk"),
    ],
)
def test_each_reason_has_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    assert told(tmp_path).startswith(f"{tmp_path}/ {said}")
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(tmp_path / "gone")
    assert told(tmp_path / "results").startswith(
        f"{tmp_path}/results is a link to {tmp_path}/gone, which is not there. Make that folder"
    )


def test_a_disk_that_is_nearly_full(disk: Path) -> None:
    check_writable(disk)
    with open(disk / "big", "wb") as big:
        os.posix_fallocate(big.fileno(), 0, 100 * 2**20)
    assert told(disk).startswith(f"{disk}/ is on a disk with 100 MiB free; a run needs at least 128 MiB.")
    with open(disk / "big", "ab") as big:
        os.posix_fallocate(big.fileno(), 0, 200 * 2**20)
    assert "is on a full disk" in told(disk)


def test_a_disk_without_room_for_files(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        for number in range(6000):
            (disk / str(number)).touch()
    assert "is on a full disk, or one without room for more files" in told(disk)


def test_a_launch_on_a_read_only_disk_is_one_line(disk: Path) -> None:
    (disk / "Snakefile").write_text("rule all:\n")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    environment = {"PYTHONPATH": str(ROOT / "workflow")}
    run = started.module("aftershock.launch", disk, "--cores", "1", **environment)
    assert run.returncode == 1
    assert run.stderr.startswith(
        "results/ is on a read-only disk. Run where it can be written, or move results/"
    )
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["demo"],
        ["run", "laptop", "--dry-run"],
        ["resume"],
        ["add-model", "model"],
        ["queries", "pitfalls", "--to", "q"],
    ],
)
def test_a_command_that_may_not_write_is_one_line_and_status_2(disk: Path, arguments: list[str]) -> None:
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 50257}
    (disk / "model").mkdir()
    (disk / "model" / "config.json").write_text(json.dumps(config))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    run = started.module("aftershock", disk, *arguments, PYTHONPATH=str(ROOT / "workflow"))
    assert (run.returncode, run.stdout, run.stderr.count("\n")) == (2, "", 1)
    assert run.stderr.startswith(f"aftershock {arguments[0]}: ")
    assert "read-only" in run.stderr


def test_a_file_from_the_future_is_named(tmp_path: Path) -> None:
    now = time.time()
    for name, ahead in (("a.parquet", 30), ("old/b.parquet", -1e6)):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (now + ahead, now + ahead))
    check_dates(tmp_path, now)
    for name, ahead in (("old/c.parquet", 3 * 86400), ("d.parquet", 7200), (".lock", 1e6)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (now + ahead, now + ahead))
    with pytest.raises(PreflightError, match="old/c.parquet is dated .*, in the future .and 1 more.") as e:
        check_dates(tmp_path, now)
    remedy = str(e.value).partition("such files today: ")[2]
    subprocess.run(["sh", "-c", remedy], check=True)
    check_dates(tmp_path, now)
