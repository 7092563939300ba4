"""Reported figures: carried over correctly, and set beside a run of the same model and files only."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from aftershock.datasets.released import FILES, PROMPT_FILES
from aftershock.metrics.differences import between, newcombe
from aftershock.paper.reported import NOTHING, Circumstances, Study, is_published, reported
from aftershock.tables.report import REPORTED, REPORTED_NOTES, SUMMARY
from simulate import run_of
from simulated import simulated_run

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
STUDY = Study.read(ROOT / "resources" / "paper")
EDITORS = {
    "ft": {"method": "ft"},
    "rome": {"method": "rome", "settings": {"steps": 3}},
    "memit": {"method": "memit"},
    "memit_mle": {"method": "memit", "second_edit": "multi_label", "tuned_as": "memit"},
}
XL = {"gpt2-xl": "openai-community/gpt2-xl"}


# --- the carried-over figures -----------------------------------------------------------------------------
def key(cell):
    return cell["model"], cell["method"], cell["setting"], cell["metric"]


def test_every_cell_of_both_tables_is_there():
    keys = [key(cell) for cell in STUDY.cells]
    assert len(keys) == len(set(keys)) == 160
    per_method = Counter(method for _, method, _, _ in keys)
    assert per_method == {"FT": 36, "MEND": 36, "ROME": 36, "MEMIT": 36, "MEMIT+MLE": 16}


def test_rates_are_whole_numbers_of_cases_but_for_the_two_that_are_flagged():
    flagged = set()
    for cell in STUDY.cells:
        hits = float(cell["value"]) * int(cell["n"]) / 100
        possible = cell["kind"] != "rate" or abs(hits - round(hits)) < 1e-6
        assert possible == (cell["flag"] == ""), cell
        if cell["flag"]:
            flagged.add((*key(cell), cell["value"]))
    assert flagged == {
        ("GPT2-XL", "MEND", "reverse", "CS_exp", "88.89"),
        ("GPT2-XL", "FT", "hard", "FR", "80.82"),
    }


@pytest.mark.skipif(not (SHARED / "paper").is_dir(), reason="needs ../shared/paper, the figures as read")
def test_figures_are_those_of_the_paper():
    read = {}
    for name in ("table1.csv", "table2.csv"):
        with open(SHARED / "paper" / name, encoding="utf-8", newline="") as file:
            read |= {key(row): row["value"] for row in csv.DictReader(file)}
    assert {key(cell): cell["value"] for cell in STUDY.cells} == read


@pytest.mark.skipif(not (SHARED / "data" / "released").is_dir(), reason="needs ../shared/data/released")
def test_the_published_files_are_known():
    folder = SHARED / "data" / "released" / "GPT2-XL"
    for dataset, file in FILES.items():
        assert is_published(folder / file, STUDY.models["GPT2-XL"]["files"][dataset])
    for kind, file in PROMPT_FILES.items():
        assert is_published(folder / file, STUDY.prompts[kind])
    for dataset in ("composite", "round_easy", "round_hard"):
        assert not is_published(folder / FILES[dataset], STUDY.models["GPT-J"]["files"][dataset])


def test_row_counts_of_files_without_a_hash_add_up():
    for dataset in ("composite", "round_easy", "round_hard"):
        assert sum(STUDY.models["GPT-J"]["files"][dataset]["rows"].values()) == 2500


def test_a_file_without_a_hash_is_known_by_its_rows(tmp_path):
    rows = [{"rule": "A>B"}, {"rule": "A>B"}, {"rule": "B>A"}]
    path = tmp_path / "file.json"
    path.write_text(json.dumps(rows))
    assert is_published(path, {"rows": {"A>B": 2, "B>A": 1}})
    assert not is_published(path, {"rows": {"A>B": 2, "B>A": 2}})
    path.write_text(json.dumps([{"edit": {"relation": {"id": "P1"}}}]))
    assert is_published(path, {"rows": {"P1": 1}})
    for broken in ("", "{", "[1]", '[{"edit": {}}]', "3"):
        path.write_text(broken)
        assert not is_published(path, {"rows": {"P1": 1}})
    assert not is_published(tmp_path / "missing.json", {"sha256": "00"})


# --- intervals --------------------------------------------------------------------------------------------
def test_newcombes_interval_is_that_of_his_tables():
    """Newcombe (1998), Table II, method 10: 56/70 against 48/80, 9/10 against 3/10, 10/10 against 0/20."""
    assert newcombe(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(9 / 10, 10, 3 / 10, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe(10 / 10, 10, 0 / 20, 20) == pytest.approx((0.6791, 1.0), abs=5e-5)


def test_a_difference_of_intervals_is_square_and_add():
    low, high = between(0.5, 0.4, 0.7, 0.2, 0.1, 0.5)
    assert low == pytest.approx(0.3 - np.hypot(0.1, 0.3))
    assert high == pytest.approx(0.3 + np.hypot(0.2, 0.1))


# --- beside a run -----------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path):
    """A folder with small stand-ins for the published files, and a study that knows these."""
    files = {}
    for name in (*FILES.values(), *PROMPT_FILES.values()):
        rows = [{"rule": f"{name}>"}] * 3
        (tmp_path / name).write_text(json.dumps(rows))
        files[name] = {"rows": {f"{name}>": 3}}
    of_model = {dataset: files[file] for dataset, file in FILES.items()}
    models = {name: {**about, "files": of_model} for name, about in STUDY.models.items()}
    return tmp_path, replace(
        STUDY, models=models, prompts={k: files[file] for k, file in PROMPT_FILES.items()}
    )


@pytest.fixture(scope="module")
def simulated():
    return simulated_run(model="gpt2-xl")


@pytest.fixture
def beside(simulated, folder):
    """Set reported figures beside the simulated run, some of whose circumstances may be others."""

    def beside(study=folder[1], hubs=XL, editors=EDITORS, path=str(folder[0]), of=simulated):
        about = Circumstances(
            hubs, editors, path, {"target_ids": "text"}, {"gpt2-xl": {"software": "torch 9"}}
        )
        table, notes = reported(of.summary, of.runs, study, about)
        REPORTED.check(table)
        REPORTED_NOTES.check(notes)
        return table, notes

    return beside


def test_a_run_of_the_same_model_and_files_gets_the_reported_figures(simulated, beside):
    table, _ = beside()
    # FT, ROME and MEMIT in both tables, MEMIT with all labels in the second.
    assert table.groupby("editor").size().to_dict() == {"ft": 18, "rome": 18, "memit": 18, "memit_mle": 8}
    assert set(table["reported_model"]) == {"GPT2-XL"}
    row = table.set_index(["editor", "dataset", "metric"]).loc[
        "rome", "reverse", "conflict_magnitude_released"
    ]
    assert row["reported"] == pytest.approx(-0.0065)
    summary = simulated.summary.set_index(["dataset", "editor", "subset", "metric"])
    ours = summary.loc["reverse", "rome", "all", "conflict_magnitude_released"]
    assert row["value"] == ours["value"]
    assert row["difference"] == pytest.approx(ours["value"] + 0.0065)
    assert np.isnan(row["difference_low"])
    assert row["source"] == "Li et al. (2024), Table 1"


def test_rates_get_an_interval_from_both_sides_numbers(beside):
    table, _ = beside()
    by_cell = table.set_index(["editor", "dataset", "metric"])
    row = by_cell.loc["ft", "composite", "conflict_score_imp"]
    assert row["reported_n"] == 2000
    expected = newcombe(row["value"], 24, 0.5765, 2000)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(expected)
    # Success of a round case is the mean of two comparisons: 48 against 5000.
    row = by_cell.loc["memit_mle", "round_hard", "success_released"]
    expected = newcombe(row["value"], 48, 0.8664, 5000)
    assert (row["difference_low"], row["difference_high"]) == pytest.approx(expected)
    for _, row in table.dropna(subset=["difference_low"]).iterrows():
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    means = table["metric"].isin(["conflict_magnitude_released", "tied_fact_damage_released",
                                  "distortion_released", "ignore_rate"])  # fmt: skip
    assert table.loc[means, "difference_low"].isna().all()
    assert table.loc[~means, "difference_low"].notna().all()


def test_the_impossible_cell_keeps_its_flag(beside):
    table, _ = beside()
    (flagged,) = table.dropna(subset=["flag"]).to_dict("records")
    assert (flagged["editor"], flagged["dataset"], flagged["metric"]) == ("ft", "round_hard", "failure_rate")


def test_what_differs_all_the_same_is_listed(beside):
    _, notes = beside()
    mine = notes[(notes["editor"] == "rome") & (notes["dataset"] == "reverse")].set_index("about")["here"]
    assert mine[["cases", "seeds", "software", "settings", "second moments"]].tolist() == [
        *("24 reverse cases", "seed 0", "torch 9"),
        *('changed in this run: {"steps": 3}', "not recorded"),
    ]
    of_ft = set(notes.loc[notes["editor"] == "ft", "about"])
    assert "second moments" not in of_ft
    assert "MEND's training" not in set(notes["about"])


def refused(found):
    """Return the reasons of a run that gets nothing."""
    table, notes = found
    assert table.empty
    assert set(notes["about"]) == {NOTHING}
    return notes


def test_another_model_gets_nothing_and_a_reason(beside):
    for hub in (None, "openai-community/gpt2", "someone/gpt2-xl"):
        assert "another model" in refused(beside(hubs={"gpt2-xl": hub}))["here"].item()
    # The hub ignores case, and so does this.
    assert len(beside(hubs={"gpt2-xl": "OpenAI-Community/GPT2-XL"})[0])


def test_cases_built_here_get_nothing_and_a_reason(beside):
    assert refused(beside(path=None))["here"].item() == "cases built here from a graph"


def test_a_changed_file_gets_nothing_while_the_others_do(folder, beside):
    (folder[0] / FILES["reverse"]).write_text("[]")
    table, notes = beside()
    assert set(table["dataset"]) == {"coverage", "composite", "round_easy", "round_hard"}
    (refusal,) = notes.loc[notes["about"] == NOTHING].to_dict("records")
    why = "reverse_edit.json in this run's folder is not that file"
    assert (refusal["dataset"], refusal["here"]) == ("reverse", why)
    (folder[0] / PROMPT_FILES["round"]).unlink()
    assert set(beside()[0]["dataset"]) == {"coverage", "composite"}


def test_the_files_of_the_other_model_are_refused(folder, beside):
    other = replace(folder[1], models={**folder[1].models, "GPT2-XL": STUDY.models["GPT2-XL"]})
    assert set(refused(beside(other))["dataset"]) == set(FILES)


def test_an_editor_that_the_tables_do_not_have_gets_nothing(beside):
    labels = {"method": "memit", "second_edit": "multi_label", "labels": 3}
    table, notes = beside(editors={**EDITORS, "memit_mle": labels, "ft": {"method": "grace"}})
    assert set(table["editor"]) == {"rome", "memit"}
    assert set(notes.loc[notes["about"] == NOTHING, "editor"]) == {"ft", "memit_mle"}


def test_a_run_without_a_value_keeps_its_cell(beside):
    nothing = simulated_run("gpt2-xl", datasets=("coverage",))
    table, _ = beside(of=replace(nothing, runs=[run_of("reverse", model="gpt2-xl")]))
    assert len(table) == 3
    assert table["value"].isna().all()
    assert (table["n"] == 0).all()
    assert beside(of=replace(nothing, summary=SUMMARY.empty(), runs=[]))[0].empty
