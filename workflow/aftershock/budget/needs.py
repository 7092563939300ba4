"""Resources of each rule's jobs for a scheduler: memory, minutes and GPU, by rule and wildcards."""

from collections.abc import Callable, Mapping
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

from aftershock.budget.cost import Need
from aftershock.budget.devices import MB, Device, choose_gpu, find_device, shipped
from aftershock.budget.questions import most_asked
from aftershock.budget.sequences import SequenceCosts
from aftershock.budget.sharding import number_of_cases
from aftershock.budget.study import gpu_jobs

FLOOR_MB, FLOOR_MINUTES = 2000, 30
MARGIN = 3.0
"""Times the estimated minutes that a job asks for."""
HELPERS = {"sample_paraphrases": "model", "score_paraphrases": "ranking_model"}
"""Rules whose model `paraphrases` names, by the key."""


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
        self._costs: dict[str, SequenceCosts] = {}
        self._found: dict[tuple, Need] = {}
        self._asked: dict[tuple, int | str] = {}

    def of(self, rule: str, what: str, wildcards: Mapping[str, str], attempt: int = 1) -> int | str:
        """Amount of `what` that a job of `rule` requests: mem_mb, runtime (minutes), or gpu_model.

        Memory and minutes grow with every attempt. ValueError when no type of `gpus` is large enough.
        """
        key = (rule, what, attempt, *_distinct(wildcards))
        if key not in self._asked:
            self._asked[key] = self._of(rule, what, wildcards, attempt)
        return self._asked[key]

    def need(self, rule: str, wildcards: Mapping[str, str]) -> Need:
        """Needs of a job of `rule`; jobs that differ in their seed or graph need the same."""
        key = (rule, *_distinct(wildcards))
        if key not in self._found:
            self._found[key] = self._need(rule, dict(zip(NAMES, key[1:], strict=True)))
        return self._found[key]

    def _need(self, rule: str, job: dict[str, Any]) -> Need:
        """The function of a rule says by the names of its parameters what it is given of a job."""
        names = signature(RULES[rule]).parameters.keys()
        helper = HELPERS.get(rule)
        model = self.config["paraphrases"][helper] if helper else job["model"] or self.config["models"][0]
        if job["editor"]:
            job["editor"] = self.config["editors"][job["editor"]]
        if job["dataset"] and not job["cases"]:
            job["cases"] = number_of_cases(self.config, job["dataset"])
        given = job | (self.asked if names & {"facts", "objects"} else {})
        return RULES[rule](self.costs(model), **{name: given[name] for name in names & given.keys()})

    def costs(self, model: str) -> SequenceCosts:
        """The costs of a model's jobs."""
        if model not in self._costs:
            self._costs[model] = SequenceCosts(self.config, self.models[model], self.device)
        return self._costs[model]

    @cached_property
    def asked(self) -> dict[str, float]:
        """Numbers of facts and objects of one job that scores them."""
        return {
            kind: most_asked(self.config, self.folder, kind) / self.config["shards"]["questions"]
            for kind in ("facts", "objects")
        }

    def check_gpus(self) -> None:
        """ValueError when a job fits none of the types in `gpus`."""
        if self.config["gpus"]:
            for job in gpu_jobs(self.config, self.models):
                self.of(job.rule, "gpu_model", job.wildcards)

    def _of(self, rule: str, what: str, wildcards: Mapping[str, str], attempt: int) -> int | str:
        need = self.need(rule, wildcards)
        if what == "mem_mb":
            return max(FLOOR_MB, round(need.host / MB)) * attempt
        least = 0.0 if need.on_host else need.gpu
        kind = choose_gpu(self.config["gpus"], least, self._name(rule, wildcards))
        if what == "gpu_model":
            return kind
        device = shipped()[self.config["gpus"][kind]] if kind else self.device
        precision = "strict" if rule.endswith("_strict") else self.config["engine"]["precision"]
        seconds = need.seconds(device, shipped()["cpu"], precision)
        return max(FLOOR_MINUTES, round(MARGIN * seconds / 60)) * attempt

    def _name(self, rule: str, wildcards: Mapping[str, str]) -> str:
        """A job in the words of an error."""
        model = wildcards.get("model", "")
        unknown = model in self.models and not self.costs(model).sizes.known
        remedy = (
            ", taken for a model of seven billion weights because its file has no `shape`," if unknown else ""
        )
        by = f" by {wildcards['editor']}" if "editor" in wildcards else ""
        return f"{rule} of {model}{by}{remedy}" if model else rule


NAMES = ("model", "dataset", "editor", "plan", "task", "checkpoints", "place", "cases")


def _distinct(wildcards: Mapping[str, str]) -> tuple[str | int | None, ...]:
    """Wildcards that the needs of a rule's jobs depend on, in the order of NAMES."""
    shard = wildcards.get("shard")
    first, last = map(int, shard.split("-")) if shard else (1, 0)
    return *(wildcards.get(name) for name in NAMES[:-1]), last - first + 1


RULES: dict[str, Callable[..., Need]] = {
    "train_lm": SequenceCosts.train_lm,
    "gather_text": SequenceCosts.gather_text,
    "moments": SequenceCosts.moments,
    "attention_moments": SequenceCosts.attention_moments,
    "null_space": SequenceCosts.null_space,
    "train_mend": SequenceCosts.train_mend,
    "train_serac": SequenceCosts.train_serac,
    "verify_facts": SequenceCosts.verify_facts,
    "score_objects": SequenceCosts.score_objects,
    "baseline": SequenceCosts.baseline,
    "tune": SequenceCosts.tune,
    "edit": SequenceCosts.edit,
    "find_layers": SequenceCosts.find_layers,
    "classify_labels": SequenceCosts.classify_labels,
    "sample_paraphrases": SequenceCosts.sample_paraphrases,
    "score_paraphrases": SequenceCosts.score_paraphrases,
    "baseline_strict": SequenceCosts.baseline,
    "edit_strict": SequenceCosts.edit,
}
"""The needs of each rule that requests a GPU; what a function is given stands in `Needs.need`."""
OF_SEQUENCES: dict[str, Callable[..., Need]] = {
    "edit_sequence": SequenceCosts.edit_sequence,
    "edit_among": SequenceCosts.edit_among,
    "probe_unedited": SequenceCosts.probe_sequence,
    "probe_sequence": SequenceCosts.probe_sequence,
    "run_task_unedited": SequenceCosts.run_task,
    "run_task_of_edits_unedited": SequenceCosts.run_task,
    "run_task": SequenceCosts.run_task,
}
"""The needs of the rules of plans of edits."""
RULES |= OF_SEQUENCES
