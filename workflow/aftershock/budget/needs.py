"""Resources of each rule's jobs for a scheduler: memory, minutes and GPU, by rule and wildcards."""

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from aftershock.budget.cost import Costs
from aftershock.budget.devices import MB, Device, choose_gpu, find_device, shipped
from aftershock.budget.parts import Need
from aftershock.budget.questions import most_asked
from aftershock.budget.sharding import number_of_cases, shard_sizes
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.settings import needed_artifacts
from aftershock.editors.artifacts import ARTIFACTS

FLOOR_MB, FLOOR_MINUTES = 2000, 30
MARGIN = 3.0
"""Times the estimated minutes that a job asks for."""
HELPERS = {"sample_paraphrases": "model", "score_paraphrases": "ranking_model"}
"""Rules whose model `paraphrases` names, by the key."""
LIKE = {
    **{"baseline_strict": "baseline", "edit_strict": "edit", "probe_unedited": "probe_sequence"},
    **{"run_task_unedited": "run_task", "run_task_of_edits_unedited": "run_task"},
}
"""Rules whose jobs need what those of another one do."""
RULES = {name for name in vars(Costs) if not name.startswith("_")} - {"scored"} | LIKE.keys()
"""All rules that ask for a GPU."""


class Needs:
    """The needs of all jobs of a configuration, on the devices that it names."""

    def __init__(
        self,
        config: Mapping[str, Any],
        models: Mapping[str, Mapping[str, Any]],
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
        kind = choose_gpu(gpus, 0.0 if need.on_host else need.gpu, self._name(rule, wildcards))
        if what == "gpu_model":
            return kind
        seconds = self.seconds(rule, need, shipped()[gpus[kind]] if kind else self.device, shipped()["cpu"])
        return max(FLOOR_MINUTES, round(MARGIN * seconds / 60)) * attempt

    def seconds(self, rule: str, need: Need, device: Device, host: Device) -> float:
        """Seconds of a job of `rule` with this need."""
        precision = "strict" if rule.endswith("_strict") else self.config["engine"]["precision"]
        return need.seconds(device, host, precision)

    def need(self, rule: str, wildcards: Mapping[str, str], listed: int | None = None) -> Need:
        """Needs of a job of `rule`; jobs that differ in their seed, order, part or graph need the same.

        listed: the number of facts or objects that all jobs of the rule ask about; None for a bound.
        """
        job = {name: each for name, each in wildcards.items() if name not in ("kg", "seed", "order", "part")}
        key = (rule, listed, *sorted(job.items()))
        if key not in self._found:
            name = job.pop("model", self.config["models"][0])
            model = self.models[self.config["paraphrases"][HELPERS[rule]] if rule in HELPERS else name]
            given: dict[str, Any] = job | self.asked
            if listed is not None:
                given |= dict.fromkeys(self.asked, listed / self.config["shards"]["questions"])
            if "dataset" in job:
                first, last = map(int, job.get("shard", "1-0").split("-"))
                given["cases"] = last - first + 1 or number_of_cases(self.config, job["dataset"])
            self._found[key] = getattr(Costs(self.config, model, self.device), LIKE.get(rule, rule))(**given)
        return self._found[key]

    @cached_property
    def asked(self) -> dict[str, float]:
        """Numbers of facts and objects of one job that scores them, at most."""
        jobs = self.config["shards"]["questions"]
        return {kind: most_asked(self.config, self.folder, kind) / jobs for kind in ("facts", "objects")}

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
