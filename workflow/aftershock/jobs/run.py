"""Record of a run: a JSON file below results/.runs/, which the run writes anew at whatever Snakemake reports.

A run that was killed has no exit code there. A job is read from its own record, and from those of the runs
that saw it fail.
"""

import json
import logging
import os
import re
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, takewhile
from operator import itemgetter
from pathlib import Path
from typing import Any

from aftershock.jobs.record import FOLDER as JOBS
from aftershock.jobs.record import NEEDED, is_running, read_record, record_path
from aftershock.jobs.sizes import plural
from aftershock.output import write_text
from aftershock.process import find_process

FOLDER = Path("results/.runs")
SECRET = re.compile(r"--\S*(secret|passw|token|access-key)", re.IGNORECASE)
MISSED = re.compile(r"Job (\d+) +completed successfully, but some output files are missing")
REFUSED = re.compile("ubmission failed|sbatch failed")
OF_JOBS = "At least one job did not complete successfully."


@dataclass
class Run:
    """A run, as far as it got; times are in seconds since 1970."""

    arguments: list[str] | None  # Snakemake's arguments; None where one of them may be a secret
    host: str
    pid: int
    began: float
    job_prefix: str | None = None  # prefix of its SLURM jobs' names; None for a run that submits none
    planned: dict[str, int] = field(default_factory=dict)  # jobs of each rule, in Snakemake's order
    done: dict[str, int] = field(default_factory=dict)
    active: list[str] = field(default_factory=list)  # records of jobs that have begun and not ended
    failures: list[dict[str, Any]] = field(default_factory=list)
    """Failed attempts: the job's `record`, when it `ended`, Snakemake's `message`, `log` and `slurm_job`."""
    error: str = ""  # the error that ended it, apart from its jobs
    stopped: bool = False  # true if its user ended it
    exit: int | None = None  # its exit code; None while it runs, and for ever when it was killed
    last: str = ""  # the last event, in words
    last_time: float = 0.0

    @property
    def state(self) -> str:
        """`running`, or how it ended: `finished`, `stopped` by its user, `killed`, `failed` or `unready`.

        It is `unready` where it ended before its first job. On another machine it is running until it ends.
        """
        here = self.host == socket.gethostname()
        if self.exit is None and (not here or find_process(self.pid, self.began)):
            return "running"
        if self.exit == 0 or self.stopped:
            return "finished" if self.exit == 0 else "stopped"
        begun = self.done or self.active or self.failures
        return "killed" if self.exit is None else "failed" if begun else "unready"


class RunRecord(logging.Handler):
    """The record of the run of this process, which listens to Snakemake's loggers."""

    def __init__(self, arguments: Sequence[str], job_prefix: str | None = None) -> None:
        super().__init__(logging.INFO)
        kept = None if any(SECRET.match(argument) for argument in arguments) else list(arguments)
        self.run = Run(kept, socket.gethostname(), os.getpid(), round(time.time(), 2), job_prefix)
        self.path = FOLDER / datetime.now().strftime("%Y-%m-%dT%H%M%S.%f.json")
        self._jobs: dict[int, str] = {}  # the record of each job that has begun
        self._write()
        logging.getLogger("snakemake").addHandler(self)

    def end(self, code: int, text: str = "") -> None:
        """Note how the run ended, with its exit code and an error not noted so far."""
        logging.getLogger("snakemake").removeHandler(self)
        self.run.exit, self.run.error = code, text or self.run.error
        with suppress(OSError):  # what the disk is full of matters more
            self._write()

    def emit(self, record: logging.LogRecord) -> None:
        """Note what Snakemake reports. A full disk ends jobs where they write, and not the run here."""
        try:
            self._note(vars(record))
        except OSError:
            pass
        except Exception:  # such as a report of another form, of another version
            self.handleError(record)

    def _note(self, told: dict[str, Any]) -> None:
        kind, text, run = getattr(told.get("event"), "value", ""), str(told["msg"]), self.run
        if kind == "run_info":
            run.planned = {rule: n for rule, n in told["stats"].items() if rule != "total"}
        elif kind == "job_info":
            path = self._jobs[told["jobid"]] = str(record_path(told["rule_name"], told["wildcards"]))
            run.active.append(path)
            run.last = told["rule_msg"] or told["rule_name"]
        elif kind == "job_finished":
            _, rule = self._ended(told["job_id"])
            run.done[rule] = run.done.get(rule, 0) + 1
        elif kind == "job_error":
            log, number = next(iter(told["log"]), ""), told["aux"].get("external_jobid")
            self._fail(told["jobid"], told["rule_msg"] or "", log, number)
        elif kind == "error" and (missed := MISSED.search(text)):
            self._fail(int(missed[1]), missed[0])
        elif kind == "error" and (said := gist(told["exception"], text)) != OF_JOBS:
            run.error = said
        elif text.startswith("Terminating processes on user request"):
            run.stopped = True
        else:
            return
        self._write()

    def _ended(self, job: int) -> tuple[str, str]:
        """The record and the rule of a job that is active no longer."""
        path = self._jobs[job]
        self.run.active = [each for each in self.run.active if each != path]
        return path, Path(path).parent.name

    def _fail(self, job: int, message: str, log: str = "", number: str | None = None) -> None:
        """Note a failed attempt, with the error before, such as the signal that killed a local job."""
        (path, rule), run = self._ended(job), self.run
        said = " ".join([*message.split(), run.error])
        failure = {"record": path, "ended": time.time(), "message": said, "log": log, "slurm_job": number}
        run.failures.append(failure)
        run.last, run.error = f"{rule} failed", ""

    def _write(self) -> None:
        self.run.last_time = round(time.time(), 2)
        write_text(self.path, json.dumps(vars(self.run)))


def gist(kind: str, text: str) -> str:
    """Return an error that Snakemake reports in one line, without the places in its files."""
    head, *rest = [line.strip() for line in text.splitlines() if not line.strip().startswith('File "')]
    said = " ".join(filter(None, rest)) or head
    return said if kind in ("WorkflowError", "RuleException") else f"{kind}: {said}"


def newest_runs() -> Iterator[Run]:
    """Yield the runs whose record is whole, newest first."""
    for path in sorted(FOLDER.glob("*.json"), reverse=True):
        with suppress(OSError, ValueError, TypeError):
            yield Run(**json.loads(path.read_text(encoding="utf-8")))


def read_run() -> Run | None:
    """The newest run; None before the first."""
    return next(newest_runs(), None)


# --- jobs -------------------------------------------------------------------------------------------------


@dataclass
class Job:
    """A job that has begun."""

    rule: str
    log: str
    record: dict[str, Any] = field(default_factory=dict)  # its own; empty where it has none
    under_way: bool = False  # true if a run that is alive has begun it
    attempts: int = 0  # that failed, the last one among them; 0 where that has not
    ended: float = 0.0  # end of the last attempt, in seconds since 1970
    message: str = ""  # Snakemake's messages about it
    slurm_job: str | None = None
    slurm_log: str = ""  # the end of SLURM's log of the last attempt
    log_end: str = ""  # the end of its own log

    @property
    def name(self) -> str:
        return f"{self.rule} {Path(self.log).stem}"

    @property
    def state(self) -> str | None:
        """State in its record, "gone" where it has vanished; None without one."""
        return self.record.get("state")

    @property
    def age(self) -> float:
        """Seconds that it has run, when its record was last written."""
        return self.record.get("seconds", 0.0)

    @property
    def progress(self) -> str:
        """Progress such as "7 of 32 cases"; "" where it does not count."""
        done, total = self.record.get("done"), self.record.get("total")
        return "" if done is None or not total else f"{done:g} of {total:g} {plural(self.record['unit'])}"

    @property
    def left(self) -> float | None:
        """Estimated seconds until it is done; None where it does not count."""
        began, first = self.record.get("began") or (0.0, 0)
        done, total = self.record.get("done"), self.record.get("total")
        if total is None or not done or done <= first:
            return None
        return max(total - done, 0) * (self.age - began) / (done - first)


def read_jobs(runs: Sequence[Run] = ()) -> list[Job]:
    """The jobs of the current folder that have begun, by `runs`, the newest first, up to a successful one."""
    failures = defaultdict[Path, list[dict[str, Any]]](list)
    since = takewhile(lambda run: run.exit != 0, runs)
    for each in sorted(chain.from_iterable(run.failures for run in since), key=itemgetter("ended")):
        failures[Path(each["record"])].append(each)
    active = set(runs[0].active) if runs and runs[0].state == "running" else ()
    jobs = []
    for path in sorted({*JOBS.glob("*/*.json"), *failures}):
        record = read_record(path)
        if not record.keys() >= NEEDED:
            record = {}
        if record or failures[path]:
            jobs.append(_job(path, record, failures[path]))
            jobs[-1].under_way = str(path) in active
    return jobs


def _job(path: Path, record: dict[str, Any], failures: Sequence[dict[str, Any]]) -> Job:
    """A job by its record and by failed attempts.

    A record of an attempt before the last, which did not reach its stage, is left out.
    """
    if record.get("state") == "running" and not is_running(record):
        record["state"] = "gone"
    job = Job(path.parent.name, record.get("log") or failures[-1]["log"] or path.stem, record)
    if failures and failures[-1]["ended"] >= record.get("started", 0.0):
        last = failures[-1]
        job.attempts, job.ended = len(failures), last["ended"]
        job.message, job.slurm_job = last["message"], last["slurm_job"]
        of_another = record and job.slurm_job and record["slurm_job"] not in (None, job.slurm_job)
        if of_another or REFUSED.search(job.message):
            job.record = {}
    else:
        job.ended, job.slurm_job = record["started"] + job.age, record["slurm_job"]
        job.attempts = len(failures) + 1 if job.state in ("failed", "stopped", "gone") else 0
    return job
