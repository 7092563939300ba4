"""Time, memory and products of a computation, and the machine that it ran on."""

import argparse
import gc
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode


@dataclass
class Clock:
    """Seconds between `start` and `stop`, added up.

    On a CPU they are of the process's own computing, one thread: what other programs take does not count.
    Nor does a search for garbage, which may fall into any of several runs: there is none meanwhile.
    """

    device: str
    total: float = 0.0
    since: float = 0.0

    def _now(self) -> float:
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def start(self) -> None:
        """Go on counting."""
        gc.disable()
        self.since = self._now()

    def stop(self) -> None:
        """Pause."""
        self.total += self._now() - self.since
        gc.enable()


def seconds(run: Callable[[], object], device: str = "cpu") -> float:
    """Seconds that one run takes by a clock of its own."""
    clock = Clock(device)
    clock.start()
    run()
    clock.stop()
    return clock.total


def parser_of(text: str) -> argparse.ArgumentParser:
    """A parser of arguments that shows a program's description as it stands."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


@dataclass(frozen=True)
class Cost:
    """Memory, operations and the like of one run, beside the weights."""

    peak_bytes: int
    flops: int  # multiplications and additions of matrix products and attention


def cost(device: str, run: Callable[[], object]) -> Cost:
    """The largest sum of tensors alive at a time during `run`, beyond those before it, and its products.

    Profiling slows a computation down: never time a run inside.
    """
    with FlopCounterMode(display=False, custom_mapping=ONEDNN) as counter:
        if device == "cpu":
            with _silenced(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
                run()
            peak = _peak(found)
        else:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            run()
            torch.cuda.synchronize()
            peak = torch.cuda.max_memory_allocated() - before
    return Cost(peak, counter.get_total_flops())


def _linear_flops(x: Sequence[int], weight: Sequence[int], *_: Any, **__: Any) -> int:
    return 2 * math.prod(x) * weight[0]


ONEDNN = {op: _linear_flops for op in [getattr(torch.ops.mkldnn, "_linear_pointwise", None)] if op}
"""Products that a processor makes by another library than PyTorch's own, with their operations."""


class _Products(TorchDispatchMode):
    """Keeps the matrix products that are made inside: the operation, and stand-ins for what it multiplied."""

    KINDS = (
        *(torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm, torch.ops.aten.baddbmm),
        *ONEDNN,
    )

    def __init__(self, kept: Iterable[Tensor]) -> None:
        super().__init__()
        self.kept = {tensor.untyped_storage().data_ptr() for tensor in kept}
        self.made: dict[tuple, Tensor] = {}
        self.calls: list[tuple[Callable[..., Tensor], list[Any]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in self.KINDS:
            operands = [self._stand_in(x) if isinstance(x, Tensor) else x for x in args]
            self.calls.append((func.overloadpacket.default, operands))
        return func(*args, **(kwargs or {}))

    def _stand_in(self, tensor: Tensor) -> Tensor:
        """Return weights as they are, since they come from far away in memory, else a tensor of that form."""
        if tensor.untyped_storage().data_ptr() in self.kept:
            return tensor.detach()
        form = (tensor.shape, tensor.stride(), tensor.dtype)
        if form not in self.made:
            self.made[form] = torch.empty_strided(*form[:2], dtype=tensor.dtype, device=tensor.device).fill_(
                0.1
            )
        return self.made[form]


def product_seconds(device: str, run: Callable[[], object], weights: Iterable[Tensor]) -> float:
    """Seconds that the matrix products of `run` take by themselves, on the same shapes and weights."""
    with _Products(weights) as products:
        run()

    def repeat() -> None:
        with torch.no_grad():
            for product, operands in products.calls:
                product(*operands)

    return seconds(repeat, device)


@contextmanager
def _silenced() -> Iterator[None]:
    """Inside, nothing reaches the standard error, where the profiler says that it starts and stops."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _peak(found: profile) -> int:
    """The largest running sum of the profile's allocations and releases, in bytes."""
    events = [e for e in found.profiler.kineto_results.events() if e.name() == "[memory]"]
    alive = largest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        alive += event.nbytes()
        largest = max(largest, alive)
    return largest


def machine(device: str) -> str:
    """Processor or accelerator, cores and versions, in a line."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0] if names else cpu
    parts = [f"{cpu}, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} thread"]
    if device != "cpu":
        parts.append(f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, {_driver()}")
    parts += [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    return "; ".join([*parts, f"Python {platform.python_version()}"])


def _driver() -> str:
    path = Path("/proc/driver/nvidia/version")
    return path.read_text().splitlines()[0].strip() if path.is_file() else "driver unknown"
