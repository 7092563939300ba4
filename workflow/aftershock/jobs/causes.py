"""Diagnosis of a failed job from its record, its logs and SLURM: the cause, and what to change."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aftershock.jobs.sizes import duration, megabytes, plural
from aftershock.jobs.slurm import SlurmJob
from aftershock.project import command, installation

AGAIN = f"run again: `{command('resume')}`"
SHARE = 0.9
"""Share of the requested memory; a job that vanished above it is assumed to have run out of memory."""
LONGER, LONGEST = 2.0, 20.0
"""Times the run time that a job is given next, at least and at most."""
DEFAULT_MB, DEFAULT_MINUTES = 2000, 60
"""Requests assumed for a job that states none."""

STATUS = re.compile(r"SLURM status is: '(\w+)'")
LIMIT = re.compile(r"exceeded memory limit \((\d+) > (\d+)\)")
KILLED_FOR_MEMORY = re.compile(r"(?i)Exceeded job memory limit|oom[-_ ]?kill|out-of-memory handler")
NODE = re.compile(r"DUE TO NODE FAILURE|Node failure on (\S+)")
CANCELLED = re.compile(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT")
SIGNAL = re.compile(r"died with <Signals\.(SIG\w+): \d+>")
REFUSED = re.compile(
    r"SLURM sbatch failed\. The error message was '(.+?)'\.(?: sbatch call:|$)|"
    r"Job submission failed with exception: (.+?)\.?(?:For further error details|$)"
)
MISSING = re.compile(r"MissingOutputException|some output files are missing")
EXIT = re.compile(r"returned non-zero exit status (\d+)")
TELLING = re.compile(r"^(?:\S+: )?[\w.]*(?:[Ee]rror|Exception)\b.*: ?\S")
NAMED = re.compile(r"(?:\w+: )?([\w.]*(?:Error|Exception)): (.+?)(?: \(traceback in \S+\))?$")
NOISE = re.compile(
    r"At least one job did not complete|Exited with exit code|CalledProcessError|Job step aborted"
)
MEMORY = re.compile(
    r"(?i)out of memory|OutOfMemoryError|MemoryError|can(no|')t allocate memory|std::bad_alloc"
)
GPU_MEMORY = re.compile(r"CUDA|HIP|GPU \d")
WANTED = re.compile(r"allocate ([\d.]+) (bytes|KiB|MiB|GiB|TiB)")
UNITS = {"bytes": 2**-20, "KiB": 2**-10, "MiB": 1, "GiB": 2**10, "TiB": 2**20}  # in MB of 2**20 bytes
PROGRAM = (
    "Arithmetic|Assertion|Attribute|Buffer|EOF|Index|Key|Lookup|Name|NotImplemented|Recursion|Runtime|"
    "Syntax|System|Type|UnboundLocal|ZeroDivision"
)
"""Errors that are not about data or settings."""
RESOLVE = "put right what it names, then {again}"
ERRORS = (
    (
        "disk",
        r"No space left on device|Disk quota exceeded|File too large|Errno (28|122|27)\b",
        "the disk is full or its quota used up: {text}",
        "free some space or raise the quota, then {again} (finished files stay)",
    ),
    (
        "read-only",
        r"^(OSError|PermissionError): .*(Read-only file system|Permission denied)",
        "{text}",
        "make that place writable on {host}, then {again}",
    ),
    (
        "missing input",
        r"^FileNotFoundError: ",
        "{text}",
        "{again}, which makes deleted files anew; if it is there, {host} does not see this folder",
    ),
    (
        "damaged file",
        r"Parquet magic bytes|deserializing header|ArrowInvalid|SafetensorError|JSONDecodeError",
        "{kind}: {text}",
        "delete the file that it read (see {log}), then {again}",
    ),
    (
        "environment",
        r"^(ModuleNotFoundError|ImportError): ",
        "{kind}: {text}",
        "{host} lacks it: `{install}`, or a container that has it",
    ),
    (
        "program",
        rf"^(({PROGRAM})Error|StopIteration): ",
        "{kind}{where}: {text}",
        "an error of the program: traceback in {log}",
    ),
    ("nan", r"(?i)\bnan\b|\bfinite\b|diverge", "{text}", "change the settings it names, then {again}"),
    ("stopped", r"^RunGoneError: ", "ended{age} as its run was gone", "{again}"),
    ("input", r"^ValueError: ", "{text}", RESOLVE),
    ("input", r"", "{kind}: {text}", RESOLVE),
)
"""Causes by what the kind and text of an error match, the first counts: what to say, and the remedy."""
REFUSALS = (
    (r"invalid qos", "name one of yours (`sacctmgr show associations format=QOS`) as `qos` in {profile}"),
    (
        r"qos|submit.?limit|policy|job.?limit",
        "stay below your limits (`sacctmgr show qos`): `jobs:` in {profile}",
    ),
    (r"\baccount\b", "name one of yours (`sacctmgr show associations`) as `slurm_account` in {profile}"),
    (r"partition", "name one that `sinfo --summarize` lists in {profile} or the partitions.yaml beside it"),
    (r"gres|gpu", "ask for a type that `sinfo --format=%G` lists: key `gpus` of the configuration"),
    (
        r"node configuration|memory|cpu count",
        "no node of the partition has as much: lower what {rule} asks for in {profile}, or name another",
    ),
    (r"time", "lower `runtime` of {rule} in {profile}, or name another partition"),
    (r"contact|timed out|connect", "SLURM's controller did not answer: run again when `sinfo` does"),
    (r"", "ask who runs the cluster what this means"),
)
"""Remedies for refusals of sbatch that match."""


@dataclass(frozen=True)
class Cause:
    """Cause of a failure, and its remedy."""

    kind: str
    what: str
    remedy: str


@dataclass
class Evidence:
    """Evidence about a failed job; its last attempt counts."""

    rule: str
    log: str
    profile: str = "the profile's config.yaml"
    attempts: int = 1
    record: dict[str, Any] = field(default_factory=dict)
    """Record of the last attempt; empty when it did not reach a stage of ours."""
    message: str = ""
    """Snakemake's message about it."""
    slurm_job: str | None = None
    slurm_logs: list[str] = field(default_factory=list)
    """The ends of SLURM's logs, one an attempt."""
    slurm: SlurmJob = SlurmJob("", "")
    run_died: bool = False
    """True if the run that it belonged to was killed."""
    log_end: str = ""
    """The end of the rule's log."""

    @property
    def slurm_log(self) -> str:
        return self.slurm_logs[-1] if self.slurm_logs else ""

    @property
    def ended_as(self) -> str | None:
        """The state in its record; None without one."""
        return self.record.get("state")

    @property
    def state(self) -> str:
        """The job's state according to SLURM or Snakemake; "" outside SLURM, and where it says nothing."""
        found = STATUS.search(self.message)
        telling = self.slurm.state not in ("FAILED", "COMPLETED", "RUNNING", "")
        return self.slurm.state if telling else found[1] if found else ""

    @property
    def progress(self) -> str:
        """Progress such as " with 7 of 32 cases done"; "" where the job does not count."""
        done, total = self.record.get("done"), self.record.get("total")
        return f" with {done:g} of {total:g} {plural(self.record['unit'])} done" if done and total else ""

    @property
    def age(self) -> str:
        """Duration and progress of its last attempt."""
        return f" after {duration(self.record['seconds'])}{self.progress}" if self.record else ""

    def asked(self, name: str) -> int | None:
        """The amount of a resource that the last attempt requested; None where unknown."""
        return self.record.get("asked", {}).get(name)

    def more(self, name: str, value: int) -> str:
        """Instruction to give the rule more of a resource."""
        return f"`set-resources: {self.rule}: {name}: {value}` in {self.profile}"

    def more_memory(self, mb: float) -> str:
        """Instruction to give the job `mb` MB; without SLURM jobs share the memory without limits."""
        if self.slurm_job:
            return self.more("mem_mb", int(-(-mb // 500) * 500))
        return f"fewer jobs at once (`{command('resume', '--cores 1')}`), or a machine with more memory"


def cause_of(job: Evidence) -> Cause:
    """The first cause that one of `LOOKS` finds, else what the logs say last."""
    if found := next(filter(None, (look(job) for look in LOOKS)), None):
        return found
    ended = EXIT.search(job.slurm_log) or EXIT.search(job.message)
    silent = f"its script ended with exit status {ended[1]}, and " if ended else ""
    said = telling_line(job.slurm_log) or telling_line(job.message) or f"{silent}no log says why"
    if named := NAMED.match(said):
        return _cause_of_error(job, named[1].split(".")[-1], named[2])
    logs = f"{job.log} and SLURM's log of job {job.slurm_job}" if job.slurm_log else job.log
    return Cause("unknown", said, f"see {logs}; {AGAIN}")


def telling_line(text: str) -> str:
    """The last line that names an error; "" without one."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if TELLING.match(line) and not NOISE.search(line)), "")


def _not_submitted(job: Evidence) -> Cause | None:
    if not (found := REFUSED.search(job.message)):
        return None
    text = found[1] or found[2]
    said = text.replace("sbatch: error: ", "").split("Batch job submission failed: ")[-1].strip()
    remedy = next(remedy for pattern, remedy in REFUSALS if re.search(pattern, text, re.IGNORECASE))
    return Cause(
        "rejected", f"SLURM did not take it: {said}", remedy.format(rule=job.rule, profile=job.profile)
    )


def _own_error(job: Evidence) -> Cause | None:
    """The error that the stage ended with, from its record; from its log where that could not be written."""
    error = job.record.get("error") or {}
    if job.ended_as == "failed" and error.get("kind"):
        return _cause_of_error(job, error["kind"], " ".join(error.get("text", "").split()))
    if job.ended_as in ("gone", "running") and "Traceback (most recent call last)" in job.log_end:
        kind, _, text = job.log_end.strip().splitlines()[-1].partition(": ")
        if re.fullmatch(r"[\w.]+", kind):
            return _cause_of_error(job, kind.split(".")[-1], text)
    return None


def _cause_of_error(job: Evidence, kind: str, text: str) -> Cause:
    """The cause of an error, which by its kind and text is one of memory or of ERRORS."""
    if not MEMORY.search(f"{kind}: {text}"):
        place, host = (
            (job.record.get("error") or {}).get("place"),
            job.record.get("host", "the machine of the job"),
        )
        about = {"kind": kind, "text": text, "where": f" at {place}" if place else "", "log": job.log}
        about |= {"age": job.age, "host": host, "again": AGAIN, "install": installation("workflow")}
        name, _, what, remedy = next(row for row in ERRORS if re.search(row[1], f"{kind}: {text}"))
        return Cause(name, what.format(**about), remedy.format(**about))
    if GPU_MEMORY.search(text):
        held = megabytes(job.record.get("gpu_peak_bytes"))
        remedy = "take a GPU with more memory (key `gpus`, and its partition), or a smaller model"
        return Cause("gpu memory", f"out of GPU memory, {held} in use before: {text}", remedy)
    peak, found = job.record.get("peak_bytes") or 0, WANTED.search(text)
    wanted = float(found[1]) * UNITS[found[2]] if found else 0.0
    needed = max(1.2 * (peak / 2**20 + wanted), 2 * (job.asked("mem_mb") or 0))
    what = f"out of memory, {megabytes(peak)} in use before: {text}"
    return Cause("memory", what, f"give it more: {job.more_memory(needed)}")


def _memory_limit(job: Evidence) -> Cause | None:
    """SLURM ended it for its memory."""
    here = LIMIT.search(job.slurm_log) or KILLED_FOR_MEMORY.search(job.slurm_log)
    if not here and job.state != "OUT_OF_MEMORY":
        return None
    found = [(int(a), int(b)) for text in job.slurm_logs for a, b in LIMIT.findall(text)]
    peak = max([job.record.get("peak_bytes") or 0, job.slurm.peak_bytes or 0, *(used for used, _ in found)])
    asked = (job.asked("mem_mb") or 0) * 2**20  # as set in the rule; the command line may override it
    limit = max((limit for _, limit in found), default=asked)
    allowed = f", {megabytes(limit)} allowed" if limit else ""
    tried = f" at most in {job.attempts} attempts" if job.attempts > 1 else ""
    more = job.more_memory(max(1.5 * peak, 2 * limit) / 2**20)
    return Cause("memory", f"out of memory: {megabytes(peak)} used{allowed}{tried}", f"give it more: {more}")


def _time_limit(job: Evidence) -> Cause | None:
    if "DUE TO TIME LIMIT" not in job.slurm_log and job.state not in ("TIMEOUT", "DEADLINE"):
        return None
    done, total, minutes = job.record.get("done"), job.record.get("total"), job.asked("runtime")
    longer = max(min(1.5 * total / done, LONGEST), LONGER) if done and total else LONGER
    limit = f"its time limit of {minutes} min" if minutes else "its time limit"
    remedy = job.more("runtime", round((minutes or DEFAULT_MINUTES) * longer))
    return Cause(
        "time", f"{limit} was over{job.progress}", f"give it longer: {remedy}, or cut smaller shards"
    )


def _node_failure(job: Evidence) -> Cause | None:
    found = NODE.search(job.slurm_log)
    if not found and job.state not in ("NODE_FAIL", "BOOT_FAIL"):
        return None
    node = job.slurm.node or (found and found[1]) or job.record.get("host", "")
    again = f", as SLURM had started it anew {job.slurm.restarts} times" if job.slurm.restarts else ""
    remedy = f"{AGAIN}; to leave that node out: `slurm-exclude-failed-nodes: {node}` in {job.profile}"
    return Cause("node", f"its node {node} went down{again}", remedy)


def _cancelled(job: Evidence) -> Cause | None:
    if job.state == "PREEMPTED" or "DUE TO PREEMPTION" in job.slurm_log:
        return Cause("preempted", f"SLURM gave its place to a more urgent job{job.age}", AGAIN)
    if job.state == "CANCELLED" or CANCELLED.search(job.slurm_log):
        return Cause("cancelled", f"cancelled{job.age}, by scancel or as its run was ended", AGAIN)
    return None


def _missing_output(job: Evidence) -> Cause | None:
    if not MISSING.search(job.message + (job.slurm_log if job.ended_as == "done" else "")):
        return None
    remedy = f"a slow network file system? Raise `latency-wait` in {job.profile}, then {AGAIN}"
    return Cause("missing output", "it ended well, but Snakemake does not see what it wrote", remedy)


def _killed(job: Evidence) -> Cause | None:
    """Its process has vanished or was told to end, for an unknown reason."""
    if job.ended_as == "stopped":
        return Cause("stopped", f"told to end{job.age}", AGAIN)
    found = SIGNAL.search(job.slurm_log) or SIGNAL.search(job.message)
    if not found and job.ended_as not in ("gone", "running"):
        return None
    if job.run_died and not found and not job.slurm_job:
        return Cause("stopped", f"ended{job.age} as its run was killed", AGAIN)
    peak, asked = job.record.get("peak_bytes"), job.asked("mem_mb")
    seen = f", {megabytes(peak)} in use when last seen" if peak else ""
    what = f"killed{f' by {found[1]}' if found else ''} without a word{job.age}{seen}"
    more = job.more_memory(2 * (asked or DEFAULT_MB))
    if job.slurm_job and peak and asked and peak > SHARE * asked * 2**20:
        return Cause("memory", f"{what}, {asked} MB allowed", f"give it more: {more}")
    return Cause("killed", what, f"{AGAIN}; if {job.record.get('host', 'it')} had no memory left: {more}")


LOOKS: Sequence[Callable[[Evidence], Cause | None]] = (
    _not_submitted,
    _own_error,
    _memory_limit,
    _time_limit,
    _node_failure,
    _cancelled,
    _missing_output,
    _killed,
)
