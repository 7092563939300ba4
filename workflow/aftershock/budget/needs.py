"""Resources of each rule's jobs for a scheduler: memory, minutes and GPU, by rule and wildcards."""

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from aftershock.budget.cost import Costs, Need
from aftershock.budget.devices import GB, MB, Device, choose_gpu, find_device, shipped
from aftershock.budget.questions import most_asked
from aftershock.budget.sharding import shard_sizes
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.settings import needed_artifacts
from aftershock.config.shards import number_of_cases
from aftershock.editors.artifacts import ARTIFACTS

FLOOR_MB, FLOOR_MINUTES = 2000, 30
MARGIN = 3.0
"""Times the estimated minutes that a job asks for."""
HELPERS = {"sample_paraphrases": "model", "score_paraphrases": "ranking_model"}
"""Rules whose model `paraphrases` names, by the key."""
RULES = {name for name in vars(Costs) if not name.startswith("_")}
"""All rules that ask for a GPU."""


class Needs:
    """The needs of all jobs of a configuration, on a device: by default that for which jobs are cut."""

    def __init__(
        self,
        config: Mapping[str, Any],
        models: Mapping[str, Any],
        folder: str | Path,
        device: Device | None = None,
    ) -> None:
        self.config, self.models, self.folder = config, models, Path(folder)
        self.device = device or find_device(config["shards"]["device"])
        self._found: dict[tuple, Need] = {}

    def of(self, rule: str, what: str, wildcards: Mapping[str, str], attempt: int = 1) -> int | str:
        """Amount of `what` that a job of `rule` requests: mem_mb, runtime (minutes), or gpu_model.

        Memory and minutes grow with every attempt. ValueError when no type of `gpus` is large enough.
        """
        need, gpus = self.need(rule, wildcards), self.config["gpus"]
        if what == "mem_mb":
            return max(FLOOR_MB, round(need.host / MB)) * attempt
        kind = choose_gpu(gpus, 0.0 if need.on_host else need.gpu / GB, self._name(rule, wildcards))
        if what == "gpu_model":
            return kind
        seconds = self.seconds(rule, need, shipped()[gpus[kind]] if kind else self.device, shipped()["cpu"])
        return max(FLOOR_MINUTES, round(MARGIN * seconds / 60)) * attempt

    def seconds(self, rule: str, need: Need, device: Device, host: Device) -> float:
        """Seconds of a job of `rule` on `device`, or on `host` where it runs there, with its start."""
        precision = "strict" if rule.endswith("_strict") else self.config["engine"]["precision"]
        on = host if need.on_host else device
        return on.start_seconds + need.read / GB / on.read_gb_s + on.seconds(need.work, precision)

    def need(self, rule: str, wildcards: Mapping[str, str]) -> Need:
        """Needs of a job of `rule`; jobs that differ in their seed, order, part or graph need the same."""
        job = {name: each for name, each in wildcards.items() if name not in ("kg", "seed", "order", "part")}
        key = (rule, *sorted(job.items()))
        if key not in self._found:
            named = HELPERS.get(rule)
            model = self.config["paraphrases"][named] if named else job.get("model", self.config["models"][0])
            jobs = self.config["shards"]["questions"]
            given: dict[str, Any] = {kind: n / jobs for kind, n in self.asked.items()}
            if "dataset" in job:
                first, last = map(int, job.get("shard", "1-0").split("-"))
                given["cases"] = last - first + 1 or number_of_cases(self.config, job["dataset"])
            costs = Costs(self.config, self.models[model], self.device)
            self._found[key] = getattr(costs, rule)(**job, **given)
        return self._found[key]

    @cached_property
    def asked(self) -> dict[str, float]:
        """Numbers of facts and objects that a model is asked about, at most."""
        return {kind: most_asked(self.config, self.folder, kind) for kind in ("facts", "objects")}

    def check_gpus(self) -> None:
        """ValueError when no type in `gpus` holds an edit, or the making of what it needs first."""
        if not self.config["gpus"]:
            return
        jobs = set(shard_sizes(self.config, self.models))
        for plan in plans_of(self.config).values():
            of_plan = product(models_of_plan(self.config, plan), editors_of_plan(self.config, plan))
            jobs |= {(model, "coverage", editor) for model, editor in of_plan}
        for model, dataset, editor in sorted(jobs):
            needed = needed_artifacts(self.config["editors"][editor], self.models[model])
            for rule in sorted({ARTIFACTS[name].rule for name in needed} & RULES):
                self.of(rule, "gpu_model", {"model": model})
            self.of("edit", "gpu_model", {"model": model, "dataset": dataset, "editor": editor})

    def _name(self, rule: str, wildcards: Mapping[str, str]) -> str:
        """A job in the words of an error."""
        if (model := wildcards.get("model")) is None:
            return rule
        known = {"shape", "architecture"} & set(self.models[model])
        remedy = ", taken for a model of seven billion weights because its file has no `shape`,"
        by = f" by {wildcards['editor']}" if "editor" in wildcards else ""
        return f"{rule} of {model}{by}{'' if known else remedy}"
