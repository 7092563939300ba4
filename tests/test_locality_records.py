"""Records of locality files: of both published forms, with fields of every type."""

import json

import pytest

from aftershock.datasets.locality import read_locality


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
