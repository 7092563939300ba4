"""The health of edits: sizes of changes from formulas, perplexity of a text, medians and flags by hand."""

import math

import pandas as pd
import pytest
import torch

from aftershock.datasets.table import CONFLICT_STATES, ROUND_STATES
from aftershock.editors.contract import EditResult
from aftershock.experiments.cases import run_cases
from aftershock.experiments.health import TOUCHED, Health, own_texts
from aftershock.experiments.queries import requests_of
from aftershock.figures.health import health as figure
from aftershock.lm.edits import EMPTY, Dense, LowRank, Rows
from aftershock.lm.edits.measures import ranks, row_norms
from aftershock.lm.scoring import score
from aftershock.metrics.health import MOST, Thresholds, disabling, flagged, summarise_health
from aftershock.paper.health import health_tables
from aftershock.report import page
from aftershock.requests import Query
from aftershock.tables.report import HEALTH_SUMMARY
from aftershock.tables.runs import HEALTH
from editing import make
from pages import Page, material
from simulated import health_summary
from test_protocol import TEMPLATE_ROWS, tables
from tiny import target_log_probs, tiny, written
from toy_deltas import Nudge


# --- sizes --------------------------------------------------------------------------------------------------
def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


U, V = drawn(2, 3, 9), drawn(2, 3, 5)
TWICE = LowRank("m.0", torch.cat([U, 2 * U[:, :1]], dim=1), torch.cat([V, V[:, :1]], dim=1))
CHANGES = (
    LowRank("m.0", U, V),
    TWICE,
    LowRank("m.0", U, 0 * V),
    LowRank("m.0", drawn(2, 20, 9), drawn(2, 20, 5)),
    Rows("m.0", torch.tensor([[0, 4, 4], [8, 1, 2]]), V, 9),
    Dense("m.0", drawn(2, 5, 9), drawn(2, 5)),
)


@pytest.mark.parametrize("change", CHANGES)
def test_row_norms_and_ranks_are_those_of_the_matrix(change):
    assert torch.allclose(row_norms(change), change.dense().norm(dim=2), atol=1e-12)
    wanted = torch.linalg.matrix_rank(change.dense(), rtol=1e-6).tolist()
    assert ranks(change) == (None if isinstance(change, Dense) else wanted)


# --- a run --------------------------------------------------------------------------------------------------
SIZES = ["norm", "relative", "touched", "rank", "condition"]


def observed(lm, editor, n=4, every=2, round_case=False):
    edits, probes = tables(n, round_case)
    health = Health(lm, every)
    states = ROUND_STATES if round_case else CONFLICT_STATES
    _, telemetry = run_cases(lm, editor, edits, probes, TEMPLATE_ROWS, states, health=health)
    found = health.table()
    HEALTH.check(found)
    return health, found, telemetry


def test_every_state_and_weight_has_a_row_with_sizes_and_some_with_a_likelihood():
    lm = tiny()
    editor = make("memit", lm)
    health, found, telemetry = observed(lm, editor)
    tried = set(zip(telemetry["case_id"], telemetry["state"], strict=True))
    modules = {lm.projection(0), lm.projection(1)}
    assert set(zip(*(found[c] for c in ("case_id", "state", "module")), strict=True)) == {
        (*pair, module) for pair in tried for module in modules
    }
    edits, _ = tables(4)
    first = editor.edit(requests_of(edits, "e1", [2])).delta
    both = first + editor.edit(requests_of(edits, "e2", [2]), first).delta
    for module in modules:
        row = found.set_index(["case_id", "state", "module"]).loc[(2, "2", module)]
        change = sum(d.dense()[0] for d in both if d.module == module)
        weight = lm.weight(module)
        assert row["norm"] == pytest.approx(change.norm().item())
        assert row["relative"] == pytest.approx((change.norm() / weight.norm()).item())
        touched = change.norm(dim=1) > TOUCHED * weight.norm(dim=1)
        assert row["touched"] == pytest.approx(touched.double().mean().item())
        assert row["rank"] == torch.linalg.matrix_rank(change, rtol=1e-6)
        assert row["condition"] == editor.factor(lm.layer_of(module)).condition
        assert row["nll"] == pytest.approx(slow_nll(written(lm, both, 0), health.texts))
        assert row["unedited_nll"] == pytest.approx(slow_nll(lm, health.texts))
    assert found["nll"].notna().tolist() == (found["case_id"] % 2 == 0).tolist()


def slow_nll(lm, texts):
    """Mean over all tokens after the beginnings, one text at a time by the model's own class."""
    found = []
    for prompt, rest in texts:
        head, ids = (lm.encode([text])[0] for text in (prompt, f"{prompt} {rest}"))
        found += [-p for p in target_log_probs(lm, ids, len(ids) - len(head))]
    return sum(found) / len(found)


def test_a_random_change_has_its_size_and_no_equations():
    _, found, _ = observed(tiny(), make("rome", tiny()), round_case=True)
    of_state = found.set_index(["state", "case_id"]).sort_index()
    assert of_state.loc["random", "norm"].tolist() == pytest.approx(of_state.loc["2", "norm"].tolist())
    assert of_state.loc["random", "condition"].isna().all()
    assert of_state.loc["2", "condition"].notna().all()


def test_perplexity_may_be_measured_in_no_case_and_whole_matrices_have_no_rank():
    health, found, _ = observed(tiny(), make("ft", tiny(), steps=2), every=0)
    assert found[["nll", "rank"]].isna().all(axis=None)
    assert found["norm"].notna().all()
    assert not health.texts


class SizedNudge(Nudge):
    """A nudge whose size telemetry can ask for."""

    def squared_norm(self):
        return self.vector.square().sum(dim=1)


def changed_to(lm, delta_of):
    """An editor whose edits of n cases are the change that `delta_of` makes."""
    editor = make("rome", lm)

    def edit(cases, state=EMPTY, memory=None):
        n = len(cases)
        return EditResult((delta_of(n),), (1,) * n, (0.1,) * n, (None,) * n)

    editor.edit = edit
    return editor


def test_what_is_no_change_of_weights_has_a_likelihood_and_no_norm():
    lm = tiny()
    vector, token = torch.ones(lm.d_model, dtype=lm.dtype), torch.tensor(lm.encode(["a"])[0][-1])
    editor = changed_to(lm, lambda n: SizedNudge(lm.mlp(0), vector.expand(n, -1), token.expand(n)))
    _, found, _ = observed(lm, editor, every=1)
    assert found[SIZES].isna().all(axis=None)
    assert found["nll"].notna().all()
    assert set(found["module"]) == {f"SizedNudge of {lm.mlp(0)}"}  # once, however often it is edited


def test_a_model_that_says_no_number_is_infinitely_unlikely():
    lm = tiny()
    huge = [torch.full((1, 1, size), 1e200, dtype=lm.dtype) for size in lm.weight(lm.projection(0)).shape]
    editor = changed_to(lm, lambda n: LowRank(lm.projection(0), *(x.expand(n, -1, -1) for x in huge[::-1])))
    _, found, _ = observed(lm, editor, every=1)
    assert (found["nll"] == math.inf).all()


def test_failed_edits_have_no_rows():
    lm = tiny()
    editor, edit = make("rome", lm), make("rome", lm).edit

    def refuse(cases, state=EMPTY, memory=None):
        result = edit(cases, state, memory)
        reasons = tuple("no" if case[0].subject.startswith("Ada") else None for case in cases)
        return EditResult(result.delta, result.steps, result.losses, reasons)

    editor.edit = refuse
    _, found, telemetry = observed(lm, editor)
    failed = telemetry.loc[telemetry["reason"].notna(), ["case_id", "state"]]
    assert len(failed)
    both = found.merge(failed, on=["case_id", "state"])
    assert both.empty


def test_the_text_is_the_models_own_and_the_same_each_time():
    lm, other = tiny(), tiny("llama")
    assert own_texts(lm) == own_texts(tiny()) != own_texts(other)
    assert all(prompt.strip() and rest.strip() for prompt, rest in own_texts(lm))
    assert score(lm, [Query(*text) for text in own_texts(lm)])


# --- the summary --------------------------------------------------------------------------------------------
RUN = {"model": "demo", "dataset": "coverage", "editor": "rome", "seed": 0}


def health_rows(norms, nll=None, state="2"):
    """HEALTH rows of one weight per entry of each case's `norms`."""
    nll = nll or [None] * len(norms)
    rows = [
        (case, state, f"layers.{i}", norm, norm / 10, 0.5, 1, 100.0 * (i + 1), nll[case], 1.0)
        for case, of_case in enumerate(norms)
        for i, norm in enumerate(of_case)
    ]
    frame = pd.DataFrame(rows, columns=list(HEALTH.columns))
    frame.loc[frame["nll"].isna(), "unedited_nll"] = None
    return frame


def summary_of(rows, **thresholds):
    found = summarise_health([RUN], [rows], Thresholds(**thresholds))
    HEALTH_SUMMARY.check(found)
    return found


def test_medians_and_worst_cases_by_hand():
    log2 = math.log(2)
    (row,) = summary_of(
        health_rows([[1.0, 2.0], [4.0, 3.0], [5.0, 7.0]], [1.0, 1.0 + log2, 1.0 + 3 * log2])
    ).to_dict("records")
    assert (row["cases"], row["measured"]) == (3, 3)
    assert (row["norm_median"], row["norm_worst"]) == (4.0, 7.0)  # of 2, 4, 7: each case's worst weight
    assert (row["relative_median"], row["relative_worst"]) == (0.4, 0.7)
    assert (row["condition_median"], row["condition_worst"]) == (200.0, 200.0)
    assert row["unedited"] == pytest.approx(math.e)
    assert (row["perplexity_median"], row["perplexity_worst"]) == pytest.approx((2.0, 8.0))
    assert (row["collapsed"], row["disabling"]) == (0, 0)


def test_flags_begin_beyond_their_thresholds():
    logs = [1.0, 1.0 + math.log(3.999), 1.0 + math.log(4.001), math.inf]
    rows = health_rows([[1.0, 9.0], [1.0, 9.0], [1.0, 9.0], [5.0, 9.0]], logs)
    found = summary_of(rows, collapse=4.0, disabling=5.0).iloc[0]
    assert (found["collapsed"], found["disabling"]) == (2, 0)
    found = summary_of(rows, collapse=4.0, disabling=4.9).iloc[0]
    assert found["disabling"] == 1  # 5 is more than 4.9 medians of its weight
    assert found["perplexity_worst"] == pytest.approx(MOST)
    assert disabling(rows, 4.9).sum() == 1


def test_a_weight_that_few_cases_change_is_held_against_those():
    norms = [[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, 4.0], [0.0, 30.0, 0.0]]
    rows = health_rows(norms, [1.0] * 5)
    assert disabling(rows, 10.0).sum() == 1  # 30, of 2, 2.5 and 30
    assert summary_of(rows, disabling=10.0).iloc[0]["disabling"] == 1


def test_states_and_runs_are_told_apart_and_gaps_stay_empty():
    rows = pd.concat([health_rows([[1.0]] * 3), health_rows([[50.0]], state="1")])
    found = summary_of(rows).set_index("state")
    assert found["disabling"].tolist() == [0, 0]
    assert found.loc["2", "measured"] == 0
    assert found.loc["2", ["unedited", "perplexity_median"]].isna().all()
    found = summary_of(health_rows([[1.0]], [2.0]).assign(**dict.fromkeys(SIZES))).iloc[0]
    assert pd.isna(found[["norm_median", "rank_worst", "condition_median"]]).all()
    assert found["perplexity_median"] == pytest.approx(math.e)
    assert summary_of(HEALTH.empty()).empty


def test_what_is_flagged_is_said_with_its_threshold():
    rows = health_rows([[1.0]] * 4 + [[30.0]], [1.0, 1.0, 1.0, 1.0, 9.0])
    rows = pd.concat([rows, rows.assign(state="control")])
    runs = [RUN, {**RUN, "dataset": "reverse"}, {**RUN, "editor": "ft"}]
    calm = health_rows([[1.0]] * 4)
    assert flagged(summarise_health(runs, [rows, rows, calm], Thresholds())) == [
        "demo, rome: after both edits perplexity is more than 10 times the unedited model's in 1 of 5 "
        "(coverage), 1 of 5 (reverse).",
        "demo, rome: after both edits the norm of the change is more than 10 times the median in 1 of 5 "
        "(coverage), 1 of 5 (reverse).",
    ]
    assert flagged(HEALTH_SUMMARY.empty()) == []


def test_the_table_for_papers_has_a_line_per_run_and_says_its_thresholds():
    runs = [{**RUN, "editor": editor} for editor in ("ft", "rome", "memit")]
    summary = health_summary(runs, 12).replace({"editor": {"memit": "me_mit & <co>"}})
    made = health_tables(summary)
    tex, markdown = made["health.tex"], made["health.md"]
    (ft,) = summary[(summary["editor"] == "ft") & (summary["state"] == "2")].to_dict("records")
    assert f"demo & ft & coverage & {ft['relative_median']:.3g} & {ft['relative_worst']:.3g} &" in tex
    assert "me\\_mit \\& \\textless{}co\\textgreater{}" in tex
    assert tex.count("demo &") == markdown.count("| demo |") == 3
    assert "more than 10 times its perplexity" in tex
    widths = {line.count("&") for line in tex.splitlines() if line.startswith("    demo")}
    assert len({line.count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    assert len(widths - {12}) <= 1
    assert "\\begin{tabular}" in health_tables(HEALTH_SUMMARY.empty())["health.tex"]


# --- figure and page ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [2, 15])
def test_the_figure_has_a_line_per_method_and_dataset(n):
    names = ["rome", *(f"method {i}" for i in range(n - 1))]
    runs = [
        {**RUN, "dataset": dataset, "editor": name} for dataset in ("coverage", "reverse") for name in names
    ]
    summary = health_summary(runs, 8)
    made = figure(summary, "demo", names)
    ratios, sizes = made.axes
    assert [label.get_text() for label in ratios.get_yticklabels()] == names
    medians = [line for line in sizes.lines if len(line.get_xdata()) == 1][1::2]
    wanted = summary[summary["state"] == "2"].set_index(["editor", "dataset"])["relative_median"]
    drawn_ = sorted(float(line.get_xdata()[0]) for line in medians)
    assert drawn_ == pytest.approx(sorted(wanted))
    assert [line.get_xdata()[0] for line in ratios.lines[-2:]] == [1, 10]
    assert figure(summary, "another", names) is None
    assert figure(HEALTH_SUMMARY.empty(), "demo", names) is None


def test_without_perplexity_the_figure_shows_sizes_alone():
    made = figure(summary_of(health_rows([[1.0], [2.0]])), "demo", ["rome"])
    assert [axis.get_title(loc="left") for axis in made.axes] == ["Size of the change"]


def test_the_page_shows_health_with_thresholds_and_flags():
    html = Page(page(material()))
    table = html.data("data")["tables"]["health"]
    assert table["chosen"] == {"state": "2"}
    shown = {column["id"]: column for column in table["columns"]}
    assert "after both" in shown["state"]["shown"]
    assert all(shown[name].get("about") for name in ("collapsed", "disabling", "relative_worst", "unedited"))
    assert "more than 10 times the unedited model's, an edit as disabling" in html.text
    assert "demo, rome: after both edits the norm of the change is more than 10 times the median" in html.text
    without = Page(page(material(tables={})))
    assert "#health" not in [value for _, name, value in without.attributes if name == "href"]
