"""The jobs of a run's plans of edits that need a GPU."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from aftershock.budget.schedule import Job
from aftershock.budget.sharding import ranges_among
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of, tasks_of_plan
from aftershock.datasets.table import BEFORE, PLACES
from aftershock.experiments.sequences.plan import Plan
from aftershock.project import PROJECT
from aftershock.tasks.definition import chosen_tasks, read_task

TASK_FILES = PROJECT / "resources" / "tasks"


def sequence_jobs(
    config: Mapping[str, Any], model: str, waits_for: Callable[[str], tuple[str, ...]]
) -> Iterator[Job]:
    """Yield the jobs of all plans of a model.

    `waits_for` gives the groups of jobs that come before those of an editor, and with "" before all others.
    """
    per_job, unedited = config["abilities"]["checkpoints_per_job"], f"{model} unedited"
    of_model, asked = {"kg": config["kg"], "model": model}, set()
    for name, settings in plans_of(config).items():
        if model not in models_of_plan(config, settings):
            continue
        plan, where = Plan.from_config(settings), {**of_model, "plan": name}
        chosen = chosen_tasks(tasks_of_plan(config, settings), TASK_FILES)
        tasks = [read_task(each, TASK_FILES) for each in chosen]
        yield Job("probe_unedited", where, unedited, waits_for(""))
        for task in tasks:
            if task.source == "edits":
                yield Job("run_task_of_edits_unedited", {**where, "task": task.name}, unedited, waits_for(""))
            elif task.name not in asked:
                asked.add(task.name)
                yield Job("run_task_unedited", {**of_model, "task": task.name}, unedited, waits_for(""))
        for editor in editors_of_plan(config, settings):
            for order in plan.orders:
                run = {**where, "editor": editor, "order": str(order)}
                made = f"{model} {name} {editor} o{order}"
                yield Job("edit_sequence", run, made, waits_for(editor))
                yield from _among(config, settings, run, made, waits_for(editor))
                for checkpoints in plan.groups(per_job):
                    part, group = {**run, "checkpoints": checkpoints}, f"{model} checkpoints"
                    yield Job("probe_sequence", part, group, (made,))
                    yield from (Job("run_task", {**part, "task": t.name}, group, (made,)) for t in tasks)


def _among(
    config: Mapping[str, Any],
    plan: Mapping[str, Any],
    run: Mapping[str, str],
    made: str,
    after: tuple[str, ...],
) -> Iterator[Job]:
    """Yield the jobs that edit cases among the edits of a plan; those that start from its log wait for it."""
    for dataset in plan["cases"]["datasets"] if plan["cases"] else ():
        for place in PLACES:
            for shard in ranges_among(config, plan, dataset) if plan["cases"][place] else ():
                where = {**run, "dataset": dataset, "place": place, "shard": shard}
                first = (*after, *((made,) if place == BEFORE else ()))
                yield Job("edit_among", where, f"{run['model']} cases among edits", first)
