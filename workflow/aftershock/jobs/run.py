"""Record of a run: a JSON file below results/.runs/, which the run writes anew at whatever Snakemake reports.

A run that was killed has no exit code there. Failed attempts at jobs are in files of their own, see `job`.
"""

import atexit
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aftershock.jobs.folder import PreflightError
from aftershock.jobs.job import Failure, failures_path, note_failure
from aftershock.jobs.record import record_path
from aftershock.process import find_process

FOLDER = Path("results/.runs")
SECRET = re.compile(r"--\S*(secret|passw|token|access-key)", re.IGNORECASE)
MISSED = re.compile(r"Job (\d+) +completed successfully, but some output files are missing")
OF_JOBS = "At least one job did not complete successfully."


@dataclass
class Run:
    """A run, as far as it got; times are in seconds since 1970."""

    arguments: list[str] | None  # Snakemake's arguments; None where one of them may be a secret
    host: str
    pid: int
    began: float
    job_prefix: str | None = None  # prefix of its SLURM jobs' names; None for a run that submits none
    planned: dict[str, int] = field(default_factory=dict)
    """Jobs of each rule, in the order in which Snakemake lists them."""
    done: dict[str, int] = field(default_factory=dict)
    begun: int = 0  # attempts at jobs that were started or submitted
    active: list[str] = field(default_factory=list)
    """Records of the jobs that were, and have neither finished nor failed."""
    failed: int = 0  # attempts that failed
    error: str = ""  # the error that ended it, apart from its jobs
    stopped: bool = False  # true if its user ended it
    exit: int | None = None  # its exit code; None while it runs, and for ever when it was killed
    last: str = ""  # the last event, in words
    last_time: float = 0.0

    @property
    def alive(self) -> bool:
        """True if it is running, or has no recorded end and is on another machine."""
        if self.exit is not None:
            return False
        return self.host != socket.gethostname() or find_process(self.pid, self.began) is not None

    @property
    def jobs_under_way(self) -> list[str]:
        """Records of the jobs that it has begun, while it is running."""
        return self.active if self.alive else []

    @property
    def state(self) -> str:
        """`running`, or how it ended: `finished`, `stopped` by its user, `killed`, `failed` or `unready`.

        It is `unready` where it ended before its first job.
        """
        if self.exit == 0:
            return "finished"
        ended = "killed" if self.exit is None else "failed" if self.begun else "unready"
        return "running" if self.alive else "stopped" if self.stopped else ended

    @property
    def profile(self) -> str:
        """The file of its profile; "" without one."""
        found = re.search(r"--profile[ =](\S*[^\s/])", " ".join(self.arguments or []))
        return f"{found[1]}/config.yaml" if found else ""


class RunRecord(logging.Handler):
    """The record of the run of this process, which listens to Snakemake's loggers."""

    def __init__(self, arguments: Sequence[str], job_prefix: str | None = None, workflow: Any = None) -> None:
        """Begin the record at once, or, with a workflow of Snakemake's, once jobs to run are planned."""
        super().__init__(logging.INFO)
        kept = None if any(SECRET.match(argument) for argument in arguments) else list(arguments)
        self.run = Run(kept, socket.gethostname(), os.getpid(), round(time.time(), 2), job_prefix)
        self.path = FOLDER / datetime.now().strftime("%Y-%m-%dT%H%M%S.%f.json")
        self._jobs: dict[int, Path] = {}  # the record of each job that has begun
        self._workflow = workflow
        if workflow is None:
            self._write()
        logging.getLogger("snakemake").addHandler(self)

    def end(self, code: int | None = None, text: str = "") -> None:
        """Note how the run ended, with its exit code where that is known, and an error not noted so far."""
        logging.getLogger("snakemake").removeHandler(self)
        run = self.run
        run.exit = int(sum(run.done.values()) < sum(run.planned.values())) if code is None else code
        run.error = text or run.error
        with suppress(OSError):  # what the disk is full of matters more
            if self.path.exists():
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
        begins = kind == "run_info" and self._workflow and not self._workflow.dryrun
        if not (begins or self.path.exists()):
            return
        if kind == "run_info":
            run.planned = {rule: n for rule, n in told["stats"].items() if rule != "total"}
        elif kind == "job_info":
            path = self._jobs[told["jobid"]] = record_path(told["rule_name"], told["wildcards"])
            run.active.append(str(path))
            run.begun, run.last = run.begun + 1, told["rule_msg"] or told["rule_name"]
        elif kind == "job_finished":
            path = self._ended(told["job_id"])
            run.done[path.parent.name] = run.done.get(path.parent.name, 0) + 1
            failures_path(path).unlink(missing_ok=True)
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

    def _ended(self, job: int) -> Path:
        """The record of a job that is active no longer."""
        path = self._jobs[job]
        self.run.active = [record for record in self.run.active if record != str(path)]
        return path

    def _fail(self, job: int, message: str, log: str = "", number: str | None = None) -> None:
        """Note a failed attempt, with the error before, such as the signal that killed a local job."""
        path, run = self._ended(job), self.run
        said = " ".join([*message.split(), run.error])
        run.failed, run.last, run.error = run.failed + 1, f"{path.parent.name} failed", ""
        note_failure(path, Failure(time.time(), said, log, number))

    def _write(self) -> None:
        self.run.last_time = round(time.time(), 2)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f".{self.path.name}.part")
        part.write_text(json.dumps(vars(self.run)), encoding="utf-8")
        os.replace(part, self.path)


def record_bare_run(workflow: Any) -> None:
    """Keep a record of a run of a workflow that was not started by the launcher, which keeps its own."""
    if not any(isinstance(each, RunRecord) for each in logging.getLogger("snakemake").handlers):
        atexit.register(RunRecord(sys.argv[1:], workflow=workflow).end)


def gist(kind: str, text: str) -> str:
    """Return an error that Snakemake reports in one line, without the places in its files."""
    head, *rest = [line.strip() for line in text.splitlines() if not line.strip().startswith('File "')]
    said = " ".join(filter(None, rest)) or head
    return said if kind in ("WorkflowError", "RuleException") else f"{kind}: {said}"


def newest_runs() -> Iterator[Run]:
    """Yield the runs whose record is whole, newest first."""
    for path in sorted(FOLDER.glob("*.json"), reverse=True):
        with suppress(OSError, ValueError, TypeError):
            yield _read(path)


def read_run() -> Run | None:
    """The newest run; None before the first. Raises PreflightError where its record is damaged."""
    path = max(FOLDER.glob("*.json"), default=None)
    try:
        return _read(path) if path else None
    except (OSError, ValueError, TypeError) as error:
        raise PreflightError(f"{path} is no record of a run ({error}). Delete it, then: make run") from None


def _read(path: Path) -> Run:
    return Run(**json.loads(path.read_text(encoding="utf-8")))
