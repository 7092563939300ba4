"""A folder that cannot take what a run writes, and files with dates that cannot be."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import started
from aftershock.jobs.folder import PreflightError, check_writable, user_name

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
    check_writable(tmp_path / "results")
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO]
)
def test_each_reason_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    said = told(tmp_path)
    assert said.startswith(f"{tmp_path}/ cannot be written by {user_name()}: {os.strerror(number).lower()}. ")
    assert f"or move {tmp_path}/ to another disk" in said
    assert not list(tmp_path.iterdir())


def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "results").symlink_to(tmp_path / "gone")
    assert told(tmp_path / "results").startswith(
        f"{tmp_path}/results is a link to {tmp_path}/gone, which is not there. Make that folder"
    )


def test_a_full_disk(disk: Path) -> None:
    check_writable(disk)
    with pytest.raises(OSError, match="No space left"), open(disk / "big", "wb") as big:  # noqa: PT012
        for _ in range(300):
            os.write(big.fileno(), bytes(2**20))
    assert "no space left on device" in told(disk)


def test_a_disk_without_room_for_files(disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):  # noqa: PT012
        for number in range(6000):
            (disk / str(number)).touch()
    assert "no space left on device" in told(disk)


def test_a_launch_on_a_read_only_disk_is_one_line(disk: Path) -> None:
    (disk / "Snakefile").write_text("rule all:\n")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    environment = {"PYTHONPATH": str(ROOT / "workflow")}
    run = started.module("aftershock.launch", disk, "--cores", "1", **environment)
    assert run.returncode == 1
    assert run.stderr.startswith("results/ cannot be written by ")
    assert "read-only file system. Put that right (finished files stay), or move results/" in run.stderr
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
