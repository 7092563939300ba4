"""Figures: all kinds are drawn, equal each time, and nothing in the data can break them."""

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from aftershock import figures
from aftershock.datasets.table import DATASETS
from aftershock.figures.cost import HARM, cost, costs
from aftershock.figures.sizes import by_size, groups, sizes
from aftershock.figures.style import COLOURS, look
from aftershock.figures.trajectories import trajectories
from aftershock.metrics.timings import seconds_per_case
from aftershock.tables.report import SUMMARY
from simulate import HOSTILE, run_of, scores_of, summary_of
from simulated import simulated_run
from tiers import repeated

MODEL = "demo"
NASTY = (
    *HOSTILE,
    "costs $5 and $10",
    "a_b^c \\frac{1}{2}",
    "x" * 400,
    "ירושלים العربية",
    "北京市朝阳区",
    "nul\x00 \ufffe \u2028 line\nbreak",
    "",
)


DRAWN = ("reverse", "round_easy")
"""Datasets of each kind: conflicts, and with several true objects."""


@pytest.fixture(scope="module")
def simulated():
    return simulated_run(fails=[("ft", "reverse")])


@pytest.fixture(scope="module")
def given():
    return simulated_run(fails=[("ft", "reverse")], datasets=DRAWN).drawn(labels={"R7": "award $received$"})


@pytest.fixture(scope="module")
def drawn(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    figures.draw_all(folder, given)
    return folder


def test_every_kind_comes_as_svg_pdf_and_png(drawn):
    expected = {(d, kind) for d in DRAWN for kind in ("metrics", "trajectories")}
    expected |= {("round_easy", "sizes"), ("round_easy", "objects")}
    expected |= {(figures.WHOLE, "cost"), (figures.WHOLE, "health")}
    made = {figures.figure_name(MODEL, *key) for key in expected}
    assert {path.name for path in drawn.iterdir()} == {
        f"{n}.{e}" for n in made for e in ("svg", "pdf", "png")
    }
    assert {kind for _, kind in expected} == set(figures.KINDS)
    assert "award $received$" in (drawn / "demo.round_easy.objects.svg").read_text()
    assert max(path.stat().st_size for path in drawn.glob("*.svg")) < 150_000
    assert b"CreationDate" not in (drawn / "demo.all.cost.pdf").read_bytes()  # equal each time
    assert "<dc:date>" not in (drawn / "demo.all.cost.svg").read_text()


@pytest.mark.thorough
def test_every_dataset_can_be_drawn(simulated, tmp_path):
    figures.draw_all(tmp_path, simulated.drawn())
    drawn = {figures.figure_name(MODEL, dataset, "metrics") for dataset in DATASETS}
    assert drawn <= {path.stem for path in tmp_path.iterdir()}


@pytest.mark.thorough
def test_figures_are_the_same_from_any_number_of_processes(given, drawn, tmp_path):
    part = [i for i, run in enumerate(given.runs) if run["dataset"] == "round_easy"]
    by_run = ("runs", "probabilities", "scores", "cases")
    fewer = replace(given, **{key: [getattr(given, key)[i] for i in part] for key in by_run})
    figures.draw_all(tmp_path, fewer, processes=2)
    spent = costs(given.summary, given.runs, given.timings, given.kg)
    editors = list(dict.fromkeys(run["editor"] for run in given.runs))
    figures.save(cost(spent, MODEL, editors), tmp_path, "demo.all.cost")
    made = list(tmp_path.iterdir())
    assert len(made) == 3 * len(figures.KINDS)
    for path in made:
        assert path.read_bytes() == (drawn / path.name).read_bytes(), path.name


def renamed(simulated, names):
    """The run with its editors, subjects, objects and relations called as in `names`, and one model."""
    editors = dict(zip(dict.fromkeys(run["editor"] for run in simulated.runs), names, strict=False))
    model = "org/model $1_{"
    summary = simulated.summary.assign(model=model, editor=simulated.summary["editor"].map(editors))
    runs = [{**run, "editor": editors[run["editor"]], "model": model} for run in simulated.runs]
    tables = [
        table.assign(object=[names[i % len(names)] for i in range(len(table))], subject=names[-3])
        for table in simulated.probabilities
    ]
    part = type(simulated)(runs, summary, tables, simulated.scores, simulated.cases)
    return part.drawn(labels=dict.fromkeys(["R7"], names[3]))


def widths(drawn):
    """Widths of SVG files, which are XML whatever the labels hold."""
    return [float(ElementTree.parse(path).getroot().get("width").removesuffix("pt")) for path in drawn]


@pytest.mark.parametrize(("shift", "cases"), [repeated(0, 8), repeated(4, 2), (8, 1)])
def test_hostile_labels_and_a_single_case_break_no_figure(tmp_path, shift, cases):
    names = [*NASTY[shift:], *NASTY[:shift]]
    figures.draw_all(tmp_path, renamed(simulated_run(n=cases, datasets=("round_hard",)), names))
    drawn = list(tmp_path.glob("*.svg"))
    assert len(drawn) == len(figures.KINDS)
    assert max(widths(drawn)) < 1100  # no label widens a figure beyond what a page can show


def test_labels_lose_what_would_break_a_line_or_the_file():
    assert figures.printable("a\nb\u202ec\x07") == "a�b�c�"
    assert figures.printable("\ufffe\ud800\u2028") == "���"
    assert figures.printable("x" * 50, 10) == "x" * 9 + "…"
    assert figures.printable("北京 $x$ العربية") == "北京 $x$ العربية"


def luminance(colour):
    """Relative luminance of sRGB (WCAG 2.1)."""
    parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_methods_can_be_told_apart_without_colour():
    looks = look([f"m{i}" for i in range(len(COLOURS))])
    for part in ("colour", "hatch", "marker", "dash"):
        assert len({str(getattr(how, part)) for how in looks.values()}) == len(COLOURS), part
    # Neighbours in the order of methods differ in lightness too.
    shades = [luminance(how.colour) for how in looks.values()]
    contrast = [(max(pair) + 0.05) / (min(pair) + 0.05) for pair in zip(shades, shades[1:], strict=False)]
    assert min(contrast) > 1.3


def test_a_method_keeps_its_look_where_others_are_missing(simulated):
    order = ["memit_mle", "ft", "rome", "memit"]
    bar = figures.bars(simulated.summary, MODEL, "coverage", ["ft", "rome"], order).axes[0].patches
    assert [patch.get_facecolor()[:3] for patch in bar[:2]] == [
        tuple(int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)) for c in COLOURS[1:3]
    ]


def one_run(values, dataset="reverse"):
    return summary_of(values, run_of(dataset))


def test_a_ratio_far_below_zero_and_a_method_without_values_can_be_drawn(tmp_path):
    summary = one_run({"conflict_magnitude": [-50.0, -30.0]})
    figures.save(figures.bars(summary, MODEL, "reverse", ["rome", "ft"]), tmp_path, "far")
    text = (tmp_path / "far.svg").read_text()
    assert "◀ -4000" in text
    assert "no value" in text


def test_trajectories_go_through_the_summarys_values():
    values = {"probability_old_before": [0.1, 0.3], "probability_old_after_first": [0.8, 1.0]}
    values |= {"probability_old": [0.4, 0.6]}
    figure = trajectories(one_run(values), MODEL, "reverse", ["rome", "ft"])
    (line,) = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert list(line.get_ydata()) == pytest.approx([0.2, 0.9, 0.5])
    assert [text.get_text() for text in figure.axes[1].texts] == ["no value"]


def test_the_rarest_numbers_of_objects_are_drawn_together():
    sizes_of = pd.Series([2] * 9 + [3] * 6 + [4] * 3 + [5] * 1 + [9] * 2)
    found = groups(sizes_of)
    assert {name: int(mask.sum()) for name, mask in found.items()} == {"2": 9, "3": 6, "4+": 6}
    assert {name: int(mask.sum()) for name, mask in groups(pd.Series([2, 2, 3])).items()} == {"2+": 3}
    assert groups(pd.Series([], dtype=int)) == {}


def test_distortion_by_number_of_objects_is_the_mean_of_these_cases():
    cases = pd.DataFrame({"case_id": range(12), "cluster": range(12), "n_objects": [2] * 6 + [3] * 6})
    values = [0.1, 0.2] * 3 + [0.3, 0.5] * 3
    rows = by_size(scores_of({"distortion": values}), cases, 0).set_index("objects")
    assert rows["value"].to_dict() == pytest.approx({"2": 0.15, "3": 0.4})
    assert rows["n"].to_dict() == {"2": 6, "3": 6}
    half = by_size(scores_of({"distortion": values}), cases, 0, 0.5).set_index("objects")
    assert (half["high"] - half["low"] < rows["high"] - rows["low"]).all()
    assert (rows["low"] < rows["value"]).all()
    assert (rows["high"] > rows["value"]).all()
    figure = sizes({"rome": rows.reset_index()}, MODEL, "round_easy", ["ft", "rome"])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["2\nn = 6", "3\nn = 6"]
    assert sizes({}, MODEL, "round_easy", ["rome"]) is None


def test_seconds_per_case_count_the_editing_jobs_of_one_run():
    run = run_of("coverage")
    job = {"kg": "world", **run, "seed": "0"}
    jobs = [
        {"rule": rule, "seconds": seconds, "wildcards": job | more}
        for rule, seconds, more in (
            ("edit", 30.0, {"shard": "00000-00099"}),
            ("edit", 6.0, {"shard": "00100-00119"}),
            ("edit", 99.0, {"shard": "00000-00099", "kg": "other"}),
            ("score", 99.0, {}),
        )
    ]
    assert seconds_per_case(jobs, run, "world") == pytest.approx(36 / 120)
    assert np.isnan(seconds_per_case(jobs, {**run, "editor": "ft"}, "world"))
    jobs[0]["began"], jobs[1]["began"] = [10.0, 0], [3.0, 5]  # loading; some cases were done by then
    assert seconds_per_case(jobs, run, "world") == pytest.approx((20 + 6) / 120)


def test_harm_is_what_was_lost(simulated):
    given = simulated.drawn()
    rows = costs(given.summary, given.runs, given.timings, "world")
    assert set(rows["dataset"]) == {panel[0] for panel in HARM}
    row = rows[(rows["editor"] == "rome") & (rows["dataset"] == "coverage")].iloc[0]
    summary = given.summary.set_index(["dataset", "editor", "subset", "metric"])
    kept = summary.loc[("coverage", "rome", "all", "single_neighbours_kept")]
    assert (row["value"], row["low"]) == pytest.approx((1 - kept["value"], 1 - kept["high"]))
    assert row["seconds"] == pytest.approx(30 / 24)
    assert costs(given.summary, given.runs, [], "world").empty
    assert cost(rows, "another model", ["rome"]) is None
    assert costs(SUMMARY.empty(), [], [], "world").empty


def cost_of(harm, seconds, margin=0.0):
    """The figure of methods m0, m1, ... that take so many seconds and do so much harm."""
    rows = pd.DataFrame({"editor": [f"m{i}" for i in range(len(seconds))], "seconds": seconds, "value": harm})
    rows = rows.assign(low=rows["value"] - margin, high=rows["value"] + margin, written=0.9)
    rows = rows.assign(model="m", dataset="coverage")
    return cost(rows, "m", list(rows["editor"]))


def test_labels_of_points_do_not_cover_each_other():
    figure = cost_of(0.1, 1.0 + 0.01 * np.arange(4), 0.05)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 4
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_sampled_cases_are_complete_for_every_editor(simulated):
    pairs = zip(simulated.runs, simulated.probabilities, strict=True)
    easy = {run["editor"]: table for run, table in pairs if run["dataset"] == "round_easy"}
    easy["ft"] = easy["ft"][(easy["ft"]["case_id"] < 2) | (easy["ft"]["state"] != "2")]
    assert set(figures.sample_cases(easy, 5, 0)) == {0, 1}
    assert figures.sample_cases({}, 5, 0) == []


def test_no_run_and_no_case_draw_nothing(tmp_path):
    given = figures.Drawn(SUMMARY.empty(), [], [], [], [])
    figures.draw_all(tmp_path, given)
    figures.draw_all(tmp_path, figures.Drawn(SUMMARY.empty(), [run_of("round_easy")], [None], [None], [None]))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def crowd(given):
    """The run with each method six times, under other names: more than looks tell apart."""
    copies = 6
    names = [f"copy {i} of" for i in range(copies)]
    runs = [{**run, "editor": f"{name} {run['editor']}"} for name in names for run in given.runs]
    rows = [given.summary.assign(editor=f"{name} " + given.summary["editor"]) for name in names]
    timings = [
        {**job, "wildcards": {**job["wildcards"], "editor": f"{name} {job['wildcards']['editor']}"}}
        for name in names
        for job in given.timings
    ]
    tables = {key: getattr(given, key) * copies for key in ("probabilities", "scores", "cases")}
    return replace(given, runs=runs, summary=pd.concat(rows, ignore_index=True), timings=timings, **tables)


@pytest.mark.thorough
def test_all_figures_of_many_methods_fit_a_page(crowd, tmp_path):
    figures.draw_all(tmp_path, crowd)
    drawn = list(tmp_path.glob("*.svg"))
    assert len(drawn) == len(list(tmp_path.iterdir())) / 3 > len(figures.KINDS)
    assert max(widths(drawn)) < 1100


def test_many_methods_have_rows_or_panels_that_wrap(crowd):
    editors = list(dict.fromkeys(run["editor"] for run in crowd.runs))
    assert len(editors) > 20
    bars = figures.bars(crowd.summary, MODEL, "reverse", editors, editors)
    for figure in (bars, trajectories(crowd.summary, MODEL, "reverse", editors)):
        assert 72 * figure.get_figwidth() < 1100
    spent = costs(crowd.summary, crowd.runs, crowd.timings, crowd.kg)
    figure = cost(spent, MODEL, editors)
    figure.draw_without_rendering()
    assert all(float(text.get_text()) > 0 for text in figure.axes[1].get_xticklabels())  # seconds, no markup
    labels = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(labels) == spent["editor"].nunique()
    assert not any(label.overlaps(other) for i, label in enumerate(labels) for other in labels[:i])


@pytest.mark.parametrize("least", [0.11, 0.22, 0.37, 0.51, 0.99])
def test_an_axis_of_nearly_equal_seconds_has_few_numbers(least):
    seconds = np.linspace(least, 1.1 * least, 10)
    for some, place in ((seconds, 1), (seconds[:3], 0)):
        axis = cost_of(0.2, some, 0.1).axes[place]
        low, high = axis.get_xlim()
        numbers = [float(axis.xaxis.get_major_formatter()(x)) for x in axis.get_xticks() if low <= x <= high]
        assert 2 <= len(numbers) <= 3
        assert low < some.min() < some.max() < high


def test_a_mark_is_filled_where_no_method_is_both_cheaper_and_milder():
    harm = [0.5, 0.4, 0.6, 0.3, 0.3, 0.9, 0.2, 0.7, 0.1, 0.8]
    figure = cost_of(harm, np.arange(1.0, 11.0))
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [f"m{i}" for i in np.argsort(harm, kind="stable")]
    marks = [line for line in figure.axes[2].lines if len(line.get_xdata()) == 1]
    filled = {int(mark.get_ydata()[0]) for mark in marks if mark.get_markerfacecolor() != "white"}
    assert {names[place] for place in filled} == {"m0", "m1", "m3", "m4", "m6", "m8"}


def test_numbers_of_many_methods_are_the_means():
    table = pd.DataFrame({"objects": ["2", "3"] * 3, "n": 6, "low": 0.0, "high": 1.0})
    table = table.assign(metric=np.repeat(["distortion", "distortion_released", "ignore_rate"], 2))
    runs = {f"m{i}": table.assign(value=[0.01 * i, 0.2, 0.1, 0.1, 0.5, 1.0]) for i in range(9)}
    figure = sizes(runs, MODEL, "round_easy", list(runs))
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == [text for i in range(9) for text in (f"{i}.0", "20.0")]
    assert [text.get_text() for text in figure.axes[2].texts[:2]] == ["50", "100"]
    assert figure.axes[2].get_xlabel() == "true objects  ·  %"
