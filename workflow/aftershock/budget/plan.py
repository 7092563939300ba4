"""Estimate of a study on a named device before it runs, in jobs, hours, memory, disk: `aftershock plan`.

Only jobs that need a GPU are estimated. Figures of a device come from resources/devices.yaml, or from what
`make bench` wrote about a device of that name; on a processor, estimates are scaled by what finished jobs of
this folder took.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

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
LEVELS = (["rule", "editor", "model"], ["rule"], ["all"])
"""A job is scaled by finished ones of its stage, or else of its rule, or else by all."""
ESTIMATES = ["all", "rule", "editor", "model", "seconds", "took", "host", "gpu", "disk"]
COLUMNS = (
    *("stage", "model", "jobs", "done", "hours", "took (h)", "longest"),
    *("host memory", "GPU memory", "disk"),
)


@dataclass
class Plan:
    """A study's jobs, and estimates of those that need a GPU on a device.

    estimates: one row per job, by its index in `jobs`: rule, editor, model, seconds, those that it took (NaN
    where it is not done, or its outputs are gone), bytes of host and GPU memory and of disk. bounds: counts
    that are only bounds, in words. scaled_by: the number of finished jobs that seconds are scaled by.
    """

    config: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    device: Device
    jobs: Sequence[Job]
    estimates: pd.DataFrame
    bounds: list[str] = field(default_factory=list)
    scaled_by: int = 0


def make_plan(
    config: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    jobs: Sequence[Job],
    device: Device,
    host: Device,
    results: Path = Path(),
) -> Plan:
    """The plan of a checked configuration; `results` is where a finished part of the study would be."""
    needs, took, rows, bounds = Needs(config, models, PROJECT, device), _measured(results), {}, []
    for i, job in enumerate(jobs):
        if job.rule not in RULES:
            continue
        kind = {"verify_facts": "facts", "score_objects": "objects"}.get(job.rule, "")
        listed = _listed(results, job.wildcards, kind) if kind else None
        if kind and listed is None:
            asked = needs.asked[kind] * config["shards"]["questions"]
            bounds.append(
                f"{asked:.0f} {kind} to ask each model about: for a graph that is mined a bound until it is"
            )
        need = needs.need(job.rule, job.wildcards, listed)
        on_gpu = device.accelerator and not need.on_host
        rows[i] = [
            *("", job.rule, job.wildcards.get("editor", ""), job.wildcards.get("model", "")),
            needs.seconds(job.rule, need, device, host),
            took.get(_key(job.rule, job.wildcards)),
            *(need.host, need.gpu * on_gpu, need.disk),
        ]
    names = ["", *models]
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=ESTIMATES).astype({"took": float})
    frame = frame.sort_values("model", key=lambda column: column.map(names.index), kind="stable")
    return Plan(config, models, device, jobs, frame, list(dict.fromkeys(bounds)))


def _listed(results: Path, wildcards: Mapping[str, str], kind: str) -> int | None:
    """Number of facts or objects listed for scoring; None before they are listed."""
    kg, model = wildcards["kg"], wildcards["model"]
    for path in (f"results/{kg}/{model}/asked/{kind}.parquet", f"results/kg/{kg}/asked.{kind}.parquet"):
        if (results / path).is_file():
            return pq.read_metadata(results / path).num_rows
    return None


def _measured(results: Path) -> dict[tuple, float]:
    """Seconds of this folder's finished jobs whose outputs are there."""
    return {
        _key(record["rule"], record["wildcards"]): record["seconds"]
        for record in finished_jobs(results / FOLDER)
        if all((results / output).exists() for output in record.get("outputs", ()))
    }


def _key(rule: str, wildcards: Mapping[str, object]) -> tuple:
    return rule, frozenset((name, str(value)) for name, value in wildcards.items())


def scale_plan(plan: Plan) -> None:
    """Scale the seconds of a plan for a processor by what finished jobs took here, in place."""
    frame, done = plan.estimates, plan.estimates["took"].notna()
    if plan.device.accelerator or done.sum() < LEAST_JOBS:
        return
    factors = pd.Series(float("nan"), frame.index)
    for level in LEVELS:
        sums = frame[done].groupby(level)[["took", "seconds"]].sum()
        found = frame[level].join((sums["took"] / sums["seconds"]).rename("factor"), on=level)
        factors = factors.fillna(found["factor"])
    frame["seconds"] *= factors
    plan.scaled_by = int(done.sum())


def table(plan: Plan) -> list[tuple[str, ...]]:
    """COLUMNS of each stage of each model, and of all.

    Hours are estimated, whether jobs are done or not; beside them stands what finished ones took.
    """
    frame = plan.estimates
    stages = list(frame.groupby(["rule", "editor", "model"], sort=False)) if len(frame) else []
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


def warnings(plan: Plan) -> Iterator[str]:
    """Yield obstacles to the study on this device, and limits of the estimate."""
    device, frame = plan.device, plan.estimates
    for name in plan.config["models"]:
        model = plan.models[name]
        if "architecture" not in model and "shape" not in model:
            yield (
                f"resources/models/{name}.yaml gives no `shape`: reckoned as a model of seven billion weights"
            )
        texts = model["moments"].get("text")
        texts = [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else []
        for text in texts:
            if text != "self" and not Path(text).exists() and not (PROJECT / text).exists():
                yield f"{name}: there is no {text} yet, the text of its second moments"
    needed = frame.assign(memory=frame["gpu"].where(frame["gpu"] > 0, frame["host"]))
    beyond = needed[needed["memory"] > device.memory].sort_values("memory").groupby("model", sort=False)
    for each in beyond.tail(1).to_dict("records"):
        yield (
            f"{each['model']} does not fit {device.name} ({device.memory / GB:g} GB): "
            f"{each['rule']} {each['editor']}".strip()
            + f" needs {each['memory'] / GB:.0f} GB"
        )
    if len(frame) > plan.config["shards"]["max_jobs"]:
        yield f"more jobs than shards.max_jobs ({plan.config['shards']['max_jobs']})"
    yield from plan.bounds


def summary(plan: Plan, gpus: int) -> Iterator[str]:
    """Yield the time on one and on several devices, what is left of it, and what the estimate assumes."""
    seconds, done = plan.estimates["seconds"], plan.estimates["took"].notna()
    whole, left = seconds.sum(), ""
    if done.any():
        left = (
            f", of which {duration(seconds[~done].sum())} are left: {done.sum()} of {len(done)} jobs are done"
        )
        left = f"; all {len(done)} jobs are done" if done.all() else left
    yield f"on 1 {plan.device.name}: {duration(whole)}{left}"
    if gpus > 1:
        chain = longest_chain(plan.jobs, seconds.reindex(range(len(plan.jobs)), fill_value=0.0))
        several = max(whole / gpus, chain)
        yield (
            f"on {gpus}: {duration(several)} at least, {whole / several / gpus:.0%} busy; the longest chain "
            f"of jobs that wait for each other takes {duration(chain)}"
        )
    how = "measured by make bench" if plan.device.measured else "assumed, from data sheets"
    if plan.scaled_by:
        how = f"scaled by what {plan.scaled_by} finished jobs of this folder took"
    precision = plan.config["engine"]["precision"]
    yield f"{plan.device.name}: {plan.device.description}; its figures are {how}; precision {precision}"
    yield "waits in a queue, and jobs that need no GPU, take their own time"


def choose_device(name: str, calibration: Path | None) -> Device:
    """The device `name`, with the figures of `calibration` (or BENCH, if it exists) where it has any."""
    if calibration and not calibration.is_file():
        raise ValueError(f"there is no calibration {calibration}; make bench writes {BENCH}")
    measured = calibration or (BENCH if BENCH.is_file() else None)
    return find_device(name, {**shipped(), **(read_devices(measured) if measured else {})})


def _hours(seconds: float) -> str:
    """Hours with two digits after the point, four where they are few."""
    hours = seconds / 3600
    return f"{hours:.2f}" if hours >= 1 or not hours else f"{hours:.4f}"


def _gb(size: float) -> str:
    if size < 5e4:
        return "-"
    return f"{size / GB:.1f} GB" if size >= GB / 20 else f"{size / 1e6:.1f} MB"


def show(rows: Sequence[tuple[str, ...]]) -> str:
    """Rows below COLUMNS, numbers aligned to the right."""
    return "\n".join(line.rstrip() for line in aligned([COLUMNS, *rows], (0, 1)))


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
    plan = make_plan(config, models, planned_jobs(files), device, host)
    if calibration is None:
        scale_plan(plan)
    print(show(table(plan)), *summary(plan, gpus), *(f"note: {line}" for line in warnings(plan)), sep="\n")
    print(f"{sum(job.runs for job in plan.jobs)} jobs in all would run, with those that need no GPU")
