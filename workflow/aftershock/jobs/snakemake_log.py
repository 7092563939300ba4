"""Parser of Snakemake's own logs, .snakemake/log/*.log: jobs planned, made and failed."""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

FOLDER = Path(".snakemake/log")
STAMP = re.compile(r"\[(\w{3} \w{3} +\d+ \d\d:\d\d:\d\d \d{4})\]$")
PLANNED = re.compile(r"(\w+) +(\d+)$")
FINISHED = re.compile(r"Finished jobid: \d+ \(Rule: (.+)\)$")
FAILED = re.compile(r"Error in rule (.+):$")
MISSED = re.compile(r"MissingOutputException in rule (\w+) in file")
STEPS = re.compile(r"(\d+) of (\d+) steps \(\S+%\) done$")
SUBMITTED = re.compile(r"Job \d+ has been submitted with SLURM jobid (\S+) \(log: (.+)\)\.$")
ELAPSED = re.compile(r"Elapsed time: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")
BEGUN = re.compile(r"(?:Job \d+: (.+)|(?:local)?rule (\w+):)$")
ENDING = re.compile(r"Complete log\(s\): |Nothing to be done")
IN_THE_END = re.compile(r"(\w*(?:Error|Exception))(?: in .*)?:?$")
INDENT = "    "
LONGEST = 40  # lines of one message


@dataclass
class Failure:
    """One attempt at a job that Snakemake reports as failed."""

    rule: str
    ended: float
    """Seconds since 1970."""
    message: str = ""
    log: str = ""
    """The rule's log."""
    slurm_log: str = ""
    slurm_job: str | None = None
    outputs: list[str] = field(default_factory=list)
    said: str = ""
    """Snakemake's last message before, such as the signal that killed a job on its own machine."""
    restarted: bool = False


@dataclass
class RunLog:
    """Log of one run."""

    path: Path
    started: float
    """Seconds since 1970."""
    planned: dict[str, int] = field(default_factory=dict)
    """Jobs of each rule, in the order in which Snakemake lists them."""
    begun: int = 0
    """Jobs that were started or submitted, each attempt counted."""
    done: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    submitted: dict[str, str] = field(default_factory=dict)
    """SLURM jobs and their logs."""
    steps: tuple[int, int] | None = None
    last: str = ""
    """The last line that reports an event."""
    last_time: float = 0.0
    ended: bool = False
    """True if Snakemake itself ended, with or without success."""
    error: str = ""
    """The error that ended a run before its first job, or apart from its jobs."""
    stopped: bool = False
    """True if the user ended it."""
    dry: bool = False

    @property
    def complete(self) -> bool:
        """True if all requested outputs were made."""
        if self.steps:
            return self.steps[0] == self.steps[1]
        return self.ended and not self.error and not self.planned

    @property
    def in_flight(self) -> int:
        """Jobs that were started or submitted and have not ended."""
        return max(self.begun - self.done.total() - len(self.failures), 0)

    @property
    def is_run(self) -> bool:
        """True for a run: neither a dry run nor a command such as --lint."""
        return not self.dry and bool(self.planned or self.ended or self.error)


def newest_runs(folder: Path = FOLDER) -> Iterator[RunLog]:
    """The runs that have a log below `folder`, newest first; dry runs and such are left out."""
    for path in sorted(folder.glob("*.snakemake.log"), reverse=True):
        run = read_run(path)
        if run.is_run:
            yield run


def read_run(path: Path) -> RunLog:
    """The run that wrote the log `path`, as far as it got."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # removed in the meantime
        lines = []
    name = path.name.split(".")[0]
    try:
        started = datetime.strptime(name, "%Y-%m-%dT%H%M%S").timestamp()
    except ValueError:
        started = 0.0
    run = RunLog(path, started, last_time=started)
    _follow(run, lines)
    return run


def error_in(lines: Sequence[str]) -> str:
    """Return the error that ended a run, from its last lines on the terminal; "" where there is none."""
    run = RunLog(Path(), 0.0)
    _follow(run, list(lines))
    told = [line.strip() for line in lines if line.strip()]
    return run.error or (told[-1] if told else "")


def _follow(run: RunLog, lines: list[str]) -> None:
    """Parse all lines."""
    said: list[str] = []
    now, table = run.started, False
    for place, line in enumerate(lines):
        if found := STAMP.match(line):
            now = run.last_time = time.mktime(time.strptime(found[1]))
        elif found := FAILED.match(line):
            failure = _failure(found[1], now, lines[place + 1 : place + LONGEST])
            failure.said, said = " ".join(said), []
            run.failures.append(failure)
            run.last = f"{failure.rule} failed"
        elif found := MISSED.match(line):
            run.failures.append(_missed(found[1], now, line, lines[place + 1 : place + LONGEST]))
            run.last = f"{found[1]} failed"
        elif line.startswith(INDENT):
            continue
        elif line.startswith("Trying to restart job ") and run.failures:
            run.failures[-1].restarted = True
        elif found := FINISHED.match(line):
            run.done[found[1]] += 1
            said = []
        elif found := STEPS.match(line):
            run.steps = int(found[1]), int(found[2])
        elif found := SUBMITTED.match(line):
            run.submitted[found[1]] = found[2]
        elif line == "Job stats:":
            table, run.planned = True, {}
        elif table and (found := PLANNED.match(line)):
            table = found[1] != "total"
            if table:
                run.planned[found[1]] = int(found[2])
        elif found := BEGUN.match(line):
            run.last = found[1] or found[2]
            run.begun += 1
            said = []
        else:
            said.append(line)
            _notice(run, line, lines[place + 1 : place + LONGEST])


def _notice(run: RunLog, line: str, after: list[str]) -> None:
    """Parse a line about the run as a whole."""
    if ENDING.match(line):
        run.ended = True
    elif found := ELAPSED.match(line):
        days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
        run.last_time = max(run.last_time, run.started + ((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    elif line.startswith("This was a dry-run"):
        run.dry = True
    elif line.startswith("Terminating processes on user request"):
        run.stopped = True
    elif (found := IN_THE_END.match(line)) and found[1] != "RuleException":
        text = " ".join(said.strip() for said in _block(after) if not said.strip().startswith('File "'))
        if text and text != "At least one job did not complete successfully.":
            run.error = text if found[1] == "WorkflowError" else f"{found[1]}: {text}"


def _block(lines: list[str]) -> Iterator[str]:
    """The lines of one message: up to an empty line, the next time stamp or the ending."""
    for line in lines:
        if not line.strip() or STAMP.match(line) or ENDING.match(line):
            return
        yield line


def _missed(rule: str, ended: float, line: str, after: list[str]) -> Failure:
    """A job that succeeded but whose outputs are missing; Snakemake names no log."""
    outputs = [found[1] for text in _block(after) if (found := re.match(r"(\S+) \(missing locally", text))]
    return Failure(rule, ended, line, outputs=outputs)


def _failure(rule: str, ended: float, lines: list[str]) -> Failure:
    """The failure whose details begin with `lines`; a message may span several lines."""
    failure, current = Failure(rule, ended), ""
    for line in lines:
        name, colon, value = line.strip().partition(":")
        known = name in ("message", "jobid", "input", "output", "log", "external_jobid", "conda-env", "shell")
        if line.startswith(INDENT) and colon and known and not line.startswith(INDENT * 2):
            current = name
            value = value.strip()
        elif current == "message" and not STAMP.match(line):
            value = line.strip()
        else:
            break
        if current == "message":
            failure.message = f"{failure.message} {value}".strip()
        elif current == "output":
            failure.outputs = [part.strip() for part in value.split(", ") if part.strip()]
        elif current == "log":
            logs = value.removesuffix(" (check log file(s) for error details)").split(", ")
            failure.log, failure.slurm_log = logs[0], next((x for x in logs if "slurm_logs/" in x), "")
        elif current == "external_jobid":
            failure.slurm_job = value
    return failure
