"""The SLURM jobs of a folder: those known to the controller, and those only in accounting."""

from collections.abc import Iterable
from pathlib import Path

from aftershock.jobs import slurm
from aftershock.jobs.slurm import SlurmJob

FIELDS = ("JobArrayID", "State", "Reason", "RestartCnt", "tres-alloc", "NodeList", "WorkDir", "Comment")
ENDED_FIELDS = ("JobID", "State", "ElapsedRaw", "MaxRSS", "NodeList")
SECONDS = 4.0
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


UNKNOWN = SlurmJob("", "")


def known_jobs(folder: Path) -> dict[str, SlurmJob] | None:
    """This user's jobs that were submitted from `folder`, by id, those included that ended a while ago.

    None where there is no SLURM, or it does not answer.
    """
    columns = ",".join(f"{name}:|" for name in FIELDS)
    options = ("--me", "--states=all", "--array", "--noheader", f"--Format={columns}")
    try:
        lines = slurm.ask("squeue", *options, seconds=SECONDS).splitlines()
    except slurm.SlurmError:
        return None
    rows = [line.split("|", len(FIELDS) - 1) for line in lines if line.count("|") >= len(FIELDS)]
    here = folder.resolve()
    return {
        row[0].strip(): _job(*map(str.strip, row)) for row in rows if Path(row[6].strip()).resolve() == here
    }


def ended_jobs(ids: Iterable[str]) -> dict[str, SlurmJob]:
    """Ended jobs in accounting; none where it is off or does not answer."""
    ids = list(ids)
    try:
        if not ids or not slurm.has_accounting(slurm.settings()):
            return {}
        columns = ("--noheader", "--parsable2", f"--format={','.join(ENDED_FIELDS)}")
        answers = [
            slurm.ask("sacct", *columns, f"--jobs={','.join(ids[start : start + slurm.IDS_AT_ONCE])}")
            for start in range(0, len(ids), slurm.IDS_AT_ONCE)
        ]
    except slurm.SlurmError:
        return {}
    return parse_ended("\n".join(answers))


def parse_ended(text: str) -> dict[str, SlurmJob]:
    """Parse sacct's lines: one for each job, and more for its steps, which know the memory."""
    jobs: dict[str, SlurmJob] = {}
    peaks: dict[str, int] = {}
    for line in text.splitlines():
        if line.count("|") != len(ENDED_FIELDS) - 1:
            continue
        number, state, _, memory, node = line.split("|")
        job = number.split(".")[0]
        peaks[job] = max(peaks.get(job, 0), _bytes(memory))
        if "." not in number:
            jobs[job] = SlurmJob(job, state.split(" ")[0], node=node)
    return {
        job: SlurmJob(job, found.state, node=found.node, peak_bytes=peaks[job] or None)
        for job, found in jobs.items()
    }


def _job(*row: str) -> SlurmJob:
    number, state, reason, restarts, tres, node, _folder, comment = row
    given = dict(part.split("=", 1) for part in tres.split(",") if "=" in part)
    rule = comment.strip("| ").removeprefix("rule_").split("_wildcards_")[0]
    gpus = int(given.get("gres/gpu", "0"))
    return SlurmJob(number, state, reason, int(restarts or 0), gpus, node, rule)


def _bytes(text: str) -> int:
    """Parse sizes such as 1536K into bytes; 0 where nothing was measured."""
    number, unit = text[:-1], text[-1:]
    if unit.isdigit():
        number, unit = text, ""
    try:
        return int(float(number) * UNITS.get(unit, 1))
    except ValueError:
        return 0
