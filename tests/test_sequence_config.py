"""Plans of edits in the configuration: what is wrong is said before any job starts."""

import json
from pathlib import Path

import pytest
import yaml

from aftershock.config import check_config
from aftershock.config.sequences import editors_of_plan, plans_of, tasks_of_plan
from small_project import CONFIG, errors

ROWS = [
    {"subject": name, "prompt": f"The home of {name} is", "target_new": "Oslo"}
    for name in ("Ann", "Bo", "Cy", "Ann")
]
FILE = {"source": "flat", "file": "edits.json"}
NONE = {"kg": "none", "kgs": {"none": {"source": "none"}}, "datasets": [], "models": ["given"]}
GIVEN = "source: {path: somewhere}\nn_layers: 2\nmodel_type: gpt2\n"


@pytest.fixture
def project(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (project / "edits.json").write_text(json.dumps(ROWS))
    (project / "resources" / "tasks" / "suites").mkdir(parents=True)
    (project / "resources" / "tasks" / "copying.yaml").write_text("kind: choice\n")
    monkeypatch.chdir(project)
    return project


def plan(**changes) -> dict:
    return {"edits": FILE, "checkpoints": [0, 1, 3], **changes}


def faults(project: Path, **changes) -> list[str]:
    found = errors(project, sequences={"p": plan(**changes)})
    return [line for line in found if line.startswith("sequences")]


def test_a_sound_plan_and_its_defaults(project):
    config = yaml.safe_load(CONFIG) | {"sequences": {"p": plan(), "left": None}}
    check_config(config, project)
    (found,) = plans_of(config).values()
    defaults = {"mode": "sequential", "batch": 1, "orders": [0], "repeats": "drop"}
    assert {name: found[name] for name in defaults} == defaults
    assert found["edits"]["broken"] == "refuse"
    assert editors_of_plan(config, found) == ["rome", "memit"]  # mle restores by several objects, ft is null
    assert tasks_of_plan(config, found) == config["abilities"]["tasks"] == []


COVERAGE = {"datasets": ["coverage"]}
AMONG = {**COVERAGE, "after": [0]}
BY_DATASET = {"source": "conflict_edit", "dataset": "reverse"}
ZSRE = {"source": "zsre", "file": "edits.json"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"checkpoints": [0, 3, 2]}, "checkpoints: 2 comes after 3; they must increase"),
        ({"checkpoints": [0, 4]}, "edits.json: the last checkpoint asks for 4 edits, and there are 3"),
        ({"checkpoints": [0, 5], "repeats": "keep"}, "asks for 5 edits, and there are 4"),
        ({"batch": 2, "checkpoints": [0, 3]}, "3 is inside a batch of 2 edits"),
        ({"batch": "al"}, "batch: found 'al'; expected edits that are made together"),
        ({"mode": "singel"}, "mode: 'singel' is unknown; did you mean 'single'"),
        ({"editors": ["roem"]}, "editors: 'roem' is unknown; did you mean 'rome'"),
        ({"editors": ["mle"]}, "editors: 'mle' differs in how round cases are restored"),
        ({"kg": "tooy"}, "kg: 'tooy' is unknown; did you mean 'toy'"),
        ({"tasks": ["copyin"]}, "tasks: 'copyin' has no file in resources/tasks/; did you mean 'copying'"),
        ({"cases": {"datasets": ["reverse"]}}, "cases.datasets: 'reverse' is not among this run's datasets"),
        ({"cases": {**COVERAGE, "before": [2]}}, "cases.before: 2 is not among the plan's checkpoints"),
        ({"cases": COVERAGE}, "cases: say how many edits come before, between or after"),
        ({"cases": AMONG, "mode": "single"}, "one after another; it needs mode: sequential"),
        ({"edits": {"source": "flat", "file": "gone.json"}}, "edits.file: there is no 'gone.json'"),
        ({"edits": ZSRE}, "edits.target: missing"),
        (
            {"edits": {**ZSRE, "target": "alt"}},
            "none of 4 rows is of the format 'zsre'; row 0 lacks answers; they look like source: flat",
        ),
        ({"edits": FILE | {"cycle": True}}, "edits.cycle: all that is read again is a repeat"),
        ({"edits": {"source": "graph", "file": "x"}}, "edits.file: unknown key"),
        ({"edits": {"source": "conflict_edit"}}, "edits: exactly one of file or dataset is needed"),
        ({"edits": BY_DATASET}, "edits.dataset: 'reverse' is not among this run's datasets"),
    ],
)
def test_faults_of_plans(project, changes, expected):
    found = faults(project, **changes)
    assert any(line.startswith("sequences.p.") and expected in line for line in found), found


def test_broken_rows_are_told_before_any_job(project):
    (project / "edits.json").write_text(json.dumps([*ROWS, {"subject": "Di"}, 3]))
    (found,) = faults(project)
    assert (
        "2 of 6 rows cannot be read (counted from 0): row 4 lacks prompt; row 5 is 3, not an object" in found
    )
    config = yaml.safe_load(CONFIG) | {"sequences": {"p": plan(edits=FILE | {"broken": "skip"})}}
    check_config(config, project)


def test_a_file_is_not_read_again_once_its_edits_are_listed(project):
    (project / "edits.json").unlink()
    listed = project / "results" / "toy" / "tiny" / "sequences" / "p"
    listed.mkdir(parents=True)
    (listed / "edits.parquet").write_text("")
    check_config(yaml.safe_load(CONFIG) | {"sequences": {"p": plan()}}, project)


@pytest.mark.parametrize("name", ["sequences", "tasks", "report"])
def test_reserved_names_of_plans(project, name):
    assert f"sequences.{name}: {name!r} is a reserved name" in "\n".join(
        errors(project, sequences={name: plan()})
    )


# --- runs without a graph ----------------------------------------------------------------------------------
def without_graph(project: Path, **changes) -> dict:
    (project / "resources" / "models" / "given.yaml").write_text(GIVEN)
    (project / "somewhere").mkdir()
    (project / "somewhere" / "config.json").write_text("{}")
    return yaml.safe_load(CONFIG) | NONE | {"sequences": {"p": plan()}} | changes


def test_a_run_that_only_reads_edits_needs_no_graph(project):
    check_config(without_graph(project), project)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (COVERAGE, "datasets: kgs.none is none, of which no dataset is made; write datasets: []"),
        ({"sequences": {}}, "datasets: there is none, and no plan under `sequences` either"),
        (
            {"sequences": {"p": plan(edits={"source": "graph"})}},
            "sequences.p.edits.source: this run has no graph; take edits from a file",
        ),
        (
            {"editors": {"mend": {"method": "mend"}}},
            "mend.kg: kgs.none has no train split; editors.mend needs a graph that is mined",
        ),
        ({"kgs": {"none": {"source": "none", "namespace": "world"}}}, "kgs.none.namespace: unknown key"),
        ({"kgs": {"none": {"source": "generated", "file": "x"}}}, "kgs.none.namespace: missing"),
    ],
)
def test_faults_of_runs_without_a_graph(project, changes, expected):
    config = without_graph(project)
    found = errors(project, **(config | changes))
    assert any(line.startswith(expected) for line in found), found


def test_a_value_of_no_allowed_kind_is_an_error_and_no_traceback(project):
    found = errors(project, editors={"m": {"method": "memit", "second_edit": "multi_label", "labels": -1}})
    assert found == [
        next(line for line in found if line.startswith("editors.m.labels: found -1; expected what"))
    ]


def test_switches_are_between_what_the_run_has(project):
    given = {"editors": ["rome", "memit"], "plans": ["p", "q"], "tasks": ["copyin", "copying"]}
    found = errors(
        project,
        sequences={"p": plan(tasks=["copying"])},
        abilities={"switches": {kind: {kind: names} for kind, names in given.items()}},
    )
    found = [line for line in found if line.startswith("abilities.switches")]
    assert [line.partition(";")[0] for line in found] == [
        "abilities.switches.plans.plans: 'q' is none of this run's plans",
        "abilities.switches.tasks.tasks: 'copyin' is none of this run's tasks",
    ]
