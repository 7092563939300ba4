"""Record of a run: a file of JSON lines below results/.runs/, which the run writes while it goes on.

The first line says how it was started, each of the others one event as Snakemake reports it to its loggers,
the last how it ended. A run that was killed has no such line.
"""

import argparse
import atexit
import json
import logging
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from aftershock.jobs.folder import PreflightError
from aftershock.lock import LOCK
from aftershock.process import find_process

FOLDER = Path("results/.runs")
SECRET = re.compile(r"--\S*(secret|passw|token|access-key)", re.IGNORECASE)
SUBMITTED = re.compile(r"Job \d+ has been submitted with SLURM jobid (\S+) \(log: (.+)\)\.$")
MISSED = re.compile(r"MissingOutputException in rule (\w+) in file")
MISSED_FILE = re.compile(r"^(\S+) \(missing locally", re.MULTILINE)
OF_JOBS = "At least one job did not complete successfully."


@dataclass
class Failure:
    """One failed attempt at a job."""

    rule: str
    ended: float
    """Seconds since 1970."""
    message: str = ""
    logs: list[str] = field(default_factory=list)
    """The rule's log, and that of SLURM."""
    outputs: list[str] = field(default_factory=list)
    slurm_job: str | None = None
    said: str = ""
    """Snakemake's error before, such as the signal that killed a job on its own machine."""
    restarted: bool = False

    @property
    def log(self) -> str:
        return next((log for log in self.logs if "slurm_logs/" not in log), "")


@dataclass
class Run:
    """A run, as far as it got."""

    arguments: list[str] | None
    """Snakemake's arguments; None where one of them may be a secret."""
    host: str
    pid: int
    began: float
    """Seconds since 1970."""
    job_prefix: str | None = None
    """Prefix of its SLURM jobs' names; None for a run that submits none."""
    planned: dict[str, int] = field(default_factory=dict)
    """Jobs of each rule, in the order in which Snakemake lists them."""
    begun: int = 0
    """Jobs that were started or submitted, each attempt counted."""
    done: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    submitted: dict[str, str] = field(default_factory=dict)
    """SLURM jobs and their logs."""
    error: str = ""
    """The error that ended it, apart from its jobs."""
    stopped: bool = False
    """True if its user ended it."""
    exit: int | None = None
    """Its exit code; None while it runs, and for ever when it was killed."""
    last: str = ""
    """The last event, in words."""
    last_time: float = 0.0

    @property
    def alive(self) -> bool | None:
        """True if it is running; None for one on another machine without a recorded end."""
        if self.exit is not None:
            return False
        if self.host != socket.gethostname():
            return None
        return find_process(self.pid, self.began) is not None

    @property
    def killed(self) -> bool:
        """True if it ended without a word."""
        return self.alive is False and self.exit is None and not self.stopped

    @property
    def in_flight(self) -> int:
        """Jobs that were started or submitted and have not ended."""
        return max(self.begun - self.done.total() - len(self.failures), 0)

    @property
    def profile(self) -> str:
        """The folder of its profile; "" without one."""
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--profile", default="")
        return parser.parse_known_args(self.arguments or [])[0].profile

    def take(self, event: str, at: float, **about: Any) -> None:
        """Add an event of the record."""
        self.last_time = at
        if event == "planned":
            self.planned = about["jobs"]
        elif event == "started":
            self.begun, self.last = self.begun + 1, about["message"]
        elif event == "finished":
            self.done[about["rule"]] += 1
        elif event == "failed":
            self.failures.append(Failure(ended=at, said=self.error, **about))
            self.last, self.error = f"{about['rule']} failed", ""
        elif event == "restarted" and self.failures:
            self.failures[-1].restarted = True
        elif event == "submitted":
            self.submitted[about["job"]] = about["log"]
        elif event == "error":
            self.error = about["text"]
        elif event == "stopped":
            self.stopped = True
        elif event == "ended":
            self.exit, self.error = about["code"], about["text"] or self.error


class RunRecord(logging.Handler):
    """The record of the run of this process, which listens to Snakemake's loggers."""

    def __init__(self, arguments: Sequence[str], job_prefix: str | None = None, workflow: Any = None) -> None:
        """Begin the record at once, or, with a workflow of Snakemake's, once jobs to run are planned."""
        super().__init__(logging.INFO)
        self.path = FOLDER / datetime.now().strftime("%Y-%m-%dT%H%M%S.%f.jsonl")
        self._rules: dict[int, str] = {}
        self._complete = False
        self._workflow = workflow
        kept = None if any(SECRET.match(argument) for argument in arguments) else list(arguments)
        self._start = {"arguments": kept, "host": socket.gethostname(), "pid": os.getpid()}
        self._start |= {"job_prefix": job_prefix}
        if workflow is None:
            self._begin()
        logging.getLogger("snakemake").addHandler(self)

    def _begin(self) -> None:
        FOLDER.mkdir(parents=True, exist_ok=True)
        self._write("begun", **self._start)

    def end(self, code: int | None = None, text: str = "") -> None:
        """Note how the run ended, by its progress where no code is given, and an error not noted so far."""
        logging.getLogger("snakemake").removeHandler(self)
        with suppress(OSError):  # what the disk is full of matters more
            if self.path.exists():
                self._write("ended", code=int(not self._complete) if code is None else code, text=text)

    def emit(self, record: logging.LogRecord) -> None:
        """Note what Snakemake reports. A full disk ends jobs where they write, and not the run here."""
        try:
            self._note(vars(record))
        except OSError:
            pass
        except Exception:  # such as a report of another form, of another version
            self.handleError(record)

    def _note(self, told: dict[str, Any]) -> None:
        kind, text = getattr(told.get("event"), "value", ""), str(told["msg"])
        if kind == "run_info" and self._workflow and not self._workflow.dryrun:
            self._begin()
        if not self.path.exists():
            return
        if kind == "run_info":
            self._write("planned", jobs={rule: n for rule, n in told["stats"].items() if rule != "total"})
        elif kind == "job_info":
            self._rules[told["jobid"]] = told["rule_name"]
            self._write("started", message=told["rule_msg"] or told["rule_name"])
        elif kind == "job_finished":
            self._write("finished", rule=self._rules[told["job_id"]])
        elif kind == "progress":
            self._complete = told["done"] == told["total"]
        elif kind == "job_error":
            message, number = " ".join((told["rule_msg"] or "").split()), told["aux"].get("external_jobid")
            self._failed(told["rule_name"], message, told["output"], told["log"], number)
        elif kind == "error" and (missed := MISSED.match(text)):
            self._failed(missed[1], text.partition("\n")[0], MISSED_FILE.findall(text))
        elif kind == "error" and (said := gist(told["exception"], text)) != OF_JOBS:
            self._write("error", text=said)
        elif submitted := SUBMITTED.match(text):
            self._write("submitted", job=submitted[1], log=submitted[2])
        elif text.startswith("Trying to restart job "):
            self._write("restarted")
        elif text.startswith("Terminating processes on user request"):
            self._write("stopped")

    def _failed(
        self,
        rule: str,
        message: str,
        outputs: Sequence[str],
        logs: Sequence[str] = (),
        job: str | None = None,
    ) -> None:
        self._write(
            "failed", rule=rule, message=message, outputs=list(outputs), logs=list(logs), slurm_job=job
        )

    def _write(self, event: str, **about: Any) -> None:
        line = json.dumps({"event": event, "at": round(time.time(), 2), **about})
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"\n{line}" if file.tell() else line)  # apart from one that a full disk has cut


def record_bare_run(workflow: Any) -> None:
    """Keep a record of a run of a workflow that was not started by the launcher, which keeps its own."""
    if not any(isinstance(each, RunRecord) for each in logging.getLogger("snakemake").handlers):
        atexit.register(RunRecord(sys.argv[1:], workflow=workflow).end)


def gist(kind: str, text: str) -> str:
    """Return an error that Snakemake reports in one line, without the places in its files."""
    head, *rest = [line.strip() for line in text.splitlines() if not line.strip().startswith('File "')]
    said = " ".join(filter(None, rest)) or head
    return said if kind in ("WorkflowError", "RuleException") else f"{kind}: {said}"


def newest_runs(folder: Path = FOLDER) -> Iterator[Run]:
    """Yield the runs that have a whole beginning in their record, newest first."""
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        with suppress(OSError, ValueError):
            yield _read(path)


def read_run(folder: Path = FOLDER) -> Run | None:
    """The newest run; None before the first. Raises PreflightError where its record is damaged."""
    path = max(folder.glob("*.jsonl"), default=None)
    try:
        return _read(path) if path else None
    except (OSError, ValueError) as error:
        raise PreflightError(f"{path} is no record of a run ({error}). Delete it, then: make run") from None


def starting_run() -> Run | None:
    """The run that holds this folder and has no record yet; None where there is none."""
    newest = next(newest_runs(), None)
    with suppress(OSError, ValueError):
        pid, host, started = LOCK.read_text(encoding="utf-8").split(" ", 2)
        began = time.mktime(time.strptime(started.strip(), "%Y-%m-%d %H:%M:%S"))
        holder = Run([], host, int(pid), began)
        if holder.alive and (newest is None or newest.pid != holder.pid):
            return holder
    return None


def _read(path: Path) -> Run:
    """The run of a record, without lines that are damaged. ValueError where the first one is."""
    first, *lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        begun = json.loads(first)
        run = Run(*(begun[name] for name in ("arguments", "host", "pid", "at", "job_prefix")))
    except (TypeError, KeyError) as error:
        raise ValueError(f"its first line is {first[:80]!r}") from error
    run.last_time = run.began
    for line in lines:
        with suppress(ValueError, TypeError, KeyError):
            run.take(**json.loads(line))
    return run
