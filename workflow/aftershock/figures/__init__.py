"""The figures of a run, in matplotlib and in one style, as SVG, PDF and PNG.

`aftershock.figure_names` lists the kinds, their content and file names. Here, `style` has the common style;
`metrics` draws bars by method, `trajectories` old and new facts from state to state, `sizes` the effect of
the number of true objects, `objects` single round cases, `cost` seconds against damage, `health` the effect
of edits on weights and on a text; `draw` draws them all.
A kind of figure is added as a module that returns a Figure, a line in KINDS and a call in `draw`.
"""

from aftershock.figure_names import KINDS, WHOLE, figure_name
from aftershock.figures.draw import Drawn, draw_all
from aftershock.figures.metrics import bars
from aftershock.figures.objects import objects, sample_cases
from aftershock.figures.style import COLOURS, look, save, style
from aftershock.labels import printable

__all__ = [
    "COLOURS",
    "KINDS",
    "WHOLE",
    "Drawn",
    "bars",
    "draw_all",
    "figure_name",
    "look",
    "objects",
    "printable",
    "sample_cases",
    "save",
    "style",
]
