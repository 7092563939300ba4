"""Model files from a folder."""

import pytest

from aftershock.lm.fetch import fetch


def test_a_folder_is_copied_without_anything_that_could_run(tmp_path):
    model, into = tmp_path / "model", tmp_path / "into"
    model.mkdir()
    into.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin", "modeling.py"):
        (model / name).write_text("{}")
    fetch({"path": str(model)}, into)
    assert sorted(file.name for file in into.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]


def test_a_folder_without_safetensors_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "into").mkdir()
    with pytest.raises(ValueError, match="holds no safetensors"):
        fetch({"path": str(tmp_path)}, tmp_path / "into")


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"is not a model folder: it has no config\.json"):
        fetch({"path": str(tmp_path)}, tmp_path)
