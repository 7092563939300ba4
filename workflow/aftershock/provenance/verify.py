"""Verification of results: against their manifest, and by remaking a sample of them.

Every file is compared with the manifest: one line for each that is missing, damaged, changed or extra. Then a
random sample of tables is made again from the same inputs in a folder of its own, and compared. Results are
read and never written.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.lock import LOCK, hold
from aftershock.process import name_run
from aftershock.project import PACKAGE, SNAKEFILE, command
from aftershock.provenance.equality import Report, compare_files
from aftershock.provenance.manifest import RENEW, RESULTS, describe, made_files, read_manifest, sha256_of_file

SCRATCH = RESULTS / ".verify"
READ_ONLY = command("verify", "--sample 0")
NOT_LINKED = (RESULTS.name, "config.json", "config.yaml", "Snakefile", "profiles")
"""Entries of the working folder that a run beside it has of its own."""
REMADE = ("edit", "baseline", "verify_facts", "score_objects")
"""Rules whose tables are made again."""
TOGETHER = ("observations", "telemetry", "health")
"""Tables that a job of `edit` makes together."""


def verify(sample: int, seed: int, arguments: Sequence[str]) -> bool:
    """Compare files with their manifest and make `sample` tables again; return True if all are the same.

    What differs is printed. `seed` chooses the tables; `arguments` are Snakemake's.
    """
    manifest = read_manifest()
    if os.access(RESULTS, os.W_OK):
        hold(LOCK)
    elif sample:
        raise ValueError(f"{RESULTS}/ cannot be written; to read its files only: {READ_ONLY}")
    wrong = dict(check_files(manifest))
    for name, what in wrong.items():
        print(f"{RESULTS / name}: {what}")
    print(f"{len(manifest['files'])} files read: {len(wrong) or 'none'} not as in the manifest")
    chosen = choose(manifest, sample, seed, wrong)
    if not manifest["files"] or (sample and not chosen):
        print(
            "Nothing was made again: no sound table of edits, of the unedited model or of answers belongs to "
            f"the study of the manifest. Finish such a run and write it: {RENEW}; to read files: {READ_ONLY}"
        )
        return False
    if not chosen:
        return not wrong
    print(f"Making {len(chosen)} tables again:", *chosen, sep="\n  ", flush=True)
    name_run()
    make_again(chosen, manifest["config"], arguments)
    print(f"Made again: {(report := compare_again())}")
    if report.equal:
        shutil.rmtree(SCRATCH)
    else:
        print(f"The remade tables are in {SCRATCH}/results")
    return report.equal and not wrong


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


def choose(manifest: Mapping[str, Any], n: int, seed: int, unsound: Container[str] = ()) -> list[str]:
    """Return `n` tables to make again: such as the study of the manifest still makes, and may have made."""
    config, tables = manifest["config"], []
    known = {"rule": REMADE, "kg": config["kgs"], "model": config["models"]}
    known["editor"] = [label for label, editor in config["editors"].items() if editor]
    for name, entry in manifest["files"].items():
        by = {"rule": "", "wildcards": {}, **(entry["by"] or {})}
        place = {"rule": by["rule"], **by["wildcards"]}
        sound = name not in unsound and by.get("table") not in TOGETHER[1:]
        if sound and all(place.get(key) in (None, *names) for key, names in known.items()):
            tables.append(name)
    return sorted(random.Random(seed).sample(sorted(tables), min(n, len(tables))))


def make_again(names: Sequence[str], config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Make tables of one configuration again below SCRATCH, from links to all other files.

    Nothing that was there is written: only the rules of the sample may run. ValueError when they fail.
    """
    shutil.rmtree(SCRATCH, ignore_errors=True)
    again = {name.replace("/observations/", f"/{kind}/") for name in names for kind in TOGETHER}
    linked = [path for path in made_files(RESULTS) if path.relative_to(RESULTS).as_posix() not in again]
    # and what a configuration may name by a path from here
    linked += [path for path in Path().iterdir() if path.name not in NOT_LINKED and path.name[0] != "."]
    for path in filter(Path.exists, linked):  # but no link to nothing
        (SCRATCH / path).parent.mkdir(parents=True, exist_ok=True)
        (SCRATCH / path).symlink_to(path.resolve())
    (SCRATCH / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "aftershock.launch"),
        *(os.path.abspath(each) if os.sep in each and Path(each).exists() else each for each in arguments),
        *("--snakefile", str(SNAKEFILE), "--configfile", "config.json", "--no-hooks"),
        *("--rerun-triggers", "mtime", "--allowed-rules", *REMADE),
        *("--", *(f"{RESULTS}/{name}" for name in names)),
    ]
    if subprocess.run(command, cwd=SCRATCH, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}).returncode:
        raise ValueError(
            f"the sample could not be made again, see above; its partial results are in {SCRATCH}"
        )


def compare_again() -> Report:
    """Compare every remade table with the original."""
    again = SCRATCH / RESULTS.name
    made = [path.relative_to(again) for path in sorted(again.rglob("*.parquet")) if not path.is_symlink()]
    return Report(compare_files([RESULTS / path], [again / path], path.as_posix()) for path in made)
