"""Manifest of the files that a run made: `results/manifest.json`.

It names every file that a stage made with its size, its sha256 and what made it (rule, hashes of settings and
code, seed, versions, device), and on top the study, its configuration, the software and the machine. Studies
whose tables no later one has made again keep their configurations in `studies`, newest first. Tables have
a hash of their rows beside that of their bytes, which does not depend on what wrote the file.

Written after every run that succeeded. Tables are read whole and one that is damaged, or that was made for
another place, stops it. Files whose size and time are those of last time are not read again.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
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
KNOWN = RESULTS / ".manifest.json"
"""Cache of each file's entry, with its size and time."""

NOT_MADE = ("logs", "jobs", "timings")
"""Folders of results/ that hold no results."""
KEPT = ("cache", "answers")
"""Folders of a graph with services' answers, which no stage owns."""
GIT_SECONDS = 30.0


class ManifestError(Exception):
    """There is no manifest, or none can be written."""


def write_manifest(config: Mapping[str, Any], results: Path = RESULTS) -> Path:
    """Write the manifest of all that is below `results`; ManifestError names every damaged file."""
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # without it, all files are read again
        known = json.loads((results / KNOWN.name).read_text(encoding="utf-8"))
    made_by, files, damaged = dict(_made_by(results)), {}, []
    for path in made_files(results):
        name, stat = path.relative_to(results).as_posix(), path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns]
        if name not in known or known[name]["stamp"] != stamp:
            try:
                known[name] = {"stamp": stamp, "found": describe(path)}
            except ValueError as error:
                damaged.append(str(error))
                continue
        found = known[name]["found"]
        files[name] = {**found, "by": found.get("by") or made_by.get(name)}
    if damaged:
        raise ManifestError("\n".join(["damaged files, so no manifest was written:", *damaged]))
    about = {**_circumstances(config, results), "studies": _studies(config, results, files)}
    text = json.dumps({**about, "files": files}, indent=1, default=str)
    write_text(results / MANIFEST.name, f"{text}\n")
    write_text(results / KNOWN.name, json.dumps({name: known[name] for name in files}))
    return results / MANIFEST.name


def leave_manifest(config: Mapping[str, Any]) -> None:
    """Write the manifest at the end of a run; a failure is only logged, since it does not fail the run."""
    try:
        write_manifest(config)
    except (ManifestError, OSError, ValueError) as error:
        print(f"{MANIFEST}: {error}", file=sys.stderr)


def read_manifest(results: Path = RESULTS) -> dict[str, Any]:
    """The manifest of a folder of results; ManifestError when there is none or it is damaged."""
    path = results / MANIFEST.name
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "files": dict(found["files"])}
    except FileNotFoundError:
        raise ManifestError(f"there is no {path}; finish the run, or write it with: {RENEW}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}; write it anew with: {RENEW}") from None


def configurations(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the configurations of the studies in a folder, newest first."""
    return [study["config"] for study in manifest.get("studies", ())] or [manifest["config"]]


def configuration_of(
    entry: Mapping[str, Any], configs: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Return the first of `configs` with the graph, model and editor of a table; None where none has them."""
    wildcards = (entry.get("by") or {}).get("wildcards", {})
    for config in configs:
        editors = [label for label, editor in config["editors"].items() if editor]
        known = {"kg": config["kgs"], "model": config["models"], "editor": editors}
        if all(wildcards.get(key) in (None, *names) for key, names in known.items()):
            return config
    return None


def _studies(
    config: Mapping[str, Any], results: Path, files: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The current study, and earlier ones that some tables were made by."""
    try:
        earlier = configurations(read_manifest(results))
    except ManifestError:
        earlier = []
    configs = [config, *(other for other in earlier if sha256_of_config(other) != sha256_of_config(config))]
    needed = {id(configuration_of(entry, configs)) for entry in files.values() if "content" in entry}
    return [
        {"study": other.get("study") or "default", "config_sha256": sha256_of_config(other), "config": other}
        for other in configs
        if other is config or id(other) in needed
    ]


def made_files(results: Path) -> Iterator[Path]:
    """Every file that a stage made, in order: no logs, job records, caches, hidden or unfinished files."""
    for folder, below, names in os.walk(results, followlinks=True):
        here = Path(folder).relative_to(results).parts
        left_out = NOT_MADE if not here else KEPT if here[0] == "kg" and len(here) == 2 else ()
        below[:] = sorted(name for name in below if not name.startswith(".") and name not in left_out)
        shown = (name for name in sorted(names) if not name.startswith("."))
        yield from (Path(folder, name) for name in shown if (*here, name) != (MANIFEST.name,))


def describe(path: Path) -> dict[str, Any]:
    """Size and sha256 of a file; of a table its rows, their hash and what made it, of tensors what they name.

    ValueError naming the file when a table cannot be read or was made for another place.
    """
    found: dict[str, Any] = {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    if path.suffix == ".parquet":
        found["rows"], found["content"] = sha256_of_rows(path)
        found["by"] = provenance_of(path)
    elif path.suffix == ".safetensors":
        found["tensors"] = _tensor_metadata(path)
    return found


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_config(config: Mapping[str, Any]) -> str:
    """Hash of a whole configuration, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode()).hexdigest()


def _tensor_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > os.fstat(file.fileno()).st_size:
            raise ValueError(f"{path} cannot be read: it is cut off; delete it and run again")
        try:
            return json.loads(file.read(length)).get("__metadata__", {})
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}; delete it and run again") from error


def _made_by(results: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each file with the provenance in the record of the job that made it."""
    for record in finished_jobs(results / "jobs"):
        for output in record.get("outputs", ()):
            path = results.parent / output
            for file in made_files(path) if path.is_dir() else [path]:
                if file.is_relative_to(results):
                    yield file.relative_to(results).as_posix(), record["provenance"]


# --- the run and its machine -------------------------------------------------------------------------------
def _circumstances(config: Mapping[str, Any], results: Path) -> dict[str, Any]:
    distributions = sorted(importlib.metadata.distributions(), key=lambda found: found.name.lower())
    gpus: list[str] = []
    with suppress(subprocess.TimeoutExpired):
        gpus = [name for (name,) in query_gpus("name")]
    # origins of fetched models: hub, revision and commit, or a folder; the sha256 of their weights
    fetched = sorted(results.glob("models/*/weights/provenance.json"))
    return {
        "study": config.get("study") or "default",
        "config_sha256": sha256_of_config(config),
        "project": _project(),
        "software": {"python": platform.python_version(), **{d.name: d.version for d in distributions}},
        "machine": {"system": platform.platform(), "processor": processor(), "gpus": gpus},
        "fetched_models": {f.parts[-3]: json.loads(f.read_text(encoding="utf-8")) for f in fetched},
        "config": config,
    }


def _project() -> dict[str, Any]:
    """The commit of the code, and which files differ from it; without one, the reason in git's words."""
    try:
        commit = _git("rev-parse", "HEAD")
        return {"commit": commit, "changed": _git("status", "--porcelain").splitlines()}
    except FileNotFoundError:
        reason = "git is not installed"
    except subprocess.TimeoutExpired:
        reason = f"git did not end within {GIT_SECONDS:.0f} s"
    except subprocess.CalledProcessError as error:
        reason = " ".join(error.stderr.split()) or f"git ended with {error.returncode}"
    return {"commit": None, "changed": None, "reason": reason}


def _git(*words: str) -> str:
    command = ("git", "-C", str(PROJECT), *words)
    ended = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    return ended.stdout.strip()


def renew(files: Sequence[str]) -> None:
    """Write the manifest; of the studies given, else of the configuration of the manifest there is."""
    config = read_study(files) if files or not MANIFEST.exists() else read_manifest()["config"]
    path = write_manifest(config)
    made = read_manifest()["files"].values()
    print(f"{path}: {len(made)} files, {sum(file['bytes'] for file in made) / 1e6:.1f} MB")
