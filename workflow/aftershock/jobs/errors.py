"""Diagnosis of the error that a stage ended with, from its kind and text in the job's record or log."""

import re

from aftershock.jobs.evidence import AGAIN, Cause, Evidence
from aftershock.jobs.sizes import megabytes
from aftershock.project import installation

PROGRAM = {
    *("ArithmeticError", "AssertionError", "AttributeError", "BufferError", "EOFError", "IndexError"),
    *("KeyError", "LookupError", "NameError", "NotImplementedError", "RecursionError", "RuntimeError"),
    *("StopIteration", "SyntaxError", "SystemError", "TypeError", "UnboundLocalError", "ZeroDivisionError"),
}
"""Errors that are not about data or settings."""
MEMORY = re.compile(
    r"out of memory|OutOfMemoryError|MemoryError|can't allocate memory|Cannot allocate memory|std::bad_alloc",
    re.IGNORECASE,
)
GPU_MEMORY = re.compile(r"CUDA|HIP|GPU \d")
WANTED = re.compile(r"allocate ([\d.]+) (bytes|KiB|MiB|GiB|TiB)")
UNITS = {"bytes": 2**-20, "KiB": 2**-10, "MiB": 1, "GiB": 2**10, "TiB": 2**20}  # in MB of 2**20 bytes
FULL = re.compile(r"No space left on device|Disk quota exceeded|File too large|Errno (28|122|27)\b")
READ_ONLY = re.compile(r"Read-only file system|Permission denied")
DAMAGED = re.compile(r"Parquet magic bytes|deserializing header|ArrowInvalid|SafetensorError|JSONDecodeError")
NAN = re.compile(r"\bnan\b|\bfinite\b|diverge", re.IGNORECASE)


def cause_of_error(job: Evidence, kind: str, text: str) -> Cause:
    """The first cause that one of `JUDGES` finds; an error that none knows is one of the program."""
    for judge in JUDGES:
        if cause := judge(job, kind, text):
            return cause
    place = (job.record.get("error") or {}).get("place")
    where = f" at {place}" if place else ""
    return Cause("program", f"{kind}{where}: {text}", f"an error of the program: traceback in {job.log}")


def _memory(job: Evidence, kind: str, text: str) -> Cause | None:
    if not MEMORY.search(kind) and not MEMORY.search(text):
        return None
    if GPU_MEMORY.search(text):
        held = megabytes(job.record.get("gpu_peak_bytes"))
        remedy = "take a GPU with more memory (key `gpus`, and its partition), or a smaller model"
        return Cause("gpu memory", f"out of GPU memory, {held} in use before: {text}", remedy)
    peak, found = (job.record.get("peak_bytes") or 0) / 2**20, WANTED.search(text)
    wanted = float(found[1]) * UNITS[found[2]] if found else 0.0
    needed = max(1.2 * (peak + wanted), 2 * (job.asked("mem_mb") or 0))
    what = f"out of memory, {megabytes(peak * 2**20)} in use before: {text}"
    return Cause("memory", what, f"give it more: {job.more_memory(needed)}")


def _disk(job: Evidence, kind: str, text: str) -> Cause | None:
    if FULL.search(text):
        remedy = f"free some space or raise the quota, then {AGAIN} (finished files stay)"
        return Cause("disk", f"the disk is full or its quota used up: {text}", remedy)
    if kind in ("OSError", "PermissionError") and READ_ONLY.search(text):
        remedy = (
            f"make that place writable on {job.record.get('host', 'the machine of the job')}, then {AGAIN}"
        )
        return Cause("read-only", text, remedy)
    return None


def _missing(job: Evidence, kind: str, text: str) -> Cause | None:
    if kind != "FileNotFoundError":
        return None
    host = job.record.get("host", "the machine of the job")
    remedy = f"{AGAIN}, which makes deleted files anew; if it is there, {host} does not see this folder"
    return Cause("missing input", text, remedy)


def _damaged(job: Evidence, kind: str, text: str) -> Cause | None:
    if not DAMAGED.search(f"{kind}: {text}"):
        return None
    return Cause(
        "damaged file", f"{kind}: {text}", f"delete the file that it read (see {job.log}), then {AGAIN}"
    )


def _environment(job: Evidence, kind: str, text: str) -> Cause | None:
    if kind not in ("ModuleNotFoundError", "ImportError"):
        return None
    host = job.record.get("host", "the machine of the job")
    remedy = f"{host} lacks it: `{installation('workflow')}`, or a container that has it"
    return Cause("environment", f"{kind}: {text}", remedy)


def _nan(job: Evidence, kind: str, text: str) -> Cause | None:
    if kind in PROGRAM or not NAN.search(text):
        return None
    return Cause("nan", text, f"change the settings it names, then {AGAIN}")


def _run_gone(job: Evidence, kind: str, text: str) -> Cause | None:
    return Cause("stopped", f"ended{job.age} as its run was gone", AGAIN) if kind == "RunGoneError" else None


def _input(job: Evidence, kind: str, text: str) -> Cause | None:
    """Our own errors, which name the thing and the remedy."""
    if kind in PROGRAM:
        return None
    what = text if kind == "ValueError" else f"{kind}: {text}"
    return Cause("input", what, f"put right what it names, then {AGAIN}")


JUDGES = (_memory, _disk, _missing, _damaged, _environment, _nan, _run_gone, _input)
