"""Texts of a file that an edit should leave alone: its records, drawn for coverage, asked as they stand."""

import json

import pandas as pd
import pytest

from aftershock.datasets.locality import read_locality, texts_to_ask, texts_to_learn
from aftershock.datasets.probes import TEXTS
from aftershock.experiments.cases import score_unedited
from aftershock.experiments.queries import list_prompts
from aftershock.metrics.run import score_cases
from aftershock.tables.cases import PROBES
from aftershock.tables.graph import PROMPTS
from aftershock.tables.runs import OBSERVATIONS
from families import dataset_of
from graphs import rows_of
from simulate import Behaviour, simulate
from tiny import CITIES, NAMES, tiny


def written(path, records):
    path.write_text(json.dumps(records), encoding="utf-8")
    return path


def record(subject: str, prompts: list[str], answer: str) -> dict:
    rewrite = {"prompt": "{} is", "subject": subject, "target_true": {"str": answer}}
    return {"requested_rewrite": rewrite, "neighborhood_prompts": prompts}


FLAT_RECORD = {"subject": "Ada", "locality_prompt": "Oslo is in", "locality_ground_truth": "Norway"}
OTHERS = {
    "null": None,
    "number": 7,
    "true": True,
    "object": {"a": 1},
    "list of numbers": [1],
    "nested": [["a"]],
}


def changed(given: dict, field: str, value) -> dict:
    """A copy of a record in which a field, which may lie within another, has another value."""
    first, _, rest = field.partition(".")
    return {**given, first: changed(given[first], rest, value) if rest else value}


def texts_of(tmp_path, *records) -> list[tuple[str, str, str]]:
    found = read_locality(written(tmp_path / "texts.json", list(records)), "cases.locality_file texts.json")
    return list(found[["subject", "prompt", "target"]].itertuples(index=False, name=None))


GOOD = record("Ada", ["Oslo lies in", "Rome lies in"], "Oz")


@pytest.mark.parametrize("name", [*OTHERS, "text", "empty list"])
@pytest.mark.parametrize(
    ("given", "field"),
    [
        (GOOD, "requested_rewrite"),
        (GOOD, "requested_rewrite.subject"),
        (GOOD, "requested_rewrite.target_true"),
        (GOOD, "requested_rewrite.target_true.str"),
        (GOOD, "neighborhood_prompts"),
        (FLAT_RECORD, "subject"),
        (FLAT_RECORD, "locality_prompt"),
        (FLAT_RECORD, "locality_ground_truth"),
    ],
)
def test_a_field_of_any_other_type_is_read_as_what_it_means_or_named(tmp_path, given, field, name) -> None:
    value = {**OTHERS, "text": "Wien", "empty list": []}[name]
    plain, record_ = texts_of(tmp_path, given), changed(given, field, value)
    texts = [f"requested_rewrite.{name}" for name in ("subject", "target_true", "target_true.str")]
    if name == "text" and field in (*texts, "subject", "locality_prompt", "locality_ground_truth"):
        place = {"subject": 0, "locality_prompt": 1}.get(field.rpartition(".")[2], 2)
        wanted = [(*row[:place], "Wien", *row[place + 1 :]) for row in plain]
        assert texts_of(tmp_path, record_) == wanted
    elif field in ("neighborhood_prompts", "locality_prompt") and name in ("null", "empty list"):
        assert texts_of(tmp_path, given, record_) == plain
    else:
        first = field.split(".")[0]
        said = rf"cases\.locality_file texts\.json: 1 of 2 records cannot be read: record 1.*{first}"
        with pytest.raises(ValueError, match=said):
            texts_of(tmp_path, given, record_)


def test_lists_of_texts_go_with_lists_of_answers(tmp_path) -> None:
    many = {"locality_prompt": ["a is", "b is"], "locality_ground_truth": ["A", "B"], "subject": "S"}
    assert texts_of(tmp_path, many) == [("S", "a is", "A"), ("S", "b is", "B")]
    assert texts_of(tmp_path, {**many, "locality_ground_truth": "C"})[1] == ("S", "b is", "C")
    one = {**FLAT_RECORD, "locality_ground_truth": ["Norway"]}
    assert texts_of(tmp_path, one) == texts_of(tmp_path, FLAT_RECORD)
    with pytest.raises(ValueError, match="record 0: locality_prompt has 2 texts, locality_ground_truth 1"):
        texts_of(tmp_path, {**many, "locality_ground_truth": ["A"]})


def test_all_bad_records_are_listed_at_once(tmp_path) -> None:
    bad = [changed(GOOD, "neighborhood_prompts", value) for value in ("Oslo lies in", [None], ["ok", " "])]
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        texts_of(tmp_path, bad[0], GOOD, bad[1], bad[2], *[None] * 6)
    said = str(caught.value)
    assert "9 of 10 records cannot be read" in said
    assert 'record 0: neighborhood_prompts is "Oslo lies in", not a list of texts' in said
    assert "record 2: neighborhood_prompts[0] is null, not a text" in said
    assert 'record 3: neighborhood_prompts[1] is " ", not a text' in said
    assert "record 4 is null, not an object" in said
    assert "and 4 others" in said


@pytest.fixture
def file(tmp_path):
    """Sixty subjects, each with two texts, one of which stands twice."""
    texts = ["Town {0} {{lies}} in", "River {0} flows through", "River {0} flows through"]
    records = [record(f"S{i}", [text.format(i) for text in texts], "Oz") for i in range(60)]
    return written(tmp_path / "texts.json", records)


def test_what_is_asked_was_never_learned(file):
    learned, asked = texts_to_learn(file), texts_to_ask(file)
    assert set(learned["split"]) == {"train", "dev"}
    assert set(asked["split"]) == {"test"}
    assert not set(learned["prompt"]) & set(asked["prompt"])
    assert set(learned["subject"]) | set(asked["subject"]) == {f"S{i}" for i in range(60)}
    assert not asked.duplicated(["prompt", "target"]).any()
    assert len(asked) == 2 * asked["subject"].nunique()


def test_too_few_subjects_are_refused_by_the_name_of_the_setting(tmp_path, file):
    subject = texts_to_learn(file)["subject"].iloc[0]  # which is in another split than test
    path = written(tmp_path / "one.json", [record(subject, ["Town lies in"], "Oz")])
    said = r"cases\.locality_file .*one\.json has too few subjects for split 'test'"
    with pytest.raises(ValueError, match=said):
        texts_to_ask(path)


def test_test_cases_of_coverage_get_texts_and_are_otherwise_the_same(graph, file):
    texts = texts_to_ask(file)
    plain = dataset_of("coverage", *graph)
    given = dataset_of("coverage", *graph, texts=texts)
    PROBES.check(given.probes)
    pd.testing.assert_frame_equal(given.cases, plain.cases)
    pd.testing.assert_frame_equal(given.edits, plain.edits)
    more = given.probes[given.probes["role"] == "locality_text"]
    rest = given.probes[given.probes["role"] != "locality_text"].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, plain.probes)
    test = plain.cases.loc[plain.cases["split"] == "test", "case_id"]
    assert more.groupby("case_id").size().to_dict() == dict.fromkeys(test, TEXTS)
    assert set(more["relation_id"]) == {"text"}
    assert set(more["prompts"]) == {"edit"}
    assert rows_of(more, "subject", "object") <= rows_of(texts, "prompt", "target")
    assert more.groupby("case_id")["subject"].nunique().eq(TEXTS).all()
    assert more["subject"].nunique() > TEXTS  # not the same ones for each case
    again = dataset_of("coverage", *graph, texts=texts)
    pd.testing.assert_frame_equal(again.probes, given.probes)


@pytest.mark.parametrize("dataset", ["reverse", "composite", "round_easy"])
def test_other_datasets_get_no_text(graph, file, dataset):
    given, plain = dataset_of(dataset, *graph, texts=texts_to_ask(file)), dataset_of(dataset, *graph)
    pd.testing.assert_frame_equal(given.probes, plain.probes)


def test_a_text_that_names_the_edited_subject_is_passed_over(graph):
    plain = dataset_of("coverage", *graph)
    first = plain.edits[plain.edits["edit"] == "e1"].set_index("case_id")
    names = first["subject"]
    rows = [("test", "", "", f"As {name.upper()} said, rain falls in", "May") for name in names]
    texts = pd.DataFrame(rows, columns=["split", "subject", "relation_id", "prompt", "target"])
    given = dataset_of("coverage", *graph, texts=texts)
    more = given.probes[given.probes["role"] == "locality_text"]
    assert len(more)
    for row in more.itertuples():
        assert names[row.case_id].casefold() not in row.subject.casefold()


def test_a_text_is_asked_as_it_stands_whatever_it_holds():
    text = f"{NAMES[0]} {{}} says that {NAMES[1]} lives in"
    rows = [
        (0, "old", 0, 0, "E1", NAMES[0], "R1", "E2", CITIES[0], "edit"),
        (0, "locality_text", 0, 1, "text 0", text, "text", "answer 0", CITIES[1], "edit"),
    ]
    probes = pd.DataFrame(rows, columns=list(PROBES.columns))
    prompts = pd.DataFrame([("R1", 0, "{} lives in", "sheet")], columns=list(PROMPTS.columns))
    asked = list_prompts(probes, prompts)[0]
    assert [(a.prompt, a.target) for a in asked] == [(f"{NAMES[0]} lives in", CITIES[0]), (text, CITIES[1])]
    found = score_unedited(tiny(), probes, prompts)
    OBSERVATIONS.check(found)
    assert set(found["probe_id"]) == {0, 1}


def test_texts_are_measured_only_where_there_are_any():
    found = []
    for texts in (0, 3):
        sim = simulate("coverage", 6, editors={"editor": Behaviour(spill=-5.0)}, texts=texts)
        shards = {"00000-00007": sim.observations["editor"]}
        given = sim.cases, sim.probes, sim.unedited, shards, sim.telemetry["editor"], "coverage", list(shards)
        found.append(score_cases(*given).scores)
    names = "kept", "token_accuracy", "token_accuracy_before", "log_ratio"
    ours = {f"single_texts_{name}" for name in names}
    assert set(found[1]["metric"]) - set(found[0]["metric"]) == ours
    assert not ours & set(found[0]["metric"])
    change = found[1].loc[found[1]["metric"] == "single_texts_log_ratio", "value"]
    assert (change < 0).all()
