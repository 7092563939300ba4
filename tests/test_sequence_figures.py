"""Figures of cases among unrelated edits."""

import pandas as pd
import pytest

from aftershock.figures.sequences import unrelated_curves
from aftershock.metrics.abilities.settings import ALL

PLACES = ("before", "between", "after")


def curves(editors: int, missing: tuple[str, ...] = ()) -> pd.DataFrame:
    """CURVES of three metrics with 0 and 10 edits in each place, larger ones at later places."""
    rows = [
        (f"editor {e}", f"{metric}:{place}:coverage", n, 0.1 * (1 + place_number) + 0.01 * n)
        for e in range(editors)
        for metric in ("success", "conflict_score_exp", "conflict_magnitude")
        for place_number, place in enumerate(PLACES)
        for n in (0, 10)
        if f"{metric}:{place}" not in missing
    ]
    frame = pd.DataFrame(rows, columns=["editor", "measure", "checkpoint", "value"])
    return frame.assign(model="m", plan="p", order=ALL, age=ALL, low=frame["value"], high=frame["value"])


def shown(figure) -> list[tuple[str, int]]:
    """Title and number of lines of each panel."""
    labels = [axis.get_legend_handles_labels()[1] for axis in figure.axes]
    titles = [axis.get_title("left").replace("\n", " ") for axis in figure.axes]
    return list(zip(titles, map(len, labels), strict=True))


def test_a_row_of_panels_is_a_metric_with_a_column_for_each_place():
    """Also where a place has no value of a metric, whose panel is empty then."""
    figure = unrelated_curves(curves(2, ("success:between",)), "m", "p")
    assert shown(figure) == [
        (f"{metric}, coverage, edits {place}", 0 if (metric, place) == ("success", "between") else 2)
        for metric in ("success", "conflict score, explicit", "conflict magnitude")
        for place in PLACES
    ]
    for row in range(3):
        limits = {axis.get_ylim() for axis in figure.axes[3 * row : 3 * row + 3]}
        assert len(limits) == 1
    assert [axis.get_xlabel() for axis in figure.axes[-3:]] == ["unrelated edits"] * 3


def test_many_methods_are_a_row_each():
    figure = unrelated_curves(curves(8), "m", "p")
    titles = [f"editor {e}, coverage, edits {place}" for e in range(8) for place in PLACES]
    assert shown(figure) == [(title, 3) for title in titles]


@pytest.mark.parametrize("rows", [curves(1).iloc[:0], curves(1).assign(measure="latest")])
def test_without_cases_there_is_no_figure(rows):
    assert unrelated_curves(rows, "m", "p") is None
