"""Estimate of a study on a named device before it runs, in jobs, hours, memory, disk: `aftershock plan`.

Only jobs that need a GPU are estimated. Figures of a device come from resources/devices.yaml, or from what
`make bench` wrote about a device of that name; on a processor, estimates are scaled by what finished jobs of
this folder took.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from aftershock.budget.devices import GB, Device, find_device, read_devices, shipped
from aftershock.budget.needs import RULES, Needs
from aftershock.config import check_config
from aftershock.jobs.dag import Job, longest_chain, planned_jobs
from aftershock.jobs.record import FOLDER, finished_jobs
from aftershock.jobs.sizes import aligned, duration
from aftershock.kg.plan import read_study
from aftershock.project import PROJECT

BENCH = Path("results/bench/device.yaml")
LEAST_JOBS = 12
"""Finished jobs below which they say too little about a device."""
STAGE = ["rule", "editor", "model"]
COLUMNS = (
    *("stage", "model", "jobs", "done", "hours", "took (h)", "longest"),
    *("host memory", "GPU memory", "disk"),
)


@dataclass
class Plan:
    """A study's jobs, and estimates in seconds and bytes of those that need a GPU, by their index in `jobs`.

    `took` is NaN where a job is not done, or its outputs are gone. Seconds are scaled by `scaled_by` jobs.
    """

    needs: Needs
    jobs: Sequence[Job]
    estimates: pd.DataFrame
    scaled_by: int = 0


def make_plan(needs: Needs, jobs: Sequence[Job], results: Path = Path()) -> Plan:
    """Return the plan of a study's jobs; `results` is where a finished part of the study would be."""
    took = {
        (record["rule"], *sorted(record["wildcards"].items())): record["seconds"]
        for record in finished_jobs(results / FOLDER)
        if all((results / output).exists() for output in record.get("outputs", ()))
    }
    rows = {}
    for i, job in enumerate(jobs):
        if job.rule in RULES:
            need = needs.need(job.rule, job.wildcards)
            rows[i] = {
                "rule": job.rule,
                **{name: job.wildcards.get(name, "") for name in ("editor", "model")},
                "seconds": needs.seconds(job.rule, need, needs.device),
                "took": took.get((job.rule, *sorted(job.wildcards.items())), float("nan")),
                **{"host": need.host, "gpu": need.gpu * needs.device.accelerator, "disk": need.disk},
            }
    columns = [*STAGE, "seconds", "took", "host", "gpu", "disk"]
    frame, order = pd.DataFrame.from_dict(rows, "index", columns=columns), ["", *needs.models].index
    return Plan(needs, jobs, frame.sort_values("model", key=lambda column: column.map(order), kind="stable"))


def scale_plan(plan: Plan) -> None:
    """Scale the seconds of a plan for a processor by what finished jobs took here, in place.

    A job is scaled by finished ones of its stage, or else of its rule, or else by all.
    """
    frame = plan.estimates
    if plan.needs.device.accelerator or frame["took"].count() < LEAST_JOBS:
        return
    done, factors = frame[["took", "seconds"]].where(frame["took"].notna()), frame["took"] * float("nan")
    for level in (STAGE, ["rule"], []):
        sums = done.groupby([frame[name] for name in level] or (lambda _: 0)).transform("sum")
        factors = factors.fillna(sums["took"] / sums["seconds"])
    frame["seconds"] *= factors
    plan.scaled_by = done["took"].count()


def table(plan: Plan) -> list[tuple[str, ...]]:
    """Return COLUMNS of each stage of each model, and of all; hours are estimated, also of finished jobs."""
    stages = list(plan.estimates.groupby(STAGE, sort=False))
    return [
        (
            *(f"{rule} {editor}".strip(), model, str(len(mine)), str(mine["took"].count())),
            f"{mine['seconds'].sum() / 3600:.4g}",
            f"{mine['took'].sum() / 3600:.4g}" if mine["took"].count() else "-",
            duration(mine["seconds"].max()),
            *(_size(size) for size in (mine["host"].max(), mine["gpu"].max(), mine["disk"].sum())),
        )
        for (rule, editor, model), mine in [*stages, *([(("all", "", ""), plan.estimates)] if stages else [])]
    ]


def _size(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= GB / 20 else f"{size / 1e6:.1f} MB" if size >= 5e4 else "-"


def warnings(plan: Plan) -> Iterator[str]:
    """Yield obstacles to the study on this device, and limits of the estimate."""
    needs, frame, device = plan.needs, plan.estimates, plan.needs.device
    for name in needs.config["models"]:
        if not {"architecture", "shape"} & set(needs.models[name]):
            yield f"resources/models/{name}.yaml gives no `shape`: taken for a model of seven billion weights"
    memory = frame["gpu" if device.accelerator else "host"] / GB
    for model, mine in memory[memory > device.memory_gb].groupby(frame["model"], sort=False):
        job = f"{frame['rule'][mine.idxmax()]} {frame['editor'][mine.idxmax()]}".strip()
        limit = f"{model} does not fit {device.name} ({device.memory_gb:g} GB)"
        yield f"{limit}: {job} needs {mine.max():.0f} GB"
    if len(frame) > needs.config["shards"]["max_jobs"]:
        yield f"more jobs than shards.max_jobs ({needs.config['shards']['max_jobs']})"
    for kind, rule in (("facts", "verify_facts"), ("objects", "score_objects")):
        if rule in set(frame["rule"]):
            yield f"{needs.asked[kind]:.0f} {kind} to ask each model about: a bound, if a graph is mined"


def summary(plan: Plan, gpus: int) -> Iterator[str]:
    """Yield the time on one and on several devices, what is left of it, and what the estimate assumes."""
    device, seconds, done = plan.needs.device, plan.estimates["seconds"], plan.estimates["took"].notna()
    left = f"; {done.sum()} of {len(done)} jobs are done, {duration(seconds[~done].sum())} are left"
    yield f"on 1 {device.name}: {duration(seconds.sum())}{left if done.any() else ''}"
    if gpus > 1:
        chain = longest_chain(plan.jobs, seconds.reindex(range(len(plan.jobs)), fill_value=0.0))
        least = duration(max(seconds.sum() / gpus, chain))
        yield f"on {gpus}: {least} at least; the longest chain of jobs takes {duration(chain)}"
    how = "measured by make bench" if device.measured else "assumed, from data sheets"
    if plan.scaled_by:
        how = f"scaled by what {plan.scaled_by} finished jobs of this folder took"
    precision = plan.needs.config["engine"]["precision"]
    yield f"{device.name}: {device.description}; its figures are {how}; precision {precision}"
    yield "waits in a queue, and jobs that need no GPU, take their own time"


def choose_device(name: str) -> Device:
    """Return the device `name`, as `make bench` measured it where it did."""
    return find_device(name, {**shipped(), **(read_devices(BENCH) if BENCH.is_file() else {})})


def print_plan(files: Sequence[str], gpu: str | None, gpus: int) -> None:
    """Print what a study takes whose configuration `files` are, the last wins, on so many devices `gpu`.

    gpu: a device of resources/devices.yaml; None for that of the configuration.
    """
    config = read_study(files)
    models = check_config(config, PROJECT)
    device = choose_device(gpu or config["shards"]["device"])
    plan = make_plan(Needs(config, models, PROJECT, device), planned_jobs(files))
    scale_plan(plan)
    print("\n".join(line.rstrip() for line in aligned([COLUMNS, *table(plan)], (0, 1))))
    print(*summary(plan, gpus), *(f"note: {line}" for line in warnings(plan)), sep="\n")
    print(f"{sum(job.runs for job in plan.jobs)} jobs in all would run, with those that need no GPU")
