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
PLACE = "the machine of the job"
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
        rf"^({'|'.join(sorted(PROGRAM))}): ",
        "{kind}{where}: {text}",
        "an error of the program: traceback in {log}",
    ),
    ("nan", r"(?i)\bnan\b|\bfinite\b|diverge", "{text}", "change the settings it names, then {again}"),
    ("stopped", r"^RunGoneError: ", "ended{age} as its run was gone", "{again}"),
    ("input", r"^ValueError: ", "{text}", "put right what it names, then {again}"),
    ("input", r"", "{kind}: {text}", "put right what it names, then {again}"),
)
"""Causes by what the kind and text of an error match, the first counts: what to say, and the remedy."""


def cause_of_error(job: Evidence, kind: str, text: str) -> Cause:
    """The cause of an error, which by its kind and text is one of memory or of ERRORS."""
    if MEMORY.search(kind) or MEMORY.search(text):
        return _memory(job, text)
    place = (job.record.get("error") or {}).get("place")
    told = {"kind": kind, "text": text, "where": f" at {place}" if place else "", "again": AGAIN}
    told |= {"log": job.log, "age": job.age, "host": job.record.get("host", PLACE)}
    told |= {"install": installation("workflow")}
    rows = (row for row in ERRORS if re.search(row[1], f"{kind}: {text}"))
    name, _, what, remedy = next(rows)  # the last one matches all
    return Cause(name, what.format(**told), remedy.format(**told))


def _memory(job: Evidence, text: str) -> Cause:
    if GPU_MEMORY.search(text):
        held = megabytes(job.record.get("gpu_peak_bytes"))
        remedy = "take a GPU with more memory (key `gpus`, and its partition), or a smaller model"
        return Cause("gpu memory", f"out of GPU memory, {held} in use before: {text}", remedy)
    peak, found = (job.record.get("peak_bytes") or 0) / 2**20, WANTED.search(text)
    wanted = float(found[1]) * UNITS[found[2]] if found else 0.0
    needed = max(1.2 * (peak + wanted), 2 * (job.asked("mem_mb") or 0))
    what = f"out of memory, {megabytes(peak * 2**20)} in use before: {text}"
    return Cause("memory", what, f"give it more: {job.more_memory(needed)}")
