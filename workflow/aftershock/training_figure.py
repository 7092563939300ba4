"""The training curve of MEND's hypernetwork."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from aftershock.figures import COLOURS, style
from aftershock.labels import printable

LINES = {
    "val_edit": ("edit, dev", COLOURS[0], "-", "o"),
    "train_edit": ("edit, train", COLOURS[0], ":", ""),
    "val_local": ("elsewhere, dev", COLOURS[5], "-", "s"),
    "train_local": ("elsewhere, train", COLOURS[5], ":", ""),
}
SHARES = {
    "success": ("targets said", COLOURS[0], "-", "o"),
    "locality": ("other texts kept", COLOURS[5], "-", "s"),
}


def curve_name(model: str, kind: str) -> str:
    """File name, without ending, of a training curve."""
    return f"{model.replace('/', '.')}.mend.{kind}"


def kept_row(curve: pd.DataFrame) -> int:
    """Index of the row of MEND_CURVE whose state was kept: the first with the lowest dev loss."""
    return int(curve["val_total"].to_numpy().argmin())


def training_curve(curve: pd.DataFrame, model: str, kind: str) -> Figure:
    """Losses, and the shares that they stand for, by batch; a line marks the state that is edited with."""
    with style():
        figure = Figure(figsize=(6.6, 2.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        _lines(left, curve, LINES)
        left.set_yscale("log")
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter(NullFormatter())
        left.set_title("Loss (nats)")
        _lines(right, curve.assign(**{name: 100 * curve[name] for name in SHARES}), SHARES)
        right.set_ylim(0, 102)
        right.set_title("Dev edits (%)")
        step = curve["step"].iloc[kept_row(curve)]
        for axis in (left, right):
            axis.axvline(step, color="#888888", linewidth=0.8, linestyle="--")
            axis.set_xlabel("batches  ·  - - kept", color="#555555")
            axis.set_xlim(left=0)
            axis.grid(axis="both", which="major")
            axis.legend(frameon=False, fontsize=7.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.26))
        what = "" if kind == "all" else f", {kind}"
        figure.suptitle(f"MEND's training{what} — {printable(model)}", x=0.01, ha="left", fontsize=10)
    return figure


def _lines(axis: Axes, curve: pd.DataFrame, lines: dict[str, tuple[str, str, str, str]]) -> None:
    for name, (label, colour, dash, marker) in lines.items():
        axis.plot(
            curve["step"],
            curve[name],
            dash,
            color=colour,
            marker=marker,
            markersize=3.5,
            label=label,
            linewidth=1.2,
        )
