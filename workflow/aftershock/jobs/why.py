"""Reasons why jobs failed, a line each: `aftershock why`.

Reads the records of runs and jobs and the logs of rules and SLURM. Changes nothing, so it may be asked while
a run is at work. The causes are rows of resources/causes.tsv: the first one whose pattern is found in its
source counts.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aftershock.jobs.record import FOLDER as JOBS
from aftershock.jobs.run import FOLDER, Job, Run, newest_runs, read_jobs
from aftershock.jobs.sizes import duration, megabytes, moment, printable
from aftershock.project import PROJECT, command, installation
from aftershock.text_files import read_cells

SLURM_LOGS = Path(".snakemake/slurm_logs")
TAIL_BYTES = 20_000
LISTED = 50  # jobs that are listed; `--json` lists the others too
PROFILE = re.compile(r"--profile[ =](\S*[^\s/])")
AGAIN = f"run again: `{command('resume')}`"
MORE = 2  # times the memory and time that a job is given next
DEFAULT_MB, DEFAULT_MINUTES = 2000, 60  # requests assumed for a job that states none

REFUSED = re.compile(
    r"SLURM sbatch failed\. The error message was '(.+?)'\.(?: sbatch call:|$)|"
    r"Job submission failed with exception: (.+?)\.?(?:For further error details|$)"
)
LIMIT = re.compile(r"exceeded memory limit \((\d+) > (\d+)\)")
NODE = re.compile(r"Node failure on (\S+)")
SIGNAL = re.compile(r"died with <Signals\.(SIG\w+): \d+>")
ERROR = re.compile(
    r"^[ \t]*(?:\S+: )?(?:\w+\.)*(\w*(?:[Ee]rror|Exception): .*?)(?: \(traceback in \S+\))?$", re.M
)
NOISE = re.compile(
    r"At least one job did not complete|Exited with exit code|CalledProcessError|Job step aborted"
)


@dataclass(frozen=True)
class Cause:
    """Cause of a failure, and its remedy."""

    kind: str
    what: str
    remedy: str


def report(as_json: bool) -> bool:
    """Print what failed in the current folder, an object a job with `as_json`; return True if nothing did."""
    problems, failed = look()
    if as_json:
        for job, cause in failed:
            facts = {"rule": job.rule, "log": job.log, "attempts": job.attempts}
            print(json.dumps(facts | asdict(cause)))
    else:
        print("\n".join(told(problems, failed)))
    return not (problems or failed)


def look() -> tuple[list[str], list[tuple[Job, Cause]]]:
    """Problems of the newest run itself, and the jobs that failed since one succeeded, with their causes."""
    runs = list(newest_runs())
    run = runs[0] if runs else None
    jobs = read_jobs(runs)
    good_until = max((run.last_time for run in runs if run.exit == 0), default=0.0)
    failed = [job for job in jobs if job.attempts and not job.under_way and job.ended >= good_until]
    logs = {path.stem: path for path in SLURM_LOGS.rglob("*.log")} if failed else {}
    for job in failed:
        job.log_end = _tail(Path(job.log))
        job.slurm_log = _tail(logs[job.slurm_job]) if job.slurm_job in logs else ""
        if job.state == "gone" and run and run.state == "killed" and not (job.slurm_job or job.message):
            job.record["state"] = "gone with its run"
    named = PROFILE.search(" ".join(run.arguments or [])) if run else None
    profile = f"{named[1]}/config.yaml" if named else "the profile's config.yaml"
    failed.sort(key=lambda job: job.ended)
    return list(_of_the_run(run, jobs)), [(job, cause_of(job, profile)) for job in failed]


def told(problems: Sequence[str], failed: Sequence[tuple[Job, Cause]]) -> list[str]:
    """The findings in lines."""
    lines = [f"The run: {printable(line)}" for line in problems]
    if failed:
        lines.append(f"{len(failed)} job{'s' if len(failed) > 1 else ''} failed:")
    for job, cause in failed[:LISTED]:
        tries = f" ({job.attempts} attempts)" if job.attempts > 1 else ""
        lines.append(f"{job.name}{tries}: {printable(cause.what).rstrip(' .;')} -> {cause.remedy}")
    if len(failed) > LISTED:
        lines.append(f"and {len(failed) - LISTED} more: `{command('why', '--json')}` lists them")
    anything = FOLDER.is_dir() or JOBS.is_dir()
    return lines or ["Nothing failed." if anything else "No run has left anything here yet."]


def _of_the_run(run: Run | None, jobs: Sequence[Job]) -> Iterator[str]:
    """Yield the problems of the newest run as a whole."""
    if run is None:
        return
    began, ended = (moment(at) for at in (run.began, run.last_time))
    resume = f"`{command('resume')}` goes on"
    if run.state == "stopped":
        yield f"ended by its user at {ended} -> {resume}"
    elif run.state == "killed":
        running = sum(job.state == "running" for job in jobs)
        left = f"; {running} of its jobs are still at work" if running else ""
        yield f"its Snakemake was killed after {ended}{left} -> {resume}"
    elif run.exit and (run.error or not run.failures):
        first = " before its first job" if run.state == "unready" else ""
        error = run.error or "nothing is known of the cause"
        yield f"started at {began} and stopped{first}: {error} -> put right what it names"


def _tail(path: Path) -> str:
    """The end of a log; "" where it is gone."""
    try:
        with open(path, "rb") as handle:
            handle.seek(max(path.stat().st_size - TAIL_BYTES, 0))
            return handle.read().decode("utf-8", errors="replace")
    except OSError:
        return ""


# --- the cause of one failure -----------------------------------------------------------------------------


def cause_of(job: Job, profile: str) -> Cause:
    """The first cause in the sheet that fits the last attempt at a job; `profile` is its run's file."""
    for source, text in _sources(job):
        for of, kind, pattern, what, remedy in _sheet() if text else ():
            if of == source and re.search(pattern, text):
                values = _values(job, text, profile)
                return Cause(kind, what.format(**values), remedy.format(**values))
    return Cause("unknown", "it ended with an error, and no log says why", f"see {job.log}; {AGAIN}")


@cache
def _sheet() -> list[list[str]]:
    """Source, kind, pattern, what happened and the remedy of each cause; braces have keys of `_values`."""
    return read_cells((PROJECT / "resources" / "causes.tsv").read_bytes(), "causes.tsv")[1:]


def _sources(job: Job) -> list[tuple[str, str]]:
    """The texts in which causes are looked for, in this order, each with its source as rows name it."""
    refused = REFUSED.search(job.message)
    refusal = (refused[1] or refused[2]).replace("sbatch: error: ", "") if refused else ""
    return [
        ("refusal", refusal.split("Batch job submission failed: ")[-1].strip()),
        ("error", _own_error(job)),
        ("end", f"{job.slurm_log}\n{job.message}\n<{job.state}>"),
        ("error", last_error(job.slurm_log) or last_error(job.message)),
    ]


def last_error(text: str) -> str:
    """Kind and text of the last error in a log; "" without one."""
    return next((error for error in reversed(ERROR.findall(text)) if not NOISE.search(error)), "")


def _own_error(job: Job) -> str:
    """Kind and text of the error in a job's record; from its log where the record could not be written."""
    error = job.record.get("error") or {}
    if job.state == "failed" and error.get("kind"):
        return f"{error['kind']}: {' '.join(error.get('text', '').split())}"
    lines = job.log_end.strip().splitlines()[-1:] if job.state in ("gone", "running") else []
    return last_error("\n".join(lines))


def _values(job: Job, text: str, profile: str) -> dict[str, Any]:
    """Values for the braces of the sheet; `text` is what the cause was found in."""
    record, asked = job.record, job.record.get("asked", {})
    minutes = asked.get("runtime")
    signal, node, limit = SIGNAL.search(text), NODE.search(text), LIMIT.search(job.slurm_log)
    progress = f" with {job.progress} done" if record.get("done") and job.progress else ""
    longer = MORE * (minutes or DEFAULT_MINUTES) * (record["total"] / record["done"] if progress else 1)
    used = max(record.get("peak_bytes") or 0, int(limit[1]) if limit else 0)
    allowed = int(limit[2]) if limit else (asked.get("mem_mb") or 0) * 2**20
    memory = megabytes(used or None) + " used"
    give = f"`set-resources: {job.rule}: {{}}: {{:.0f}}` in {profile}".format
    more_memory = give("mem_mb", MORE * (allowed / 2**20 or DEFAULT_MB))
    if job.slurm_job and allowed:
        memory += f", {megabytes(allowed)} allowed"
    if not job.slurm_job:
        more_memory = (
            f"fewer jobs at once (`{command('resume', '--cores 1')}`), or a machine with more memory"
        )
    return {
        "all": text,
        "error": text.partition(": ")[0],
        "text": text.partition(": ")[2],
        "rule": job.rule,
        "log": job.log,
        "profile": profile,
        "again": AGAIN,
        "install": installation("workflow"),
        "host": record.get("host", "the machine of the job"),
        "age": f" after {duration(job.age)}{progress}" if record else "",
        "progress": progress,
        "signal": f" by {signal[1]}" if signal else "",
        "memory": memory,
        "gpu_memory": megabytes(record.get("gpu_peak_bytes")),
        "more_memory": more_memory,
        "minutes": f" of {minutes} min" if minutes else "",
        "more_time": give("runtime", longer),
        "node": node[1] if node else record.get("host", ""),
    }
