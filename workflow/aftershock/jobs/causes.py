"""Diagnosis of a failed job from its record, its logs and SLURM: the cause, and what to change."""

import re
from collections.abc import Callable, Sequence

from aftershock.jobs.errors import cause_of_error
from aftershock.jobs.evidence import AGAIN, Cause, Evidence
from aftershock.jobs.sizes import megabytes

LIMIT = re.compile(r"exceeded memory limit \((\d+) > (\d+)\)")
KILLED_FOR_MEMORY = re.compile(
    r"Exceeded job memory limit|oom[-_ ]?kill|out-of-memory handler", re.IGNORECASE
)
NODE = re.compile(r"DUE TO NODE FAILURE|Node failure on (\S+)")
CANCELLED = re.compile(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT")
SIGNAL = re.compile(r"died with <Signals\.(SIG\w+): \d+>")
REFUSED = re.compile(r"SLURM sbatch failed\. The error message was '(.+?)'\.(?: sbatch call:|$)")
NOT_SUBMITTED = re.compile(r"Job submission failed with exception: (.+?)\.?(?:For further error details|$)")
MISSING = re.compile(r"MissingOutputException|some output files are missing")
TELLING = re.compile(r"^(?:\S+: )?[\w.]*(?:[Ee]rror|Exception)\b.*: ?\S")
EXIT = re.compile(r"returned non-zero exit status (\d+)")
NAMED = re.compile(r"(?:\w+: )?([\w.]*(?:Error|Exception)): (.+?)(?: \(traceback in \S+\))?$")
NOISE = re.compile(
    r"At least one job did not complete|Exited with exit code|CalledProcessError|Job step aborted"
)
SHARE = 0.9
"""Share of the requested memory; a job that vanished above it is assumed to have run out of memory."""
LONGER, LONGEST = 2.0, 20.0
"""Times the run time that a job is given next, at least and at most."""
DEFAULT_MB, DEFAULT_MINUTES = 2000, 60
"""Requests assumed for a job that states none."""

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


def cause_of(job: Evidence) -> Cause:
    """The first cause that one of `LOOKS` finds."""
    for look in LOOKS:
        if cause := look(job):
            return cause
    ended = EXIT.search(job.slurm_log) or EXIT.search(job.message)
    silent = (
        f"its script ended with exit status {ended[1]}, and no log says why" if ended else "no log says why"
    )
    said = telling_line(job.slurm_log) or telling_line(job.message) or silent
    if found := NAMED.match(said):
        return cause_of_error(job, found[1].split(".")[-1], found[2])
    logs = f"{job.log} and SLURM's log of job {job.slurm_job}" if job.slurm_log else job.log
    return Cause("unknown", said, f"see {logs}; {AGAIN}")


def telling_line(text: str) -> str:
    """The last line that names an error; "" without one."""
    lines = [line.strip() for line in text.splitlines()]
    return next((line for line in reversed(lines) if TELLING.match(line) and not NOISE.search(line)), "")


def _not_submitted(job: Evidence) -> Cause | None:
    found = REFUSED.search(job.message) or NOT_SUBMITTED.search(job.message)
    if not found:
        return None
    said = found[1].replace("sbatch: error: ", "").split("Batch job submission failed: ")[-1].strip()
    remedy = next(remedy for pattern, remedy in REFUSALS if re.search(pattern, found[1], re.IGNORECASE))
    remedy = remedy.format(rule=job.rule, profile=job.profile)
    return Cause("rejected", f"SLURM did not take it: {said}", remedy)


def _own_error(job: Evidence) -> Cause | None:
    """The error that the stage ended with, from its record; from its log where that could not be written."""
    state, error = job.record.get("state"), job.record.get("error") or {}
    if state == "failed" and error.get("kind"):
        return cause_of_error(job, error["kind"], " ".join(error.get("text", "").split()))
    lines = job.log_end.strip().splitlines()
    if state in ("gone", "running") and lines and "Traceback (most recent call last)" in job.log_end:
        kind, _, text = lines[-1].partition(": ")
        if re.fullmatch(r"[\w.]+", kind):
            return cause_of_error(job, kind.split(".")[-1], text)
    return None


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
    what = f"{limit} was over" + (job.progress and f" with {job.progress}")
    remedy = job.more("runtime", round((minutes or DEFAULT_MINUTES) * longer))
    return Cause("time", what, f"give it longer: {remedy}, or cut smaller shards")


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
    if not (
        MISSING.search(job.message) or (job.record.get("state") == "done" and MISSING.search(job.slurm_log))
    ):
        return None
    remedy = f"a slow network file system? Raise `latency-wait` in {job.profile}, then {AGAIN}"
    return Cause("missing output", "it ended well, but Snakemake does not see what it wrote", remedy)


def _killed(job: Evidence) -> Cause | None:
    """Its process has vanished or was told to end, for an unknown reason."""
    if job.record.get("state") == "stopped":
        return Cause("stopped", f"told to end{job.age}", AGAIN)
    found = SIGNAL.search(job.slurm_log) or SIGNAL.search(job.message)
    if not found and job.record.get("state") not in ("gone", "running"):
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
