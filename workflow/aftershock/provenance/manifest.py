"""Manifest of the files that a run made: `results/manifest.json`.

It names every file that a stage made with its size, its sha256 and what made it (rule, hashes of settings and
code, seed, versions, device), and on top the study's configuration, the software and the machine. Tables have
a hash of their rows beside that of their bytes, which does not depend on what wrote the file.

Written after every run that succeeded. Tables are read whole and one that is damaged, or that was made for
another place, stops it. Files whose size and time are those of last time are not read again.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from aftershock.jobs.gpus import query_gpus
from aftershock.jobs.record import finished_jobs
from aftershock.kg.plan import read_study
from aftershock.output import write_text
from aftershock.project import PROJECT, command
from aftershock.stage import processor
from aftershock.tables import provenance_of, sha256_of_rows

RESULTS = Path("results")
RENEW = command("manifest")
MANIFEST = RESULTS / "manifest.json"
KNOWN = ".manifest.json"
"""Name of a cache beside the manifest: each file's entry, with its size and time."""
NOT_MADE = re.compile(r"(.*/)?\.|(logs|jobs|timings)/|kg/[^/]+/(cache|answers)/|manifest\.json$")
"""Paths of hidden and unfinished files, logs, job records and answers of services, which no stage owns."""


def write_manifest(config: Mapping[str, Any], results: Path = RESULTS) -> Path:
    """Write the manifest of all that is below `results`; ValueError names every damaged file."""
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # without it, all files are read again
        known = json.loads((results / KNOWN).read_text(encoding="utf-8"))
    made_by = {
        results.parent / output: record["provenance"]
        for record in finished_jobs(results / "jobs")
        for output in record.get("outputs", ())
    }
    files, damaged = {}, []
    for path in made_files(results):
        name, stat = path.relative_to(results).as_posix(), path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        try:
            if name not in known or known[name]["stamp"] != stamp:
                known[name] = {"stamp": stamp, "found": describe(path)}
        except ValueError as error:
            damaged.append(str(error))
            continue
        by = next((made_by[each] for each in (path, *path.parents) if each in made_by), None)
        files[name] = {"by": by, **known[name]["found"]}
    if damaged:
        raise ValueError("\n".join(["damaged files, so no manifest was written:", *damaged]))
    software = {each.name: each.version for each in importlib.metadata.distributions()}
    content = {
        "study": config.get("study") or "default",
        "commit": _commit(),
        "software": {"python": platform.python_version(), **dict(sorted(software.items()))},
        "machine": {"system": platform.platform(), "processor": processor(), "gpus": _gpus()},
        "config": config,
        "files": files,
    }
    write_text(results / MANIFEST.name, f"{json.dumps(content, indent=1, default=str)}\n")
    write_text(results / KNOWN, json.dumps({name: known[name] for name in files}))
    return results / MANIFEST.name


def leave_manifest(config: Mapping[str, Any]) -> None:
    """Write the manifest at the end of a run; a failure is only logged, since it does not fail the run."""
    try:
        write_manifest(config)
    except (OSError, ValueError) as error:
        print(f"{MANIFEST}: {error}", file=sys.stderr)


def renew(files: Sequence[str]) -> None:
    """Write the manifest; of the studies given, else of the configuration of the manifest there is."""
    path = write_manifest(read_study(files) if files or not MANIFEST.exists() else read_manifest()["config"])
    made = read_manifest()["files"].values()
    print(f"{path}: {len(made)} files, {sum(file['bytes'] for file in made) / 1e6:.1f} MB")


def read_manifest(results: Path = RESULTS) -> dict[str, Any]:
    """Return the manifest of a folder of results; ValueError when there is none or it is damaged."""
    path = results / MANIFEST.name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "files": {name: {**entry} for name, entry in found["files"].items()}}
    except FileNotFoundError:
        raise ValueError(f"there is no {path}; finish the run, or write it with: {RENEW}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}; write it anew with: {RENEW}") from None


def made_files(results: Path) -> Iterator[Path]:
    """Yield every file that a stage made, in order."""
    for folder, below, names in os.walk(results, followlinks=True):
        here = Path(folder).relative_to(results)
        below[:] = sorted(name for name in below if not NOT_MADE.match(f"{(here / name).as_posix()}/"))
        yield from (Path(folder, n) for n in sorted(names) if not NOT_MADE.match((here / n).as_posix()))


def describe(path: Path) -> dict[str, Any]:
    """Return size and sha256 of a file, and of a table its rows, their hash and what made it.

    ValueError naming the file when a table cannot be read or was made for another place.
    """
    found: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    if path.suffix == ".parquet":
        found["rows"], found["content"] = sha256_of_rows(path)
        if made_by := provenance_of(path):
            found["by"] = made_by
    return found


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gpus() -> list[str]:
    with suppress(subprocess.TimeoutExpired):
        return [name for (name,) in query_gpus("name")]
    return []


def _commit() -> str:
    """Return the commit of the code, with -dirty where a file differs from it, or git's reason for none."""
    git = ("git", "-C", str(PROJECT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    try:
        done = subprocess.run(git, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: {error}"
    return f"unknown: {' '.join(done.stderr.split())}" if done.returncode else done.stdout.strip()
