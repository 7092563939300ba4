"""The jobs of a run's plans of edits that need a GPU."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aftershock.budget.job import Job
from aftershock.budget.sharding import ranges_among
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of, tasks_of_plan
from aftershock.datasets.table import BEFORE, PLACES
from aftershock.experiments.sequences.plan import Plan
from aftershock.project import PROJECT
from aftershock.tasks.definition import Task, chosen_tasks, read_task

TASK_FILES = PROJECT / "resources" / "tasks"


def tasks_for(config: Mapping[str, Any], plan: Mapping[str, Any]) -> list[Task]:
    """Return the tasks that a plan measures."""
    return [read_task(name, TASK_FILES) for name in chosen_tasks(tasks_of_plan(config, plan), TASK_FILES)]


def sequence_jobs(
    config: Mapping[str, Any], model: str, waits_for: Callable[[str], tuple[str, ...]]
) -> Iterator[Job]:
    """Yield the jobs of all plans of a model.

    `waits_for` gives the groups of jobs that come before those of an editor, and with "" before all others.
    """
    kg, per_job = config["kg"], config["abilities"]["checkpoints_per_job"]
    here = f"results/{kg}/{model}"
    asked = set()
    for name, settings in plans_of(config).items():
        if model not in models_of_plan(config, settings):
            continue
        plan, folder, tasks = (
            Plan.from_config(settings),
            f"{here}/sequences/{name}",
            tasks_for(config, settings),
        )
        where = {"kg": kg, "model": model, "plan": name}
        group = f"{model} unedited"
        yield Job("probe_unedited", where, f"{folder}/unedited.parquet", group, waits_for(""))
        for task in tasks:
            if task.source == "edits":
                rule, out = "run_task_of_edits_unedited", f"{folder}/tasks/{task.name}/unedited.parquet"
            else:
                rule, out = "run_task_unedited", f"{here}/tasks/{task.name}/unedited.parquet"
            if out not in asked:
                asked.add(out)
                own = where if task.source == "edits" else {"kg": kg, "model": model}
                yield Job(rule, own | {"task": task.name}, out, group, waits_for(""))
        for editor in editors_of_plan(config, settings):
            for order in plan.orders:
                run = where | {"editor": editor, "order": str(order)}
                to, made = f"{folder}/{editor}/o{order}", f"{model} {name} {editor} o{order}"
                yield Job("edit_sequence", run, f"{to}/log", made, waits_for(editor))
                yield from _among(config, settings, run, to, made, waits_for(editor))
                for checkpoints in plan.groups(per_job):
                    part, group = run | {"checkpoints": checkpoints}, f"{model} checkpoints"
                    yield Job("probe_sequence", part, f"{to}/edits/{checkpoints}.parquet", group, (made,))
                    for task in tasks:
                        out = f"{to}/tasks/{task.name}/{checkpoints}.parquet"
                        yield Job("run_task", part | {"task": task.name}, out, group, (made,))


def _among(
    config: Mapping[str, Any],
    plan: Mapping[str, Any],
    run: Mapping[str, str],
    to: str,
    made: str,
    after: tuple[str, ...],
) -> Iterator[Job]:
    """Yield the jobs that edit cases among the edits of a plan; those that start from its log wait for it."""
    for dataset in plan["cases"]["datasets"] if plan["cases"] else ():
        for place in PLACES:
            for shard in ranges_among(config, plan, dataset) if plan["cases"][place] else ():
                where = {**run, "dataset": dataset, "place": place, "shard": shard}
                out = f"{to}/cases/{dataset}/{place}/{shard}.parquet"
                first = (*after, *((made,) if place == BEFORE else ()))
                yield Job("edit_among", where, out, f"{run['model']} cases among edits", first)
