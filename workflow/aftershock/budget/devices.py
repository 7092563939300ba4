"""The devices that jobs run on: speed and memory, and the choice among a cluster's GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from aftershock.budget.work import Sizes, Work
from aftershock.project import PROJECT
from aftershock.schema import faults, read_schema, suggestion
from aftershock.text_files import read_yaml

SHIPPED = PROJECT / "resources" / "devices.yaml"
GB, MB = 10**9, 10**6
ROOM = 0.6  # share of a GPU's memory beside the weights
IN_GB = {"memory": "", "bandwidth": "_s", "read": "_s"}


@dataclass(frozen=True)
class Device:
    """One entry of resources/devices.yaml, in bytes, operations and seconds."""

    name: str
    accelerator: bool
    memory: float
    rates: Mapping[str, float]
    """Operations in a second, by precision of engine.precision, and for float64."""
    bandwidth: float
    pass_seconds: float
    row_seconds: float
    start_seconds: float
    read: float
    measured: bool
    description: str

    @classmethod
    def of(cls, name: str, entry: Mapping[str, Any]) -> "Device":
        """Read an entry of the file, whose units are GB and TFLOP/s."""
        figures = dict(entry)
        sizes = {key: figures.pop(f"{key}_gb{per}") * GB for key, per in IN_GB.items()}
        rates = {precision: rate * 1e12 for precision, rate in figures.pop("tflops").items()}
        return cls(name=name, rates=rates, **sizes, **figures)

    def seconds(self, work: Work, precision: str = "strict") -> float:
        """Seconds that `work` takes on this device."""
        return (
            work.flops / self.rates[precision]
            + work.exact / self.rates["float64"]
            + work.bytes / self.bandwidth
            + work.passes * self.pass_seconds
            + work.rows * self.row_seconds
        )

    def loading(self, read_bytes: float) -> float:
        """Seconds that a job takes to load `read_bytes` bytes of weights and moments before it computes."""
        return self.start_seconds + read_bytes / self.read

    def room(self, sizes: Sizes) -> float:
        """Bytes of a GPU that a batch may keep beside a model."""
        return max(ROOM * (self.memory - sizes.weight_bytes), 1.0)

    def batches(self, sizes: Sizes, kept: float, tokens: float, at_once: int) -> float:
        """Batches of texts that keep `kept` bytes together; a processor takes `at_once` of their tokens."""
        return max(1.0, kept / self.room(sizes) if self.accelerator else tokens / at_once)


def read_devices(path: str | Path = SHIPPED) -> dict[str, Device]:
    """The devices of a file, by name; ValueError lists everything that is wrong with it."""
    path = Path(path)
    entries = read_yaml(path)
    if found := faults(entries, read_schema("devices")):
        raise ValueError("\n  ".join([f"{path}: {len(found)} wrong:", *map(str, found)]))
    return {name: Device.of(name, entry) for name, entry in entries.items()}


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


def device_errors(config: Mapping[str, Any]) -> list[str]:
    """Unknown devices that a configuration names."""
    named = {"shards.device": config.get("shards", {}).get("device")}
    named |= {f"gpus.{kind}": name for kind, name in config.get("gpus", {}).items()}
    errors = []
    for key, name in named.items():
        if name is not None and name not in shipped():
            errors.append(f"{key}: {name!r} is unknown; {suggestion(name, shipped())}")
        elif key != "shards.device" and name and not shipped()[name].accelerator:
            errors.append(f"{key}: {name!r} is no GPU; {suggestion(name, _accelerators())}")
    return errors


def _accelerators() -> list[str]:
    return [name for name, device in shipped().items() if device.accelerator]


def choose_gpu(gpus: Mapping[str, str], needed: float, what: str) -> str:
    """The smallest of a cluster's `gpus` (its type: a device) with `needed` bytes; "" where none is named.

    ValueError, beginning with `what`, when none is large enough.
    """
    if not gpus:
        return ""
    by_memory = sorted(gpus, key=lambda kind: (shipped()[gpus[kind]].memory, kind))
    for kind in by_memory:
        if shipped()[gpus[kind]].memory >= needed:
            return kind
    listed = ", ".join(f"{kind} ({shipped()[gpus[kind]].memory / GB:g} GB)" for kind in by_memory)
    raise ValueError(
        f"{what} needs {needed / GB:.0f} GB of GPU memory, more than any type in `gpus` has: {listed}; "
        "name a larger type, or take a smaller model"
    )
