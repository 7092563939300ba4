"""Texts of a file that an edit should leave alone: drawn for coverage, asked as they stand, measured."""

import pandas as pd
import pytest

from aftershock.datasets.locality import texts_to_ask, texts_to_learn
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
from test_locality_records import record, written
from tiny import CITIES, NAMES, tiny


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
