"""Configurations ask for what a run's stages use and for nothing else, and null takes any entry out."""

import copy
import json
from collections.abc import Iterator, Mapping
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import yaml

from aftershock.config import check_config
from aftershock.kg.plan import read_study
from aftershock.schema import faults, fill_defaults, read_schema
from small_project import CONFIG, MODEL, errors

FROM_FILE = {"edits": {"source": "flat", "file": "edits.json"}, "checkpoints": [0, 1], "editors": ["rome"]}
GRAPH = {"source": "ntriples", "namespace": "wikidata", "file": "gone.nt"}
GIVEN = "source: {hub: o/n, revision: abc}\nn_layers: 2\nmodel_type: gpt2\n"


@pytest.fixture
def project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (project / "resources" / "models" / "given.yaml").write_text(GIVEN)
    (project / "resources" / "tasks" / "suites").mkdir(parents=True)
    edit = {"subject": "Ann", "prompt": "The home of Ann is", "target_new": "Oslo"}
    (project / "edits.json").write_text(json.dumps([edit]))
    monkeypatch.chdir(project)
    return project


def checked(project: Path, **changes: Any) -> dict[str, Any]:
    """Return the configuration after it was checked without an error."""
    config = {**yaml.safe_load(CONFIG), **changes}
    check_config(config, project)
    return config


def test_an_editor_that_no_dataset_and_no_plan_uses_is_left_out(project: Path) -> None:
    editors = yaml.safe_load(CONFIG)["editors"]
    planned = {"datasets": [], "models": ["given"], "sequences": {"p": FROM_FILE}}
    for changes, used in (
        ({"datasets": ["coverage"]}, ["rome", "memit"]),
        ({"datasets": ["round_easy"]}, ["rome", "memit", "mle"]),
        (planned, ["rome"]),
    ):
        found = checked(project, editors=copy.deepcopy(editors), **changes)["editors"]
        assert [label for label, editor in found.items() if editor] == used


@pytest.mark.parametrize(
    "editor", [{"method": "gone.py"}, {"method": "roem"}, {"method": "rome", "settings": {"layrs": 1}}, {}]
)
def test_an_editor_that_is_not_used_may_lack_what_it_would_need(project: Path, editor: dict) -> None:
    editors = {"rome": {"method": "rome"}, "other": {**editor, "second_edit": "multi_label"}}
    assert checked(project, datasets=["coverage"], editors=editors)["editors"]["other"] is None
    (found,) = errors(project, datasets=["coverage", "round_easy"], editors=editors)
    assert "editors.other." in found


def test_an_editor_whose_settings_another_takes_over_is_used(project: Path) -> None:
    editors = {"memit": {"method": "memit"}, "like": {"method": "memit", "tuned_as": "memit"}}
    plans = {"p": {**FROM_FILE, "editors": ["like"]}}
    assert all(checked(project, datasets=[], editors=editors, sequences=plans)["editors"].values())


def test_a_model_that_no_plan_edits_is_not_asked_for(project: Path) -> None:
    plans = {"p": {**FROM_FILE, "models": ["given"]}}
    changes = {"models": ["given", "gone"], "sequences": plans}
    assert checked(project, datasets=[], **changes)["models"] == ["given"]
    (found,) = errors(project, **changes)
    assert found.startswith("models: 'gone' has no file resources/models/gone.yaml")


def lacking_graph(**changes: Any) -> dict[str, Any]:
    """Return a configuration whose own graph is nowhere, and whose edits are those of a file."""
    run = {"kg": "own", "kgs": {"own": GRAPH}, "datasets": [], "models": ["given"]}
    return {**yaml.safe_load(CONFIG), **run, "sequences": {"p": FROM_FILE}, **changes}


@pytest.mark.parametrize("lacking", [{}, {"screen": {"words": "gone.txt"}}])
def test_a_run_on_edits_from_a_file_reads_no_graph(project: Path, lacking: dict[str, Any]) -> None:
    check_config(lacking_graph(**lacking), project)


@pytest.mark.parametrize(
    "changes",
    [
        {"sequences": {"p": {**FROM_FILE, "edits": {"source": "graph"}}}},
        {"datasets": ["coverage"]},
        {"editors": {"rome": {"method": "mend"}}},
        {"editors": {"rome": {"method": "grace"}}, "tuning": {"trials": 3}, "models": ["searched"]},
        {"abilities": {"tasks": ["of_graph"]}},
    ],
)
def test_what_is_made_of_the_graph_asks_for_it(project: Path, changes: dict[str, Any]) -> None:
    (project / "resources/models/searched.yaml").write_text(f"{GIVEN}search: {{grace: {{eps: [1.0]}}}}\n")
    task = {"title": "t", "kind": "choice", "metrics": ["acc"], "source": "world", "prepare": "a:b"}
    (project / "resources/tasks/of_graph.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(ValueError, match=r"kgs\.own\.file: there is no 'gone\.nt'"):
        check_config(lacking_graph(**changes), project)


MEND, SERAC = ({"editors": {"one": {"method": method}}} for method in ("mend", "serac"))
COVERAGE = {"datasets": ["coverage"]}
UNUSED = {"datasets": ["round_easy"], "cases": {"locality_file": "gone.json"}}
RANKED = {"paraphrases": {"ranking_model": "gone"}}
WRITTEN = {"paraphrases": {"backend": "local", "model": "given", "ranking_model": "gone"}}
GONE_EDITS = {"edits": {"source": "flat", "file": "gone.json"}}


@pytest.mark.parametrize(
    ("changes", "needed_by", "said"),
    [
        ({"mend": {"locality_file": "gone.json"}}, MEND, "mend.locality_file: there is no 'gone.json'"),
        ({"mend": GONE_EDITS}, MEND, "mend.edits.file: there is no 'gone.json'"),
        ({"mend": {"kg": "gone"}}, SERAC, "mend.kg: 'gone' is unknown"),
        (UNUSED, COVERAGE, "cases.locality_file: there is no 'gone.json'"),
        (RANKED, WRITTEN, "paraphrases.ranking_model:"),
    ],
)
def test_what_only_some_use_is_asked_for_where_they_do(project: Path, changes, needed_by, said: str) -> None:
    checked(project, **copy.deepcopy(changes))
    (found,) = errors(project, **copy.deepcopy({**changes, **needed_by}))
    assert found.startswith(said)


# --- null ---------------------------------------------------------------------------------------------------
def mappings(schema, root, path=()):
    """Yield the paths of all mappings in which a user chooses names, `*` for a name, and their entries."""
    schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema
    entries = schema.get("additionalProperties")
    if isinstance(entries, dict):
        yield path, entries
        yield from mappings(entries, root, (*path, "*"))
    for key, part in schema.get("properties", {}).items():
        yield from mappings(part, root, (*path, key))
    for part in schema.get("oneOf", ()):
        yield from mappings(part, root, path)


OPEN = {
    "config": {
        *("kgs", "editors", "sequences", "gpus", "engine.device_map", "cases.object_counts"),
        *("abilities.switches", "abilities.switches.*"),
    },
    "model": {"editors", "search", "search.*"},
}
"""Mappings in which a user chooses the names; settings of methods and trainings have null as a value."""


@pytest.mark.parametrize("name", ["config", "model"])
def test_all_mappings_with_names_of_a_users_are_tried_below(name: str) -> None:
    schema = read_schema(name)
    found = {".".join(path) for path, _ in mappings(schema, schema)}
    assert found == OPEN[name]


FULL = {
    "kgs": {"toy": {"source": "generated", "namespace": "world", "file": "a", "seed": 3}},
    "editors": {"rome": {"method": "rome", "second_edit": "multi_label", "labels": 3}},
    "sequences": {"p": {**FROM_FILE, "mode": "single", "orders": [1]}},
    "gpus": {"h": "h100-80gb"},
    "engine": {"device_map": {"head": 0}},
    "cases": {"object_counts": {"2": 1.0, "3": 2.0}, "quotas": {"test": {"coverage": 3}}, "seed": 3},
    "mining": {"rules": ["P22>P40"], "max_facts": 3},
    "abilities": {
        "tasks": ["a"],
        "switches": {"s": {"editors": ["a", "b"]}},
        "judge": {"base_url": "u", "model": "m", "tasks": ["t"], "key": "K"},
    },
    "paraphrases": {"backend": "openai", "prices": {"input": 1, "output": 2}, "base_url": "http://a"},
    "statistics": {"level": 0.9},
    "screen": {"classifier": {"source": {"hub": "o/n", "revision": "m"}, "label": "toxic"}},
    "mend": {"edits": {"source": "flat", "file": "e.json", "broken": "skip"}},
    "report": {"bars": [{"metric": "m", "dataset": "coverage", "editors": ["rome"], "at_least": 0.5}]},
}
"""A configuration with an entry in every kind of mapping."""


def entries(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path of every entry of every mapping in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if isinstance(value, dict):
            yield (*path, key)
        yield from entries(item, (*path, key))


def without_entry(document: Mapping[str, Any], path: tuple, *value: Any) -> dict[str, Any]:
    """Return the document without the entry at a path, or with another value there."""
    changed = copy.deepcopy(document)
    inner: Any = reduce(getitem, path[:-1], changed)
    del inner[path[-1]]
    if value:
        inner[path[-1]] = value[0]
    return changed


@pytest.mark.parametrize("path", list(entries(FULL)), ids=lambda path: ".".join(map(str, path)))
def test_null_is_as_if_the_entry_were_not_there(path: tuple) -> None:
    schema = read_schema("config")
    absent, null = without_entry(FULL, path), without_entry(FULL, path, None)
    for document in (absent, null):
        fill_defaults(document, schema)
    found: Any = reduce(getitem, path[:-1], null)
    if path[-1] in found and found[path[-1]] is None:  # null is a value of its own there, or the default
        assert not [fault for fault in faults(null, schema) if fault.path == path]
    else:
        assert null == absent


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"kgs": {"more": GRAPH}}, {"kgs": {"more": None}}),
        ({"editors": {"more": {"method": "ft"}}}, {"editors": {"more": None}}),
        ({"sequences": {"more": FROM_FILE}}, {"sequences": {"more": None}}),
        ({"gpus": {"a": "h100-80gb"}}, {"gpus": {"a": None}}),
        ({"cases": {"quotas": {"dev": {"reverse": 9}}}}, {"cases": {"quotas": {"dev": {"reverse": None}}}}),
        ({"mining": {"rules": ["P22>P40"]}}, {"mining": {"rules": None}}),
        ({"abilities": {"tasks": ["boolq"]}}, {"abilities": {"tasks": None}}),
        ({"statistics": {"level": 0.5}}, {"statistics": {"level": None}}),
        ({"statistics": {"level": 0.5}}, {"statistics": None}),
    ],
)
def test_a_second_file_takes_out_what_a_first_has(tmp_path: Path, first: dict, second: dict) -> None:
    for name, content in (("first", first), ("second", second)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    found = read_study([tmp_path / "first.yaml", tmp_path / "second.yaml"])
    (key,) = first
    expected = read_study([])[key]  # all that config.yaml has of statistics are defaults
    if key in ("editors", "sequences"):
        assert found[key].pop("more") is None
    if key == "abilities":
        expected["tasks"] = []
    assert found[key] == expected


def test_null_in_a_models_file_takes_an_entry_out(project: Path) -> None:
    text = f"{MODEL}mend: null\nmoments: null\nserac: {{}}\n".replace(
        "editors: {rome: {layers: [0], lr: 0.1}}", "editors: {rome: null, memit: {norm_anchor: null}}"
    ).replace("lr: [0.1, 0.5]", "lr: null")
    (project / "resources" / "models" / "tiny.yaml").write_text(text)
    models = check_config(yaml.safe_load(CONFIG), project)
    assert models["tiny"]["editors"] == {"memit": {"norm_anchor": None}}
    assert models["tiny"]["search"] == {"rome": {"layers": [[0], [1]]}}
    assert models["tiny"]["mend"] == {}
    assert models["tiny"]["moments"]["documents"] == 100_000


def test_a_key_that_is_unknown_is_one_with_null_too(project: Path) -> None:
    assert errors(project, minning=None)[0].startswith("minning: unknown key; did you mean 'mining'")
