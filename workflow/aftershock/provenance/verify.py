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
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.lock import LOCK, hold
from aftershock.process import name_run
from aftershock.project import PACKAGE, SNAKEFILE, command
from aftershock.provenance.equality import IDENTICAL, Report, compare_files
from aftershock.provenance.manifest import RENEW, RESULTS, describe, made_files, read_manifest, sha256_of_file
from aftershock.tables import provenance_of

SCRATCH = RESULTS / ".verify"
READ_ONLY = command("verify", "--sample 0")
NOT_READ = ("logs", "jobs", "timings", "report")
"""Folders of results/ that no job of the sample reads."""
NOT_LINKED = (RESULTS.name, "config.json", "config.yaml", "Snakefile", "profiles")
"""Entries of the working folder that a run beside it has of its own."""
SAMPLED = "edit"
ONE_EACH = ("baseline", "verify_facts", "score_objects")
"""Rules of which one table is made again beside the sample of shards."""
CIRCUMSTANCES = ("code", "config", "versions", "device", "gpu", "processor", "threads")
"""Circumstances that may differ between the original and the remade table, and so explain a difference."""
SAME = "both were made by the same code, settings and versions, on the same kind of machine"


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
            f"a study of the manifest. Finish such a run and write it: {RENEW}; to read files: {READ_ONLY}"
        )
        return False
    name_run()
    again = (_is_same_again(manifest["studies"][key], names, arguments) for key, names in chosen.items())
    return all(again) and not wrong


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


def choose(
    manifest: Mapping[str, Any], n: int, seed: int, unsound: Container[str] = ()
) -> dict[str, list[str]]:
    """Return tables to make again by their study: `n` shards and one table of each other kind."""
    chance, tables = random.Random(seed), defaultdict[str, list[str]](list)
    for name, entry in sorted(manifest["files"].items()):
        by = entry["by"] or {}
        if name not in unsound and entry["study"] and by.get("table") != "telemetry":
            tables[by.get("rule", "")].append(name)
    chosen = sorted(chance.sample(tables[SAMPLED], min(n, len(tables[SAMPLED]))))
    chosen += [chance.choice(tables[rule]) for rule in ONE_EACH if n and tables[rule]]
    studies = defaultdict[str, list[str]](list)
    for name in chosen:
        studies[manifest["files"][name]["study"]].append(name)
    return studies


def _is_same_again(config: Mapping[str, Any], names: Sequence[str], arguments: Sequence[str]) -> bool:
    """Make tables of one study again and print how they differ; return True when all are equal."""
    study = config.get("study") or "default"
    print(f"Making {len(names)} tables of study {study} again:", *names, sep="\n  ", flush=True)
    make_again(names, config, arguments)
    report = compare_again()
    print(f"Made again: {report}")
    if not report.equal:
        print(f"The remade tables are in {SCRATCH}/results")
        return False
    shutil.rmtree(SCRATCH)
    return True


def make_again(names: Sequence[str], config: Mapping[str, Any], arguments: Sequence[str]) -> None:
    """Make tables of one configuration again below SCRATCH, from links to all other files.

    Nothing that was there is written: only the rules of the sample may run. ValueError when they fail.
    """
    shutil.rmtree(SCRATCH, ignore_errors=True)
    _link_all(RESULTS, SCRATCH / RESULTS.name)
    for name in names:
        for kind in ("observations", "telemetry", "health"):  # made together by one job
            (SCRATCH / RESULTS.name / name.replace("/observations/", f"/{kind}/")).unlink(missing_ok=True)
    for entry in Path().iterdir():  # what a configuration may name by a path from here
        if entry.name not in NOT_LINKED and not entry.name.startswith("."):
            (SCRATCH / entry.name).symlink_to(entry.absolute())
    (SCRATCH / "config.json").write_text(json.dumps(config), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "aftershock.launch"),
        *(os.path.abspath(each) if os.sep in each and Path(each).exists() else each for each in arguments),
        *("--snakefile", str(SNAKEFILE), "--configfile", "config.json", "--no-hooks"),
        *("--rerun-triggers", "mtime", "--allowed-rules", SAMPLED, *ONE_EACH),
        *("--", *(f"{RESULTS}/{name}" for name in names)),
    ]
    if subprocess.run(command, cwd=SCRATCH, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}).returncode:
        raise ValueError(
            f"the sample could not be made again, see above; its partial results are in {SCRATCH}"
        )


def _link_all(source: Path, target: Path) -> None:
    """Make `target` a folder with links to all files below `source` that a job of the sample may read.

    Folders and links have the dates of what they stand for, so that nothing looks newer than what was made
    from it. All folders can be written, whatever the mode of those in `source`.
    """
    target.mkdir(parents=True)
    for path in sorted(source.iterdir()):
        if source == RESULTS and (path.name[0] == "." or path.name in NOT_READ):
            continue
        if path.is_dir():
            _link_all(path, target / path.name)
        elif path.exists():  # not a link to nothing
            (target / path.name).symlink_to(path.resolve())
            _date_alike(path, target / path.name)
    _date_alike(source, target)


def _date_alike(source: Path, target: Path) -> None:
    stat = source.stat()
    os.utime(target, ns=(stat.st_atime_ns, stat.st_mtime_ns), follow_symlinks=False)


def compare_again() -> Report:
    """Compare every remade table with the original, with what differs between their circumstances."""
    again, report = SCRATCH / RESULTS.name, Report()
    for path in sorted(again.rglob("*.parquet")):
        if not path.is_symlink():
            original = RESULTS / path.relative_to(again)
            found = compare_files([original], [path], path.relative_to(again).as_posix())
            then, now = provenance_of(original), provenance_of(path)
            if found.verdict != IDENTICAL:
                changed = [key for key in CIRCUMSTANCES if then.get(key) != now.get(key)]
                found.notes += [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in changed] or [
                    SAME
                ]
            report.append(found)
    return report
