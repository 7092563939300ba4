"""Record of a run: a file of JSON lines below results/.runs/, which the run writes while it goes on.

The first line says how it was started, each of the others one event as Snakemake reports it to its loggers,
the last how it ended. A run that was killed has no such line.
"""

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
from aftershock.process import find_process

FOLDER = Path("results/.runs")
SECRET = re.compile(r"--\S*(secret|passw|token|access-key)", re.IGNORECASE)
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
    """Snakemake's messages, its error before among them, such as the signal that killed a local job."""
    logs: list[str] = field(default_factory=list)
    """The rule's log, and that of SLURM."""
    outputs: list[str] = field(default_factory=list)
    slurm_job: str | None = None
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
    def alive(self) -> bool:
        """True if it is running, or has no recorded end and is on another machine."""
        if self.exit is not None:
            return False
        return self.host != socket.gethostname() or find_process(self.pid, self.began) is not None

    @property
    def state(self) -> str:
        """`running`, or how it ended: `finished`, `stopped` by its user, `killed`, `failed` or `unready`.

        It is `unready` where it ended before its first job.
        """
        if self.exit is None:
            return "running" if self.alive else "stopped" if self.stopped else "killed"
        if self.exit == 0:
            return "finished"
        return "stopped" if self.stopped else "failed" if self.begun or self.failures else "unready"

    @property
    def profile(self) -> str:
        """The file of its profile; "" without one."""
        found = re.search(r"--profile[ =](\S*[^\s/])", " ".join(self.arguments or []))
        return f"{found[1]}/config.yaml" if found else ""

    def take(self, event: str, at: float, **about: Any) -> None:
        """Add an event of the record."""
        self.last_time = at
        match event:
            case "planned":
                self.planned = about["jobs"]
            case "started":
                self.begun, self.last = self.begun + 1, about["message"]
            case "finished":
                self.done[about["rule"]] += 1
            case "failed":
                about["message"] = f"{about.get('message', '')} {self.error}"
                self.failures.append(Failure(ended=at, **about))
                self.last, self.error = f"{about['rule']} failed", ""
            case "restarted" if self.failures:
                self.failures[-1].restarted = True
            case "error":
                self.error = about["text"]
            case "stopped":
                self.stopped = True
            case "ended":
                code, self.error = about["code"], about["text"] or self.error
                self.exit = int(self.done.total() < sum(self.planned.values())) if code is None else code


class RunRecord(logging.Handler):
    """The record of the run of this process, which listens to Snakemake's loggers."""

    def __init__(self, arguments: Sequence[str], job_prefix: str | None = None, workflow: Any = None) -> None:
        """Begin the record at once, or, with a workflow of Snakemake's, once jobs to run are planned."""
        super().__init__(logging.INFO)
        self.path = FOLDER / datetime.now().strftime("%Y-%m-%dT%H%M%S.%f.jsonl")
        self._rules: dict[int, str] = {}
        self._workflow = workflow
        kept = None if any(SECRET.match(argument) for argument in arguments) else list(arguments)
        here = {"host": socket.gethostname(), "pid": os.getpid()}
        self._start = {"arguments": kept, **here, "job_prefix": job_prefix}
        if workflow is None:
            self._write("begun", **self._start)
        logging.getLogger("snakemake").addHandler(self)

    def end(self, code: int | None = None, text: str = "") -> None:
        """Note how the run ended, with its exit code where that is known, and an error not noted so far."""
        logging.getLogger("snakemake").removeHandler(self)
        with suppress(OSError):  # what the disk is full of matters more
            if self.path.exists():
                self._write("ended", code=code, text=text)

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
            self._write("begun", **self._start)
        if not self.path.exists():
            return
        if kind == "run_info":
            self._write("planned", jobs={rule: n for rule, n in told["stats"].items() if rule != "total"})
        elif kind == "job_info":
            self._rules[told["jobid"]] = told["rule_name"]
            self._write("started", message=told["rule_msg"] or told["rule_name"])
        elif kind == "job_finished":
            self._write("finished", rule=self._rules[told["job_id"]])
        elif kind == "job_error":
            self._write(
                "failed",
                rule=told["rule_name"],
                message=" ".join((told["rule_msg"] or "").split()),
                outputs=list(told["output"]),
                logs=list(told["log"]),
                slurm_job=told["aux"].get("external_jobid"),
            )
        elif kind == "error" and (missed := MISSED.match(text)):
            self._write("failed", rule=missed[1], message=missed[0], outputs=MISSED_FILE.findall(text))
        elif kind == "error" and (said := gist(told["exception"], text)) != OF_JOBS:
            self._write("error", text=said)
        elif text.startswith("Trying to restart job "):
            self._write("restarted")
        elif text.startswith("Terminating processes on user request"):
            self._write("stopped")

    def _write(self, event: str, **about: Any) -> None:
        line = json.dumps({"event": event, "at": round(time.time(), 2), **about})
        self.path.parent.mkdir(parents=True, exist_ok=True)
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


def newest_runs() -> Iterator[Run]:
    """Yield the runs that have a whole beginning in their record, newest first."""
    for path in sorted(FOLDER.glob("*.jsonl"), reverse=True):
        with suppress(OSError, ValueError):
            yield _read(path)


def read_run() -> Run | None:
    """The newest run; None before the first. Raises PreflightError where its record is damaged."""
    path = max(FOLDER.glob("*.jsonl"), default=None)
    try:
        return _read(path) if path else None
    except (OSError, ValueError) as error:
        raise PreflightError(f"{path} is no record of a run ({error}). Delete it, then: make run") from None


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
