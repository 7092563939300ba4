"""The devices that jobs run on: speed and memory, and the choice among a cluster's GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aftershock.budget.work import Work
from aftershock.project import PROJECT
from aftershock.schema import faults, read_schema, suggestion
from aftershock.text_files import read_yaml

SHIPPED = PROJECT / "resources" / "devices.yaml"
GB, MB = 10**9, 10**6


@dataclass(frozen=True)
class Device:
    """One entry of resources/devices.yaml, as its schema describes it."""

    name: str
    description: str
    accelerator: bool
    memory_gb: float
    tflops: Mapping[str, float]
    bandwidth_gb_s: float
    pass_seconds: float
    row_seconds: float
    start_seconds: float
    read_gb_s: float
    measured: bool

    def seconds(self, work: Work, precision: str = "strict") -> float:
        """Seconds that `work` takes on this device."""
        return (
            (work.flops / self.tflops[precision] + work.exact / self.tflops["float64"]) / 1e12
            + work.bytes / self.bandwidth_gb_s / GB
            + work.passes * self.pass_seconds
            + work.rows * self.row_seconds
        )


def read_devices(path: str | Path = SHIPPED) -> dict[str, Device]:
    """The devices of a file, by name; ValueError lists everything that is wrong with it."""
    entries = read_yaml(Path(path))
    if found := faults(entries, read_schema("devices")):
        raise ValueError("\n  ".join([f"{path}: {len(found)} wrong:", *map(str, found)]))
    return {name: Device(name, **entry) for name, entry in entries.items()}


@cache
def shipped() -> dict[str, Device]:
    """The devices of resources/devices.yaml, which size the jobs whatever was measured elsewhere."""
    return read_devices()


def find_device(name: str, devices: Mapping[str, Device] | None = None) -> Device:
    """The device called `name`; ValueError suggests another where there is none."""
    known = shipped() if devices is None else devices
    if name not in known:
        raise ValueError(f"device {name!r} is unknown; {suggestion(name, known)}")
    return known[name]


def choose_gpu(gpus: Mapping[str, str], needed: float, what: str) -> str:
    """Return the smallest of a cluster's `gpus` (its type: a device) with `needed` GB; "" if there are none.

    ValueError, beginning with `what`, when none is large enough.
    """
    memory = sorted((find_device(device).memory_gb, kind) for kind, device in gpus.items())
    large = [kind for size, kind in memory if size >= needed]
    if gpus and not large:
        listed = ", ".join(f"{kind} ({size:g} GB)" for size, kind in memory)
        raise ValueError(
            f"{what} needs {needed:.0f} GB of GPU memory, more than any type in `gpus` has: {listed}; "
            "name a larger type, or take a smaller model"
        )
    return large[0] if large else ""
