"""Estimate of a study on a named device before it runs, in jobs, hours, memory, disk: `aftershock plan`.

Only jobs that need a GPU are counted; Snakemake's own dry run counts all of them. Figures of a device come
from resources/devices.yaml, or from what `make bench` wrote about a device of that name.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from aftershock.budget.cost import Need
from aftershock.budget.devices import GB, Device, find_device, read_devices, shipped
from aftershock.budget.measured import fit_device, measured_seconds
from aftershock.budget.needs import Needs
from aftershock.budget.schedule import Job, critical_path, makespan
from aftershock.budget.study import gpu_jobs
from aftershock.config import check_config
from aftershock.jobs.sizes import aligned, duration
from aftershock.kg.plan import read_study
from aftershock.project import PROJECT, SNAKEFILE

BENCH = Path("results/bench/device.yaml")
DRY_RUN_SECONDS = 300
COLUMNS = (
    *("stage", "model", "jobs", "done", "hours", "took (h)", "longest"),
    *("host memory", "GPU memory", "disk"),
)


@dataclass
class Plan:
    """A study's jobs with their needs, and the device that they are estimated for."""

    config: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    device: Device
    host: Device
    jobs: list[Job]
    needs: list[Need]
    bounds: list[str] = field(default_factory=list)
    """Counts that are only bounds, in words."""
    fitted: int = 0
    """Number of finished jobs that the figures of the device explain; 0 where they are from elsewhere."""

    @property
    def seconds(self) -> list[float]:
        """Seconds of each job."""
        precision = self.config["engine"]["precision"]
        return [
            need.seconds(self.device, self.host, "strict" if job.rule.endswith("_strict") else precision)
            for job, need in zip(self.jobs, self.needs, strict=True)
        ]


def make_plan(
    config: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    folder: Path,
    device: Device,
    host: Device,
    results: Path = Path(),
) -> Plan:
    """The plan of a checked configuration; `results` is where a finished part of the study would be."""
    needs, bounds, n = Needs(config, models, folder, device), [], config["shards"]["questions"]
    found = []
    jobs = gpu_jobs(config, models)
    for job in jobs:
        kind = {"verify_facts": "facts", "score_objects": "objects"}.get(job.rule)
        if kind is None:
            found.append(needs.need(job.rule, job.wildcards))
            continue
        rows = _listed(results, job.wildcards, kind)
        if rows is None:
            rows = needs.asked[kind] * n
            text = f"{rows:.0f} {kind} to ask each model about: for a graph that is mined a bound until it is"
            if text not in bounds:
                bounds.append(text)
        costs = needs.costs(job.wildcards["model"])
        found.append((costs.verify_facts if kind == "facts" else costs.score_objects)(rows / n))
    return Plan(config, models, device, host, jobs, found, bounds)


def _listed(results: Path, wildcards: Mapping[str, str], kind: str) -> int | None:
    """Number of facts or objects listed for scoring; None before they are listed."""
    kg, model = wildcards["kg"], wildcards["model"]
    for path in (f"results/{kg}/{model}/asked/{kind}.parquet", f"results/kg/{kg}/asked.{kind}.parquet"):
        if (results / path).is_file():
            return pq.read_metadata(results / path).num_rows
    return None


def table(plan: Plan, results: Path = Path()) -> list[tuple[str, ...]]:
    """COLUMNS of each stage of each model, and of all.

    Hours are estimated, whether jobs are done or not; beside them stands what finished ones took.
    """
    stages: dict[tuple[str, str], list[int]] = {}
    for i, job in enumerate(plan.jobs):
        name = f"{job.rule} {job.wildcards['editor']}" if "editor" in job.wildcards else job.rule
        stages.setdefault((name, job.wildcards["model"]), []).append(i)
    stages["all", ""] = list(range(len(plan.jobs)))
    seconds = plan.seconds
    took = measured_seconds(plan.jobs, results)
    rows: list[tuple[str, ...]] = []
    for (name, model), mine in stages.items():
        if not mine:
            continue
        own, done = [plan.needs[i] for i in mine], [known for i in mine if (known := took[i]) is not None]
        cells = (
            *(name, model, str(len(mine)), str(len(done))),
            _hours(sum(seconds[i] for i in mine)),
            _hours(sum(done)) if done else "-",
            duration(max(seconds[i] for i in mine)),
            _gb(max(need.host for need in own)),
            _gb(max(0.0 if need.on_host or not plan.device.accelerator else need.gpu for need in own)),
            _gb(sum(need.disk for need in own)),
        )
        rows.append(cells)
    return rows


def fit_plan(plan: Plan, results: Path = Path()) -> None:
    """Estimate a plan for a processor by the figures that explain what finished jobs took here, in place."""
    if plan.device.accelerator:
        return
    took = measured_seconds(plan.jobs, results)
    known = [
        (need, job.rule, seconds)
        for need, job, seconds in zip(plan.needs, plan.jobs, took, strict=True)
        if seconds is not None and not need.on_host  # which a number of processes share
    ]
    if known and (device := fit_device(plan.device, *zip(*known, strict=True))):
        plan.device = plan.host = device
        plan.fitted = len(known)


def warnings(plan: Plan) -> Iterator[str]:
    """Yield obstacles to the study on this device, and limits of the estimate."""
    device = plan.device
    for name, model in plan.models.items():
        if name not in plan.config["models"]:
            continue
        if "architecture" not in model and "shape" not in model:
            yield (
                f"resources/models/{name}.yaml gives no `shape`: reckoned as a model of seven billion weights"
            )
        texts = model["moments"].get("text")
        texts = [] if texts == "self" else texts
        texts = [texts] if isinstance(texts, str) else texts if isinstance(texts, list) else []
        for text in texts:
            if not Path(text).exists() and not (PROJECT / text).exists():
                yield f"{name}: there is no {text} yet, the text of its second moments"
    largest: dict[str, tuple[float, str]] = {}
    for job, need in zip(plan.jobs, plan.needs, strict=True):
        memory = need.gpu if device.accelerator and not need.on_host else need.host
        if memory > device.memory:
            name = f"{job.rule} {job.wildcards.get('editor', '')}".strip()
            largest[job.wildcards["model"]] = max(
                largest.get(job.wildcards["model"], (0.0, "")), (memory, name)
            )
    for short, (memory, name) in largest.items():
        size = f"{device.memory / GB:g} GB"
        yield f"{short} does not fit {device.name} ({size}): {name} needs {memory / GB:.0f} GB"
    if len(plan.jobs) > plan.config["shards"]["max_jobs"]:
        yield f"more jobs than shards.max_jobs ({plan.config['shards']['max_jobs']})"
    yield from plan.bounds


def summary(plan: Plan, gpus: int, results: Path = Path()) -> list[str]:
    """Wall time on one and on several devices, what is left of it, and the assumptions of the estimate."""
    seconds = plan.seconds
    done = [took is not None for took in measured_seconds(plan.jobs, results)]
    whole, longest = sum(seconds), critical_path(plan.jobs, seconds)
    lines = [f"on 1 {plan.device.name}: {duration(whole)}{_left(seconds, done)}"]
    if gpus > 1:
        several = makespan(plan.jobs, seconds, gpus)
        lines.append(
            f"on {gpus}: {duration(several)}, {whole / several / gpus:.0%} busy; the longest chain of jobs "
            f"that wait for each other takes {duration(longest)}"
        )
    how = "measured by make bench" if plan.device.measured else "assumed, from data sheets"
    if plan.fitted:
        how = f"those that explain best what {plan.fitted} finished jobs of this folder took"
    precision = plan.config["engine"]["precision"]
    lines.append(
        f"{plan.device.name}: {plan.device.description}; its figures are {how}; precision {precision}"
    )
    lines.append("waits in a queue, and jobs that need no GPU, take their own time")
    return lines


def _left(seconds: Sequence[float], done: Sequence[bool]) -> str:
    """Return the jobs that are done, in words, and what is left; "" where none is."""
    if not any(done):
        return ""
    if all(done):
        return f"; all {len(done)} jobs are done"
    left = sum(s for s, is_done in zip(seconds, done, strict=True) if not is_done)
    return f", of which {duration(left)} are left: {sum(done)} of {len(done)} jobs are done"


def choose_device(name: str, calibration: Path | None) -> Device:
    """The device `name`, with the figures of `calibration` (or BENCH, if it exists) where it has any."""
    known = dict(shipped())
    if calibration is not None:
        if not calibration.is_file():
            raise ValueError(f"there is no calibration {calibration}; make bench writes {BENCH}")
        known |= read_devices(calibration)
    elif BENCH.is_file():
        known |= read_devices(BENCH)
    return find_device(name, known)


def count_jobs(files: Sequence[str]) -> str:
    """Number of jobs that Snakemake would run, all stages together, or the reason why it is unknown."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "rules", "--nolock"]
    command += ["--snakefile", str(SNAKEFILE), *(["--configfile", *files] if files else [])]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=DRY_RUN_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"Snakemake's dry run took longer than {DRY_RUN_SECONDS} s"
    if found.returncode:
        text = [line for line in (found.stdout + found.stderr).splitlines() if line.strip()]
        return "Snakemake's dry run fails: " + " ".join(text[-4:])
    totals = [line.split()[1] for line in found.stdout.splitlines() if line.startswith("total ")]
    return f"{totals[0] if totals else 0} jobs in all would run, with those that need no GPU"


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


def print_plan(
    files: Sequence[str], gpu: str | None, gpus: int, calibration: Path | None, count: bool
) -> None:
    """Print what a study would take.

    files: its configuration files, the last wins.
    gpu: a device of resources/devices.yaml; None for that of the configuration. gpus: how many of them.
    calibration: a file that the benchmark wrote about the device.
    count: ask Snakemake for the number of jobs as well.
    """
    config = read_study(files)
    models = check_config(config, PROJECT)
    device = choose_device(gpu or config["shards"]["device"], calibration)
    host = device if not device.accelerator else choose_device("cpu", calibration)
    plan = make_plan(config, models, PROJECT, device, host)
    if calibration is None:
        fit_plan(plan)
    print(show(table(plan)), *summary(plan, gpus), sep="\n")
    for line in warnings(plan):
        print(f"note: {line}")
    if count:
        sys.stdout.flush()
        print(count_jobs(files))
