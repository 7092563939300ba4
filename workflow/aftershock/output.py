"""Atomic outputs: a file or folder appears completely or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aftershock.process import check_parent


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block succeeds.

    The bytes are synced before the move. After an error, or when the run that asked for the file is gone,
    nothing appears at `path` and the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with open(part, "rb+") as handle:
            os.fsync(handle.fileno())
        _permit(part)
        check_parent()
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; move it into place, replacing what was there, on success."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}part") for end in ("", "old."))
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        for file in part.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _permit(file)
        check_parent()
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _permit(file: Path) -> None:
    """Let those read and write a file whom the umask lets; safetensors writes files for their owner alone."""
    umask = os.umask(0o077)
    os.umask(umask)
    mode = file.stat().st_mode
    if mode | (0o666 & ~umask) != mode:
        file.chmod(mode | (0o666 & ~umask))


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")
