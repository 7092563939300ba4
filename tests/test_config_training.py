"""Bad regularisers of editors and bad settings of their training, found before a job starts."""

import json
import re
from pathlib import Path

import yaml

from aftershock.config import check_config
from aftershock.editors.mend import mend_training
from small_project import CONFIG, MODEL, errors


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


MEND = {"a": {"method": "mend", "settings": {"layers": [0, 1]}}}


def test_mend_is_trained_with_the_models_settings_and_the_runs(project: Path) -> None:
    (project / "resources" / "models" / "tiny.yaml").write_text(MODEL + "mend: {lr: 0.01, rank: 8}\n")
    changes = {"editors": {"mend": {"method": "mend"}}, "mend": {"settings": {"rank": 4}}}
    config = yaml.safe_load(CONFIG) | changes
    models = check_config(config, project)
    assert (config["mend"]["kinds"], config["mend"]["locality_file"]) == ("all", None)
    found = mend_training(models["tiny"]["mend"], config["mend"]["settings"])
    assert (found.lr, found.rank, found.cedit) == (0.01, 4, 0.1)


def test_what_hinders_mends_training_is_said_at_once(project: Path) -> None:
    (project / "resources" / "models" / "tiny.yaml").write_text(MODEL + "mend: {lrr: 0.01}\n")
    found = errors(
        project,
        editors={**MEND, "b": {"method": "mend", "settings": {"layers": [1]}}},
        mend={"settings": {"steps": 0}},
    )
    for line in (
        "mend.settings.steps: Input should be greater than or equal to 1, found 0",
        "editors: a, b share tiny's hypernetwork, so they need the same layers",
        "resources/models/tiny.yaml: mend.lrr: unknown setting; did you mean 'lr'?",
    ):
        assert any(said.startswith(line) for said in found), (line, found)


def test_published_files_have_no_split_to_train_mend_on(project: Path) -> None:
    (project / "elsewhere").mkdir()
    changes = {"kgs": yaml.safe_load(CONFIG)["kgs"], "kg": "theirs", "editors": MEND}
    changes["kgs"]["theirs"]["folder"] = str(project / "elsewhere")
    (line,) = errors(project, **changes)
    said = "mend.kg: published files have no train split; editors.a needs a graph that is mined, or a file"
    assert line.startswith(said)
    check_config({**yaml.safe_load(CONFIG), **changes, "mend": {"kg": "toy"}}, project)
    row = {"subject": "Ann", "src": "Where is Ann?", "alt": "Rome", "answers": ["Oslo"]}
    (project / "zsre.json").write_text(json.dumps([row]), encoding="utf-8")
    learnt = {"edits": {"source": "zsre", "file": str(project / "zsre.json"), "target": "alt"}}
    check_config({**yaml.safe_load(CONFIG), **changes, "mend": learnt}, project)
    assert errors(project, **{**changes, "mend": {**learnt, "kg": "toy", "kinds": "separate"}}) == [
        "mend: kg names a graph to train on and edits a file; leave one of them out",
        "mend.kinds: separate needs a graph; edits of a file are of one kind",
    ]


def test_edits_to_train_on_are_read_before_a_job_starts(project: Path) -> None:
    rows = [{"subject": "Ann", "prompt": "Ann is", "target_new": new} for new in ("kind", "")]
    (project / "edits.json").write_text(json.dumps(rows))
    source = {"source": "flat", "file": str(project / "edits.json")}
    (line,) = errors(project, editors=MEND, mend={"edits": source})
    assert re.match(r"mend\.edits\.file: .*edits\.json: 1 of 2 rows cannot be read .*row 1: target_new", line)
    skipping = {"editors": MEND, "mend": {"edits": {**source, "broken": "skip"}}}
    check_config({**yaml.safe_load(CONFIG), **skipping}, project)
