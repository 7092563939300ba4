"""The frame around every script's work: log, threads, seed, provenance, the job's record."""

import errno
import hashlib
import importlib.metadata
import json
import locale
import logging
import os
import platform
import random
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

from aftershock.jobs.gpus import take_gpus
from aftershock.jobs.record import Record
from aftershock.process import keep_freed_memory, watch_parent
from aftershock.progress import Progress
from aftershock.project import version

VERSIONED = ("numpy", "pandas", "pyarrow", "pyoxigraph", "torch", "transformers")
FULL = "Free some space or raise the quota, then run again: finished files stay"


@dataclass
class Run:
    """One execution of a stage: its provenance and progress, and its device."""

    provenance: dict[str, Any]
    console: TextIO = field(repr=False)
    """The terminal's stderr, for messages that a user should see at once; everything printed goes to the log.
    """
    progress: Progress = field(repr=False)
    """Counts the steps of a long computation."""

    @cached_property
    def device(self) -> str:
        """`cuda` where the job has a GPU, else `cpu`; noted in the provenance, with the GPU's name."""
        import torch

        self.provenance["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        if torch.cuda.is_available():
            _make_deterministic()
            self.provenance["gpu"] = torch.cuda.get_device_name()
        return self.provenance["device"]


@contextmanager
def stage(snakemake: Any) -> Iterator[Run]:
    """Yield the Run of a script, with its log open, its threads limited and its random numbers seeded.

    A rule's resource `process_threads` is for a script that uses its job's cores by processes of its own.

    stdout, stderr, logging and warnings go to the rule's log file. An error leaves its traceback at the end
    of the log and one line on the terminal. Time, memory, progress and the end are in the job's record, see
    `jobs.record`.
    """
    watch_parent()
    with _logged(snakemake.log[0], snakemake.rule) as console, _recorded(snakemake) as record:
        take_gpus(int(snakemake.resources.get("gpu", 0)))
        _limit_threads(int(snakemake.resources.get("process_threads", snakemake.threads)))
        keep_freed_memory()
        seed = snakemake.params.get("seed")
        if seed is not None:
            _seed(int(seed))
        progress = Progress(console, record.count)
        run = Run(_provenance(snakemake, seed), console, progress)
        yield run
        progress.end()
        record.fields |= {"outputs": list(snakemake.output), "provenance": run.provenance}


@contextmanager
def _recorded(snakemake: Any) -> Iterator[Record]:
    """Keep the job's record while it runs. Told to end, it unwinds, so that nothing half-written stays."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    record = Record(snakemake)
    record.open()
    try:
        yield record
    except BaseException as error:
        try:
            record.close(error)
        except OSError as full:  # the error itself matters more
            print(f"the job's record could not be written: {full}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    record.close()


@contextmanager
def _logged(path: str, rule: str) -> Iterator[TextIO]:
    """Send all output of this process, that of compiled code too, to `path`; yield the terminal's stderr."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with (
        open(path, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as log,
        open(saved[1], "w", encoding=locale.getencoding(), errors="backslashreplace", buffering=1) as console,
    ):
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        handler = logging.StreamHandler(log)
        handler.addFilter(_is_telling)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        try:
            with redirect_stdout(log), redirect_stderr(log):
                yield console
        except Exception:
            traceback.print_exc(file=log)
            sys.excepthook = _one_line(rule, path)
            raise
        finally:
            logging.captureWarnings(False)
            root.removeHandler(handler)
            root.setLevel(level)
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])


def _is_telling(record: logging.LogRecord) -> bool:
    """Return False for what libraries log beside their warnings."""
    return record.levelno > logging.INFO or record.name.split(".")[0] in ("root", "aftershock")


def _one_line(rule: str, path: str) -> Any:
    """An excepthook that prints the error only: its traceback is in the log."""

    def hook(kind: type[BaseException], error: BaseException, _: Any) -> None:
        remedy = f". {FULL}" if is_full(error) else ""
        print(f"{rule}: {kind.__name__}: {error}{remedy} (traceback in {path})", file=sys.stderr)

    return hook


def is_full(error: BaseException) -> bool:
    """True if a disk, quota or file size limit stopped a write; databases say so in words only."""
    limits = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in limits or os.strerror(errno.ENOSPC) in str(error)


def _limit_threads(threads: int) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def _seed(seed: int) -> None:
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _make_deterministic() -> None:
    """Let CUDA compute the same bits every time, and float32 in full; the processor does so anyway.

    Kernels without a deterministic form are named in the log. See "Reproducibility" in PyTorch's manual.
    """
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # only of use to find errors
    torch.backends.cudnn.benchmark = False
    torch.backends.cuda.matmul.fp32_precision = "ieee"  # whatever the environment asks for


def processor() -> str:
    """The name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _provenance(snakemake: Any, seed: int | None) -> dict[str, Any]:
    """Provenance of an output; equal for equal settings, code and software, so without time and path."""
    params = dict(snakemake.params.items())
    code, _ = params.pop("code", None), params.pop("script", None)
    settings = json.dumps(params, sort_keys=True, default=str)
    torch = sys.modules.get("torch")
    return {
        "rule": snakemake.rule,
        "wildcards": dict(snakemake.wildcards.items()),
        "config": hashlib.sha256(settings.encode()).hexdigest(),
        "code": code,
        "seed": seed,
        "versions": {
            "aftershock": version(),
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in VERSIONED if name in sys.modules},
        },
        **({"threads": torch.get_num_threads(), "processor": processor()} if torch else {}),
    }
