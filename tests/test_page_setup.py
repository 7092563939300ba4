"""Remarks at the top of the page on how models and methods were set up."""

import json
from pathlib import Path

from aftershock.page.weights import dequantised, read_origin
from aftershock.report import context, page
from pages import MODEL, material

ORIGIN = {"package": "some", "gguf": "small.Q4_1.gguf", "gguf_sha256": "ab12", "quantisation": "Q4_1"}


def test_a_model_that_was_dequantised_is_named_with_its_file() -> None:
    (line,) = dequantised("small", ORIGIN)
    assert line.startswith("small: weights dequantised from Q4_1 (small.Q4_1.gguf, sha256 ab12) to float32.")
    assert dequantised("large", {"hub": "o/n", "commit": "ab"}) == []
    assert dequantised("trained", {}) == []
    said = context(material(origins={"small": ORIGIN, "large": {"hub": "o/n"}}))["missed"]
    assert [text for text in said if "dequantised" in text] == [line]


def test_the_origin_of_a_copied_folder_is_that_of_the_folder(tmp_path: Path) -> None:
    for name, contents in (("first", ORIGIN), ("copy", {"path": str(tmp_path / "first")})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "provenance.json").write_text(json.dumps(contents))
    assert read_origin(tmp_path / "first") == ORIGIN
    assert read_origin(tmp_path / "copy")["quantisation"] == "Q4_1"
    assert read_origin(tmp_path / "none") == {}
    (tmp_path / "first" / "provenance.json").unlink()
    assert read_origin(tmp_path / "copy") == {"path": str(tmp_path / "first")}


def test_a_method_that_is_not_set_up_stands_at_the_top() -> None:
    made = material()
    assert not [line for line in context(made)["missed"] if "Not set up" in line]
    weak = {key: rows.assign(success=0.1) for key, rows in made.trials.items()}
    (line,) = (line for line in context(material(trials=weak))["missed"] if "Not set up" in line)
    assert f"rome on {MODEL}" in line


def test_the_page_says_what_texts_begin_with_and_warns():
    found = {"document_token": "auto", "begins_with": [], "first_token": 130.0}
    text = page(material(beginnings={MODEL: found}))
    assert "What the model reads has nothing in front, document_token: auto." in text
    assert "the first position of a text is an attention sink" in text
    behind = found | {"document_token": "<b>", "begins_with": ["<b>"], "first_token": 1.5}
    text = page(material(beginnings={MODEL: behind}))
    assert "&lt;b&gt; in front" in text
    assert "attention sink" not in text
    assert "What the model reads has" not in page(material())
