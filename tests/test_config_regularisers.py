"""Bad regularisers of an editor, found before a job starts."""

from pathlib import Path

import pytest

from small_project import errors, write_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return write_project(tmp_path)


def test_regularisers_are_checked_like_settings(project: Path) -> None:
    listed = [
        {"rekt": {}},
        {"rect": {"kep": 3}},
        {"rect": {"keep": 0}},
        {"norm_clamp": {}},
        {"prune": {"function": "log3"}},
        {"rect": {"order": "later"}},
    ]
    found = errors(project, editors={"a": {"method": "memit", "regularisers": listed}})
    for line in (
        "editors.a.regularisers.0: unknown regulariser 'rekt'; did you mean 'rect'?",
        "editors.a.regularisers.1.rect.kep: unknown setting; did you mean 'keep'?",
        "editors.a.regularisers.2.rect.keep: Input should be greater than 0, found 0",
        "editors.a.regularisers.3.norm_clamp.limit: missing",
        "editors.a.regularisers.4.prune.function: Input should be 'log', 'log1_2'",
        "editors.a.regularisers.5.rect.order: Input should be 'post' or 'in_loop', found 'later'",
    ):
        assert any(said.startswith(line) for said in found), (line, found)


def test_each_regulariser_stands_by_itself_in_the_list(project: Path) -> None:
    both = [{"rect": {}, "prune": {}}, "rect"]
    found = errors(project, editors={"a": {"method": "memit", "regularisers": both}})
    assert [line.split(":")[0] for line in found] == [f"editors.a.regularisers.{i}" for i in (0, 1)]
    assert all("one regulariser" in line for line in found)


def test_a_method_without_a_loop_over_layers_regularises_afterwards(project: Path) -> None:
    editors = {
        name: {"method": name, "regularisers": [{"rect": {"order": "in_loop"}}]} for name in ("ft", "memit")
    }
    (line,) = errors(project, editors=editors)
    assert line.startswith("editors.ft.regularisers.0.rect.order: ft computes the changes of all layers")
    assert line.endswith("take order: post")


def test_a_method_that_changes_no_weights_takes_no_regularisers(project: Path) -> None:
    (project / "theirs.py").write_text(NO_WEIGHTS)
    listed = [{"rect": {}}, {"prune": {}}]
    (line,) = errors(project, editors={"a": {"method": str(project / "theirs.py"), "regularisers": listed}})
    assert line.startswith("editors.a.regularisers: an edit by ")
    assert "is no change of weights, and regularisers act on weights" in line


NO_WEIGHTS = """
from pydantic.dataclasses import dataclass
from aftershock.editors.contract import Editor, Method
from aftershock.editors.settings import STRICT, Layers

@dataclass(frozen=True, config=STRICT)
class Settings:
    layers: Layers = (0,)

class Theirs(Editor):
    def edit(self, cases, state=(), memory=None):
        raise NotImplementedError

METHOD = Method(settings=Settings, editor=":Theirs", title="Theirs", in_weights=False)
"""
