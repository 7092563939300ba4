"""State of MEND's training and its checkpoint file, from which a killed training resumes."""

import json
import logging
import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from aftershock.lm.files.tensors import open_tensors
from aftershock.lm.networks.hypernetwork import Hypernetwork
from aftershock.output import whole_file


@dataclass
class TrainingState:
    """State of training between batches, beside the network and its optimizer.

    Random numbers depend on the batch's number, so that this is all of their state.
    """

    step: int = 0
    seconds: float = 0.0
    best_step: int = 0
    best_total: float = math.inf
    skipped: int = 0
    since: list[tuple[float, float]] = field(default_factory=list)  # losses since the last evaluation on dev
    curve: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def start(cls, net: Hypernetwork) -> "TrainingState":
        """The state before the first batch."""
        return cls(best=_copied(net))

    def add(self, losses: tuple[float, float] | None) -> None:
        """Record a batch's losses, or that it was left out."""
        if losses is None:
            self.skipped += 1
        else:
            self.since.append(losses)

    def look(self, net: Hypernetwork, found: dict[str, float]) -> None:
        """Add a row to the curve; keep the network when its dev loss is the lowest so far."""
        edit, local = (
            (sum(values) / len(self.since) for values in zip(*self.since, strict=True))
            if self.since
            else (math.nan, math.nan)
        )
        row = {"step": self.step, "seconds": self.seconds, "train_edit": edit, "train_local": local}
        self.curve.append({**row, **found, "skipped": self.skipped})
        self.since = []
        if found["val_total"] < self.best_total:
            self.best_total, self.best_step, self.best = found["val_total"], self.step, _copied(net)


SAVED = ("step", "seconds", "best_step", "best_total", "skipped", "since", "curve")


def save_checkpoint(
    path: Path, net: Hypernetwork, optimizer: torch.optim.Adam, state: TrainingState, identity: str
) -> None:
    """Write network, optimizer and state atomically; call it between an update and the next batch."""
    tensors = {f"net.{name}": value for name, value in net.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": value for name, value in values.items()}
    about = {"identity": identity, "progress": json.dumps({name: getattr(state, name) for name in SAVED})}
    with whole_file(path) as part:
        save_file(
            {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, part, metadata=about
        )


def load_checkpoint(
    path: Path, net: Hypernetwork, optimizer: torch.optim.Adam, identity: str
) -> TrainingState | None:
    """The state in a file, its tensors put into `net` and `optimizer`; None when there is none.

    A checkpoint of other weights, settings or data is left alone and said to be discarded.
    """
    if not path.exists():
        return None
    with open_tensors(path) as file:
        about = file.metadata() or {}
        if about.get("identity") != identity:
            logging.warning("%s is of other weights, settings or data: discarded, training starts anew", path)
            return None
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    parts: dict[str, dict[str, Tensor]] = {"net": {}, "best": {}, "adam": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    net.load_state_dict(parts["net"])
    state = optimizer.state_dict()
    for name, tensor in parts["adam"].items():
        number, _, key = name.partition(".")
        state["state"].setdefault(int(number), {})[key] = tensor
    optimizer.load_state_dict(state)
    found = TrainingState(**json.loads(about["progress"]), best=parts["best"])
    logging.info("going on from %s at batch %d", path, found.step)
    return found


def _copied(net: Hypernetwork) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}
