"""The plans of edits of a run, and the abilities that are measured along them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from aftershock.datasets.edit_files.choose import choose
from aftershock.datasets.edit_files.reading import read_edits
from aftershock.datasets.table import PLACES
from aftershock.experiments.sequences.plan import SEQUENTIAL, Plan
from aftershock.schema import suggestion

NO_GRAPH = "none"  # as the source of a graph
ALREADY = "results/{kg}/{model}/sequences/{plan}/edits.parquet"


def plans_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the plans of a run by name.

    Those that are null are left out, and those that are made for another graph or for editors that the run
    leaves out, all of them null.
    """
    return {name: plan for name, plan in config.get("sequences", {}).items() if plan and _is_of(config, plan)}


def _is_of(config: Mapping[str, Any], plan: Mapping[str, Any]) -> bool:
    editors = config["editors"]
    wanted = plan["editors"] is None or any(editors.get(label, label) for label in plan["editors"])
    return wanted and plan["kg"] in (None, config.get("kg"))


def editors_of_plan(config: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """Return the labels of a plan's editors: those that it names, else all that make single edits.

    An editor that the run leaves out (null) is left out here too.
    """
    if plan["editors"] is not None:
        return [label for label in plan["editors"] if config["editors"].get(label)]
    return [
        label
        for label, editor in config["editors"].items()
        if editor and editor.get("second_edit", "plain") == "plain"
    ]


def models_of_plan(config: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """Return the models that a plan edits: those that it names, else all of the run."""
    return list(config["models"] if plan["models"] is None else plan["models"])


def tasks_of_plan(config: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    """Return the names of tasks and suites that a plan measures: its own, else those of `abilities`."""
    return list(config.get("abilities", {}).get("tasks", []) if plan["tasks"] is None else plan["tasks"])


def has_graph(config: Mapping[str, Any]) -> bool:
    """Return True if a run is about a graph, and not only about edits from files."""
    return bool(config["kgs"].get(config.get("kg"), {}).get("source") != NO_GRAPH)


def sequence_errors(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """Yield what hinders the plans: contradictions, unknown names, files with too few or broken edits."""
    if not has_graph(config) and config.get("datasets"):
        yield f"datasets: kgs.{config['kg']} is none, of which no dataset is made; write datasets: []"
    yield from _ability_errors(config, folder)
    for name, plan in config.get("sequences", {}).items():
        if plan and plan.get("kg") is not None and plan["kg"] not in config["kgs"]:
            known = suggestion(plan["kg"], config["kgs"])
            yield f"sequences.{name}.kg: {plan['kg']!r} is unknown; {known}"
    for name, plan in plans_of(config).items():
        where = f"sequences.{name}"
        wrong = [f"{where}.{fault}" for fault in Plan.from_config(plan).faults()]
        yield from wrong
        yield from _editor_errors(config, where, plan)
        for model in plan["models"] or ():
            if model not in config["models"]:
                known = suggestion(model, config["models"])
                yield f"{where}.models: {model!r} is not among this run's models; {known}"
        yield from _unknown_tasks(f"{where}.tasks", plan["tasks"] or (), folder)
        yield from _case_errors(config, where, plan)
        yield from _source_errors(config, where, plan)
        if "file" in plan["edits"] and not wrong:
            yield from _file_errors(config, name, plan, folder)


def _ability_errors(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    abilities = config.get("abilities", {})
    yield from _unknown_tasks("abilities.tasks", abilities.get("tasks", ()), folder)
    data = abilities.get("data")
    if data and not Path(data).is_dir() and not (folder / data).is_dir():
        yield (
            f"abilities.data: there is no folder {data!r}; a path is relative to the working directory. Put "
            "the files of tasks there, or take null for the Hugging Face Hub"
        )


def _unknown_tasks(where: str, names: Any, folder: Path) -> Iterator[str]:
    known = {path.stem for path in (folder / "resources" / "tasks").rglob("*.yaml")}
    for name in names:
        if name not in known:
            yield f"{where}: {name!r} has no file in resources/tasks/; {suggestion(name, known)}"


def _editor_errors(config: Mapping[str, Any], where: str, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield editors that are unknown, left out, or made for round cases only."""
    editors = {label: editor for label, editor in config["editors"].items() if editor}
    for label in plan["editors"] or ():
        if label not in config["editors"]:
            yield f"{where}.editors: {label!r} is unknown; {suggestion(label, editors)}"
        elif label in editors and editors[label].get("second_edit", "plain") != "plain":
            yield (
                f"{where}.editors: {label!r} differs in how round cases are restored, and a plan has none; "
                "name the editor that it is like"
            )
    if plan["editors"] is None and editors and not editors_of_plan(config, plan):
        yield f"{where}.editors: none of this run's editors makes single edits"


def _case_errors(config: Mapping[str, Any], where: str, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield cases of datasets that the run has not, and numbers of edits that are no checkpoints."""
    cases = plan["cases"]
    if not cases:
        return
    if plan["mode"] != SEQUENTIAL:
        yield f"{where}.cases: edits among those of a case come one after another; it needs mode: sequential"
    if not any(cases[place] for place in PLACES):
        yield f"{where}.cases: say how many edits come before, between or after those of a case"
    for dataset in cases["datasets"]:
        if dataset not in config.get("datasets", ()):
            known = suggestion(dataset, config.get("datasets", ()))
            yield f"{where}.cases.datasets: {dataset!r} is not among this run's datasets; {known}"
    for key in PLACES:
        for n in cases[key]:
            if n and n not in plan["checkpoints"]:
                yield f"{where}.cases.{key}: {n} is not among the plan's checkpoints; add it there"


def _source_errors(config: Mapping[str, Any], where: str, plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield sources of edits that this run does not have, and options that contradict each other."""
    edits = plan["edits"]
    graph = config["kgs"].get(config.get("kg"), {}).get("source")
    if edits["source"] == "graph" and graph in (NO_GRAPH, "released"):
        what = "has no graph" if graph == NO_GRAPH else "reads published files, which are no graph"
        yield f"{where}.edits.source: this run {what}; take edits from a file, or another kg"
    dataset = edits.get("dataset")
    if dataset and dataset not in config.get("datasets", ()):
        known = suggestion(dataset, config.get("datasets", ()))
        yield f"{where}.edits.dataset: {dataset!r} is not among this run's datasets; {known}"
    if edits.get("cycle") and plan["repeats"] == "drop":
        yield f"{where}.edits.cycle: all that is read again is a repeat; it needs repeats: keep"


def _file_errors(
    config: Mapping[str, Any], name: str, plan: Mapping[str, Any], folder: Path
) -> Iterator[str]:
    """Yield why a plan's edits cannot be had from its file, until they are listed for every model."""
    kg = config.get("kg")
    listed = (ALREADY.format(kg=kg, model=model, plan=name) for model in models_of_plan(config, plan))
    if all(Path(path).exists() for path in listed):
        return
    path = plan["edits"]["file"]
    found = next((each for each in (Path(path), folder / path) if each.is_file()), None)
    if found is None:
        yield (
            f"sequences.{name}.edits.file: there is no {path!r}; paths are relative to the working folder. "
            "Edits do not come with this project: docs/sequences.md says where they are published"
        )
        return
    try:
        rows = read_edits(found, plan["edits"])
    except ValueError as error:
        yield f"sequences.{name}.edits.file: {error}"
        return
    try:
        choose(rows, Plan.from_config(plan).edits, plan["repeats"], plan["edits"]["cycle"])
    except ValueError as error:
        yield f"sequences.{name}.checkpoints: {path}: {error}"
