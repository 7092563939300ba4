"""Estimate of a study on a named device before it runs, in jobs, hours, memory, disk: `aftershock plan`.

Only jobs that need a GPU are estimated. Figures of a device come from resources/devices.yaml, or from what
`make bench` wrote about a device of that name; on a processor, estimates are scaled by what finished jobs of
this folder took.
"""

from collections.abc import Iterator, Mapping, Sequence
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
ESTIMATES = [*STAGE, "seconds", "took", "host", "gpu", "disk"]
COLUMNS = (
    *("stage", "model", "jobs", "done", "hours", "took (h)", "longest"),
    *("host memory", "GPU memory", "disk"),
)


@dataclass
class Plan:
    """A study's jobs, and estimates of those that need a GPU on a device.

    estimates: ESTIMATES of jobs by their index in `jobs`, in seconds and bytes; `took` is NaN where a job is
    not done, or its outputs are gone. scaled_by: the number of finished jobs that seconds are scaled by.
    """

    needs: Needs
    jobs: Sequence[Job]
    estimates: pd.DataFrame
    scaled_by: int = 0


def make_plan(needs: Needs, jobs: Sequence[Job], host: Device, results: Path = Path()) -> Plan:
    """Return the plan of a study's jobs; `results` is where a finished part of the study would be."""
    took = {
        _key(record["rule"], record["wildcards"]): record["seconds"]
        for record in finished_jobs(results / FOLDER)
        if all((results / output).exists() for output in record.get("outputs", ()))
    }
    rows = {}
    for i, job in enumerate(jobs):
        if job.rule in RULES:
            need, done = needs.need(job.rule, job.wildcards), took.get(_key(*job[:2]), float("nan"))
            seconds = needs.seconds(job.rule, need, needs.device, host)
            gpu = need.gpu * (needs.device.accelerator and not need.on_host)
            stage = (job.wildcards.get(name, "") for name in STAGE[1:])
            rows[i] = [job.rule, *stage, seconds, done, need.host, gpu, need.disk]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=ESTIMATES)
    order = ["", *needs.models].index
    return Plan(needs, jobs, frame.sort_values("model", key=lambda column: column.map(order), kind="stable"))


def _key(rule: str, wildcards: Mapping[str, object]) -> tuple:
    return rule, frozenset((name, str(value)) for name, value in wildcards.items())


def scale_plan(plan: Plan) -> None:
    """Scale the seconds of a plan for a processor by what finished jobs took here, in place.

    A job is scaled by finished ones of its stage, or else of its rule, or else by all.
    """
    frame = plan.estimates
    done = frame[frame["took"].notna()]
    if plan.needs.device.accelerator or len(done) < LEAST_JOBS:
        return
    factors = pd.Series(float("nan"), frame.index)
    for level in (STAGE, ["rule"]):
        sums = done.groupby(level)[["took", "seconds"]].sum()
        factors = factors.fillna(
            frame.join((sums["took"] / sums["seconds"]).rename("factor"), on=level)["factor"]
        )
    frame["seconds"] *= factors.fillna(done["took"].sum() / done["seconds"].sum())
    plan.scaled_by = len(done)


def table(plan: Plan) -> list[tuple[str, ...]]:
    """Return COLUMNS of each stage of each model, and of all.

    Hours are estimated, whether jobs are done or not; beside them stands what finished ones took.
    """
    frame = plan.estimates
    stages = list(frame.groupby(STAGE, sort=False))
    return [
        (
            *(f"{rule} {editor}".strip(), model, str(len(mine)), str(mine["took"].count())),
            _hours(mine["seconds"].sum()),
            _hours(mine["took"].sum()) if mine["took"].count() else "-",
            duration(mine["seconds"].max()),
            *(_gb(size) for size in (mine["host"].max(), mine["gpu"].max(), mine["disk"].sum())),
        )
        for (rule, editor, model), mine in [*stages, *([(("all", "", ""), frame)] if stages else [])]
    ]


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.2f}" if seconds >= 3600 else f"{seconds / 3600:.4f}"


def _gb(size: float) -> str:
    return f"{size / GB:.1f} GB" if size >= GB / 20 else f"{size / 1e6:.1f} MB" if size >= 5e4 else "-"


def warnings(plan: Plan) -> Iterator[str]:
    """Yield obstacles to the study on this device, and limits of the estimate."""
    needs, frame = plan.needs, plan.estimates
    device, config = needs.device, needs.config
    for name in config["models"]:
        if not {"architecture", "shape"} & set(needs.models[name]):
            yield f"resources/models/{name}.yaml gives no `shape`: taken for a model of seven billion weights"
    frame = frame.assign(memory=frame["gpu"].where(frame["gpu"] > 0, frame["host"]) / GB)
    beyond = frame[frame["memory"] > device.memory_gb].sort_values("memory")
    for each in beyond.groupby("model", sort=False).tail(1).itertuples():
        job = f"{each.rule} {each.editor}".strip()
        limit = f"{each.model} does not fit {device.name} ({device.memory_gb:g} GB)"
        yield f"{limit}: {job} needs {each.memory:.0f} GB"
    if len(frame) > config["shards"]["max_jobs"]:
        yield f"more jobs than shards.max_jobs ({config['shards']['max_jobs']})"
    for kind, rule in (("facts", "verify_facts"), ("objects", "score_objects")):
        if rule in set(frame["rule"]):
            yield f"{needs.asked[kind]:.0f} {kind} to ask each model about: a bound, if a graph is mined"


def summary(plan: Plan, gpus: int) -> Iterator[str]:
    """Yield the time on one and on several devices, what is left of it, and what the estimate assumes."""
    device, seconds, done = plan.needs.device, plan.estimates["seconds"], plan.estimates["took"].notna()
    whole, left = seconds.sum(), ""
    if done.any():
        rest = duration(seconds[~done].sum())
        left = f", of which {rest} are left: {done.sum()} of {len(done)} jobs are done"
        left = f"; all {len(done)} jobs are done" if done.all() else left
    yield f"on 1 {device.name}: {duration(whole)}{left}"
    if gpus > 1:
        chain = longest_chain(plan.jobs, seconds.reindex(range(len(plan.jobs)), fill_value=0.0))
        several = max(whole / gpus, chain)
        yield (
            f"on {gpus}: {duration(several)} at least, {whole / several / gpus:.0%} busy; the longest chain "
            f"of jobs that wait for each other takes {duration(chain)}"
        )
    how = "measured by make bench" if device.measured else "assumed, from data sheets"
    if plan.scaled_by:
        how = f"scaled by what {plan.scaled_by} finished jobs of this folder took"
    precision = plan.needs.config["engine"]["precision"]
    yield f"{device.name}: {device.description}; its figures are {how}; precision {precision}"
    yield "waits in a queue, and jobs that need no GPU, take their own time"


def choose_device(name: str, calibration: Path | None) -> Device:
    """Return the device `name`, with the figures of `calibration` (or of BENCH) where it has any."""
    if calibration and not calibration.is_file():
        raise ValueError(f"there is no calibration {calibration}; make bench writes {BENCH}")
    measured = calibration or (BENCH if BENCH.is_file() else None)
    return find_device(name, {**shipped(), **(read_devices(measured) if measured else {})})


def print_plan(files: Sequence[str], gpu: str | None, gpus: int, calibration: Path | None) -> None:
    """Print what a study would take.

    files: its configuration files, the last wins.
    gpu: a device of resources/devices.yaml; None for that of the configuration. gpus: how many of them.
    calibration: a file that the benchmark wrote about the device.
    """
    config = read_study(files)
    models = check_config(config, PROJECT)
    device = choose_device(gpu or config["shards"]["device"], calibration)
    host = choose_device("cpu", calibration) if device.accelerator else device
    plan = make_plan(Needs(config, models, PROJECT, device), planned_jobs(files), host)
    if calibration is None:
        scale_plan(plan)
    print("\n".join(line.rstrip() for line in aligned([COLUMNS, *table(plan)], (0, 1))))
    print(*summary(plan, gpus), *(f"note: {line}" for line in warnings(plan)), sep="\n")
    print(f"{sum(job.runs for job in plan.jobs)} jobs in all would run, with those that need no GPU")
