"""A study on published files: their rows become cases, and a model is asked what they presume."""

import pytest

from aftershock.datasets.graph_facts import Context, FactIndex
from aftershock.datasets.released import read_cases
from aftershock.datasets.released_study import Folder, build_released
from aftershock.datasets.statements import cases_of
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.datasets.validate import findings
from aftershock.report import Material, page
from aftershock.tables.cases import CASES, EDITS, PROBES
from aftershock.tables.models import OBJECT_SCORES, VERIFIED
from aftershock.tables.report import RECALL_SUMMARY, SUMMARY
from families import SHEET
from published import RELEASED, composite, needs_released, several, write
from simulate import run_of
from tiers import some


def test_a_published_prompt_without_a_slot_is_named(tmp_path):
    row = several()
    row["edit"]["relation"]["prompt"] = "studied at"
    write(tmp_path / "easy.json", [row])
    write(tmp_path / "round_prompts.json", {"P9": ["{} went to"]})
    folder = Folder.read(str(tmp_path), ["round_easy"], 1, 0)
    with pytest.raises(
        ValueError, match=r"relation P9 in round_prompts.json or in a row: template 'studied at'"
    ):
        folder.prompts(str(tmp_path), "round")


def test_a_study_needs_labels(tmp_path):
    row = several()
    row["true_objects"][0]["label"] = " "
    write(tmp_path / "easy.json", [several(), row])
    with pytest.raises(ValueError, match=r"easy\.json: row 1: O2 has an empty label"):
        Folder.read(str(tmp_path), ["round_easy"], 1, 0)


def test_rows_become_the_cases_they_describe(tmp_path):
    write(tmp_path / "composite_edit.json", [composite(True), composite(False)])
    one, other = cases_of("composite", read_cases(tmp_path, "composite"))
    assert one == other
    assert (one.first.subject_id, one.first.old_id, one.first.new_id) == ("Y", "Z", "Z2")
    assert (one.second.subject_id, one.second.old_id, one.second.new_id) == ("X", "Z", "Z3")
    assert one.tied == ("X", "P1", "Y")
    assert one.implicit == ("Y", "P2", "Z3")
    write(tmp_path / "easy.json", [several()])
    (case,) = cases_of("round_easy", read_cases(tmp_path, "round_easy"))
    assert (case.original_id, case.target_id, case.object_ids) == ("O1", "N", ("O2", "O1", "O3"))


@needs_released
@pytest.mark.parametrize("dataset", some(DATASETS, ["composite", "round_easy"]))
def test_published_rows_become_cases(dataset):
    folder = Folder.read(str(RELEASED), [dataset], 20, 0)
    facts, asked = folder.fact_table(), folder.asked()
    verified = asked.assign(continuation="", known=True, probability=1.0)
    objects = folder.asked_objects().assign(probability=0.1, rank=1, known=True, similarity=0.0)
    kind = "conflict" if dataset in CONFLICT else "round"
    texts, measured = folder.prompts(str(RELEASED), kind), folder.relations()
    index = FactIndex.from_frames(facts, verified)
    context = Context.from_frames(index, texts, measured, SHEET.assign(functional="no"), 0.9, 0)
    tables = build_released(dataset, folder, objects, context)
    assert len(CASES.check(tables.cases)) == 20
    assert EDITS.check(tables.edits).num_rows >= 40
    assert PROBES.check(tables.probes).num_rows >= 60


@needs_released
def test_a_sample_says_what_a_model_is_asked():
    folder = Folder.read(str(RELEASED), DATASETS, 50, 0)
    assert all(len(folder.chosen(name)) == 50 for name in DATASETS)
    assert set(folder.asked()["relation_id"]) <= set(folder.prompts(str(RELEASED), "conflict")["relation_id"])
    verified = folder.asked().assign(continuation="", known=True, probability=1.0)
    verified = verified.assign(said=True, rank=1, candidates=1)
    VERIFIED.check(verified[list(VERIFIED.columns)])
    objects = folder.asked_objects().assign(probability=0.1, rank=1, known=True, similarity=0.0)
    OBJECT_SCORES.check(objects[list(OBJECT_SCORES.columns)])
    assert all(name in CONFLICT or folder.chosen(name)[0].object_ids for name in DATASETS)


def test_the_report_shows_what_is_odd_in_the_files(tmp_path):
    row = several()
    row["edit"]["new_object"]["label"] = "80/81"
    write(tmp_path / "easy.json", [several(), row])
    oddities = findings({"round_easy": read_cases(tmp_path, "round_easy")}, {})
    html = page(
        Material("Odd", SUMMARY.empty(), RECALL_SUMMARY.empty(), [run_of("coverage")], oddities=oddities)
    )
    table = html[html.index('"id":"oddities"') :]
    assert table.index('"words":["easy.json"]') < table.index('"label without a letter"]')
