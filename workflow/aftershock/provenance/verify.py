"""Verification of results: against their manifest, and by remaking a sample of them.

Every file is compared with the manifest: one line for each that is missing, damaged, changed or extra. Then a
random sample of shards, with one table of the unedited model and one of each kind of answers, is made again
from the same inputs in a folder of its own, and compared. Results are read and never written.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from aftershock.lock import LOCK, hold
from aftershock.process import name_run
from aftershock.project import PACKAGE, SNAKEFILE, command
from aftershock.provenance.equality import Report, compare_files
from aftershock.provenance.manifest import (
    NOT_MADE,
    RESULTS,
    ManifestError,
    configuration_of,
    configurations,
    describe,
    made_files,
    read_manifest,
    sha256_of_file,
)
from aftershock.tables import provenance_of

SCRATCH = RESULTS / ".verify"
READ_ONLY = command("verify", "--sample 0")
NOT_LINKED = (RESULTS.name, "config.json", "config.yaml", "Snakefile", "profiles")
"""Entries of the working folder that a run beside it has of its own."""
SAMPLED = "edit"
ONE_EACH = ("baseline", "verify_facts", "score_objects")
"""Rules of which one table is made again beside the sample of shards."""
CIRCUMSTANCES = ("code", "config", "versions", "device", "gpu", "processor", "threads")
"""Circumstances that may differ between the original and the remade table, and so explain a difference."""


def check_files(manifest: Mapping[str, Any], results: Path = RESULTS) -> Iterator[tuple[str, str]]:
    """Yield each file that differs from the manifest, with the difference; all bytes are read."""
    there = {path.relative_to(results).as_posix(): path for path in made_files(results)}
    for name, entry in manifest["files"].items():
        path = there.pop(name, None)
        if path is None:
            yield name, "missing"
        elif path.stat().st_size != entry["bytes"] or sha256_of_file(path) != entry["sha256"]:
            try:
                now = describe(path)
            except ValueError as error:
                yield name, f"damaged: it {str(error).removeprefix(f'{path} ')}"
            else:
                same = "content" in entry and now.get("content") == entry["content"]
                rows = ", though it holds the same rows" if same else ""
                yield name, f"changed: {now['bytes']} bytes, {entry['bytes']} in the manifest{rows}"
    yield from ((name, "extra: the manifest does not know it") for name in there)


def choose(manifest: Mapping[str, Any], n: int, seed: int, unsound: Set[str] = frozenset()) -> list[str]:
    """Tables to make again: `n` shards and one of each other kind, of what a configuration still has."""
    configs, chance = configurations(manifest), random.Random(seed)
    tables: dict[str, list[str]] = {}
    for name, entry in sorted(manifest["files"].items()):
        by = entry.get("by") or {}
        sound = name not in unsound and by.get("table") != "telemetry" and "content" in entry
        if sound and configuration_of(entry, configs) is not None:
            tables.setdefault(by.get("rule", ""), []).append(name)
    shards = tables.get(SAMPLED, [])
    chosen = sorted(chance.sample(shards, min(n, len(shards))))
    return chosen + [chance.choice(tables[rule]) for rule in ONE_EACH if n and tables.get(rule)]


def by_configuration(
    manifest: Mapping[str, Any], names: Sequence[str]
) -> list[tuple[Mapping[str, Any], list[str]]]:
    """The configurations that made tables, each with its tables."""
    configs = configurations(manifest)
    groups: dict[int, list[str]] = {}
    for name in names:
        owner = configuration_of(manifest["files"][name], configs)
        groups.setdefault(next(i for i, config in enumerate(configs) if config is owner), []).append(name)
    return [(configs[i], mine) for i, mine in sorted(groups.items())]


def make_again(names: Sequence[str], config: Mapping[str, Any], arguments: Sequence[str]) -> float:
    """Remake tables of one configuration below SCRATCH, from links to all other files; return the seconds.

    Nothing that was there is written: only the rules of the sample may run. ManifestError when they fail.
    """
    shutil.rmtree(SCRATCH, ignore_errors=True)
    kinds = ("observations", "telemetry", "health")  # made together by one job
    _link_inputs({name.replace("/observations/", f"/{kind}/") for name in names for kind in kinds})
    for entry in Path().iterdir():  # what a configuration may name by a path from here
        if entry.name not in NOT_LINKED and not entry.name.startswith("."):
            (SCRATCH / entry.name).symlink_to(entry.absolute())
    (SCRATCH / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "aftershock.launch", *map(_absolute, arguments)),
        *("--snakefile", str(SNAKEFILE), "--configfile", "config.json", "--no-hooks"),
        *("--rerun-triggers", "mtime", "--allowed-rules", SAMPLED, *ONE_EACH),
        *("--", *(f"results/{name}" for name in names)),
    ]
    started = time.monotonic()
    if subprocess.run(command, cwd=SCRATCH, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}).returncode:
        raise ManifestError(
            f"the sample could not be made again, see above; its partial results are in {SCRATCH}"
        )
    return time.monotonic() - started


def _absolute(argument: str) -> str:
    """An argument that is a path here, as an absolute path."""
    return str(Path(argument).resolve()) if os.sep in argument and Path(argument).exists() else argument


def _link_inputs(made_again: set[str]) -> None:
    """Links to all files of results that a job may read, dated as these are."""
    for folder, below, names in os.walk(RESULTS, followlinks=True):
        here = Path(folder).relative_to(RESULTS)
        top = here == Path()
        below[:] = [n for n in below if not (top and (n.startswith(".") or n in (*NOT_MADE, "report")))]
        target = SCRATCH / "results" / here
        target.mkdir(parents=True)
        for name in names:
            if (here / name).as_posix() not in made_again and not top:
                path = Path(folder, name)
                (target / name).symlink_to(path.resolve())
                stat = path.stat()
                os.utime(target / name, ns=(stat.st_atime_ns, stat.st_mtime_ns), follow_symlinks=False)


def compare_again() -> Report:
    """Compare every remade table with the original."""
    again, parts = SCRATCH / "results", []
    for path in made_files(again):
        if path.suffix == ".parquet" and not path.is_symlink():
            name = path.relative_to(again).as_posix()
            parts.append(compare_files([RESULTS / name], [path], name))
            if parts[-1].verdict != "identical":
                parts[-1].notes += _circumstances(RESULTS / name, path)
    return Report(parts)


def _circumstances(path: Path, again: Path) -> list[str]:
    """Differences between the circumstances in which two tables were made."""
    try:
        then, now = provenance_of(path), provenance_of(again)
    except ValueError:
        return []
    changed = [key for key in CIRCUMSTANCES if then.get(key) != now.get(key)]
    return [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in changed] or [
        "both were made by the same code, settings and versions, on the same kind of machine"
    ]


def verify(sample: int, seed: int, arguments: Sequence[str]) -> bool:
    """Compare files with their manifest and make `sample` tables again; return True if all are the same.

    What differs is printed. `seed` chooses the tables; `arguments` are Snakemake's.
    """
    manifest = read_manifest()
    if os.access(RESULTS, os.W_OK):
        hold(LOCK)
    elif sample:
        raise ManifestError(f"{RESULTS}/ cannot be written; to read its files only: {READ_ONLY}")
    started = time.monotonic()
    wrong = list(check_files(manifest))
    for name, what in wrong:
        print(f"{RESULTS / name}: {what}")
    took = f"{time.monotonic() - started:.1f} s"
    print(f"{len(manifest['files'])} files read in {took}: {len(wrong) or 'none'} not as in the manifest")
    if not manifest["files"]:
        print(f"Nothing was verified: the manifest names no file. Finish a run, then: {command('manifest')}")
        return False
    if not sample:
        return not wrong
    names = choose(manifest, sample, seed, {name for name, _ in wrong})
    if not names:
        print(
            "Nothing was made again: no sound table of edits, of the unedited model or of answers belongs to "
            f"a study of the manifest. Finish such a run first; to read files only: {READ_ONLY}"
        )
        return False
    name_run()
    return _same_again(manifest, names, arguments) and not wrong


def _same_again(manifest: Mapping[str, Any], names: Sequence[str], arguments: Sequence[str]) -> bool:
    """Make tables again, study by study, up to the first that differs; true when all are equal."""
    for config, mine in by_configuration(manifest, names):
        study = config.get("study") or "default"
        print(f"Making {len(mine)} tables of study {study} again:", *mine, sep="\n  ", flush=True)
        took = f"{make_again(mine, config, arguments):.1f} s"
        report = compare_again()
        print(f"Made again in {took}: {report}")
        if not report.equal:
            print(f"The remade tables are in {SCRATCH}/results")
            return False
        shutil.rmtree(SCRATCH)
    return True
