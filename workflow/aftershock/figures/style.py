"""The common style of all figures.

A method keeps its colour, hatching, marker and dashes in every figure: any one of them is enough to tell it
from its neighbours, in grey and for the colour-blind too. Labels are data and are never read as mathematical
markup.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from aftershock.metrics.catalogue import NATS, metric

# Okabe and Ito's colours, ordered so that neighbours differ in lightness too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#000000", "#56B4E9", "#D55E00", "#F0E442", "#CC79A7")
# Lines only: a hatching of dots makes an SVG of a quarter of a megabyte.
HATCHES = ("", "////", "||||", "\\\\\\\\", "xxxx", "----", "++++", "//")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[str | tuple, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.2, 1.2)),
    (0, (5, 1.2, 1.2, 1.2)),
    (0, (9, 2)),
    "--",
    "-.",
    ":",
)
GREY, DARK = "#888888", "#555555"
APART = len(COLOURS)
"""Methods that their looks tell apart; where there are more, each has a row or a panel of its own."""
IN_A_ROW = 6
"""Panels beside each other, at most."""
STYLE = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "xtick.color": DARK,
    "ytick.left": False,
    "grid.color": "#e5e5e5",
    "hatch.linewidth": 0.6,
    "text.parse_math": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "aftershock",
    "pdf.fonttype": 42,
    "figure.dpi": 110,
    "savefig.dpi": 160,
}


@dataclass(frozen=True)
class Look:
    """Appearance of one method, as bar or as line."""

    colour: str
    hatch: str
    marker: str
    dash: str | tuple


@contextmanager
def style() -> Iterator[None]:
    """Context manager: matplotlib has the settings that all figures share."""
    with matplotlib.rc_context(STYLE):
        yield


def look(editors: Sequence[str]) -> dict[str, Look]:
    """Appearance of each editor, by its position in the run."""
    return {
        editor: Look(
            COLOURS[i % len(COLOURS)],
            HATCHES[i % len(HATCHES)],
            MARKERS[i % len(MARKERS)],
            DASHES[i % len(DASHES)],
        )
        for i, editor in enumerate(dict.fromkeys(editors))
    }


def panel_grid(figure: Figure | SubFigure, n: int, **shared: bool) -> list[Axes]:
    """Return `n` panels in rows of IN_A_ROW, those of each row as high as those of the others."""
    columns = min(n, IN_A_ROW)
    axes = figure.subplots(-(-n // columns), columns, squeeze=False, **shared).ravel().tolist()
    for left_over in axes[n:]:
        left_over.remove()
    if shared.get("sharex"):  # the lowest panel of each column has the numbers of its axis
        for lowest in axes[max(0, n - columns) : n]:
            lowest.xaxis.set_tick_params(labelbottom=True)
    return axes[:n]


def heading(figure: Figure | SubFigure, text: str) -> None:
    """Put `text` above the figure, at its left edge."""
    figure.suptitle(text, x=0.01, ha="left", fontsize=10)


def unit_of(name: str) -> str:
    """Return the unit that values of a metric are drawn in, times 100."""
    return "100 × nats" if metric(name).scale == NATS else "%"


def capital(text: str) -> str:
    """`text` with its first letter in upper case."""
    return text[:1].upper() + text[1:]


def interval_line(
    axis: Axes, x: np.ndarray, rows: np.ndarray, how: Look, label: str | None = None, **changed: object
) -> None:
    """Draw a line with bars from low to high; `rows` is (points, 3), an empty point is left out."""
    filled = np.isfinite(rows[:, 0])
    x, (value, low, high) = np.asarray(x, float)[filled], rows[filled].T
    if not filled.any():
        return
    given = {
        "color": how.colour,
        "linestyle": how.dash,
        "marker": how.marker,
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
        "linewidth": 1.4,
        "elinewidth": 1.0,
        "label": label,
    }
    ends = np.stack([value - np.minimum(low, value), np.maximum(high, value) - value])
    axis.errorbar(x, value, np.nan_to_num(ends), **given | changed)


# Letters of a PDF are chosen and placed by then, and reading these tables takes most of the time of a font.
LAYOUT_TABLES = ["GDEF", "GPOS", "GSUB", "kern"]


@contextmanager
def fonts_without_layout() -> Iterator[None]:
    """Context manager: fonts in PDFs are subset without their layout tables."""
    before = subset.Options._drop_tables_default
    subset.Options._drop_tables_default = [*before, *LAYOUT_TABLES]
    try:
        yield
    finally:
        subset.Options._drop_tables_default = before


def save(figure: Figure, folder: Path, name: str) -> None:
    """Write `figure` as SVG, PDF and PNG, equal bytes for equal figures.

    A letter that the font lacks is a box in PDF and PNG; the SVG names the letter and the viewer's fonts
    draw it.
    """
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    with style(), fonts_without_layout(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.get_layout_engine().execute(figure)
        figure.set_layout_engine(None)
        shown = figure.get_tightbbox().padded(0.06)  # found once: each format would draw the figure for it
        for kind, metadata in dates.items():
            figure.savefig(folder / f"{name}.{kind}", metadata=metadata, bbox_inches=shown)
