"""Resources of each rule's jobs for a scheduler, and the division of a run's cases into jobs."""

from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

from aftershock.budget.cost import Costs, Need
from aftershock.budget.devices import GB, MB, Device, choose_gpu, find_device
from aftershock.config.sequences import editors_of_plan, models_of_plan, plans_of
from aftershock.config.settings import merged_settings, needed_artifacts
from aftershock.config.shards import BLOCK, Key, number_of_cases
from aftershock.config.used import editors_of_dataset
from aftershock.datasets.graph_facts import parse_rule
from aftershock.datasets.table import names_of_kind
from aftershock.editors.artifacts import ARTIFACTS
from aftershock.editors.contract import is_in_order
from aftershock.editors.methods import settings_of
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations

FLOOR_MB, FLOOR_MINUTES = 2000, 30
MARGIN = 3.0
"""Times the estimated minutes that a job asks for."""
HELPERS = {"sample_paraphrases": "model", "score_paraphrases": "ranking_model"}
"""Rules whose model `paraphrases` names, by the key."""
ALIKE = ("kg", "seed", "order", "part")
"""Wildcards that make no difference to what a job needs."""
RULES = {name for name in vars(Costs) if not name.startswith("_")}
"""All rules that ask for a GPU."""
OF_RUN, OF_STUDY = 3, 120
"""Jobs beside those that edit, about: of each run, and of the study its facts, models and report."""
OF_CASE = {"facts": 3.7, "objects": 6.0}  # of a test case in a world made for the run, of all splits
TRIPLE_BYTES = {".nt": 130, ".gz": 13, ".bz2": 13}  # of a line of N-Triples, by the ending of its file
OBJECTS = 3.0  # objects of a subject with several


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
        named = {"of": wildcards.get("model"), "by": wildcards.get("editor")}
        job = " ".join([rule, *(f"{word} {name}" for word, name in named.items() if name)])
        kind = choose_gpu(gpus, need.gpu / GB, job)
        if what == "gpu_model":
            return kind
        seconds = self.seconds(rule, need, find_device(gpus[kind]) if kind else self.device)
        return max(FLOOR_MINUTES, round(MARGIN * seconds / 60)) * attempt

    def seconds(self, rule: str, need: Need, device: Device) -> float:
        """Seconds of a job of `rule` on `device`, with its start."""
        precision = "strict" if rule.endswith("_strict") else self.config["engine"]["precision"]
        read = need.read / GB / device.read_gb_s
        return device.start_seconds + read + device.seconds(need.work, precision)

    def need(self, rule: str, wildcards: Mapping[str, str]) -> Need:
        """Needs of a job of `rule`; jobs that differ in their seed, order, part or graph need the same."""
        job: dict[str, Any] = {name: each for name, each in wildcards.items() if name not in ALIKE}
        key = (rule, *sorted(job.items()))
        if key not in self._found:
            helper = HELPERS.get(rule)
            model = (
                self.config["paraphrases"][helper] if helper else job.get("model", self.config["models"][0])
            )
            if "dataset" in job:
                first, last = map(int, job.get("shard", "1-0").split("-"))
                job["cases"] = last - first + 1 or number_of_cases(self.config, job["dataset"])
            costs = Costs(self.config, self.models[model], self.device)
            self._found[key] = getattr(costs, rule)(**job, **self.asked)
        return self._found[key]

    @cached_property
    def asked(self) -> dict[str, float]:
        """Numbers of facts and objects that a model is asked about, at most."""
        return {kind: most_asked(self.config, self.folder, kind) for kind in OF_CASE}

    def check_gpus(self) -> None:
        """ValueError when no type in `gpus` holds an edit, or the making of what it needs first."""
        pairs = {(model, editor) for model, _, editor in shard_sizes(self.config, self.models)}
        for plan in plans_of(self.config).values():
            pairs |= set(product(models_of_plan(self.config, plan), editors_of_plan(self.config, plan)))
        for model, editor in sorted(pairs) if self.config["gpus"] else ():
            needed = needed_artifacts(self.config["editors"][editor], self.models[model])
            for rule in sorted({ARTIFACTS[name].rule for name in needed} & RULES):
                self.of(rule, "gpu_model", {"model": model})
            self.of("edit", "gpu_model", {"model": model, "dataset": "coverage", "editor": editor})


def most_asked(config: Mapping[str, Any], folder: Path, kind: str) -> float:
    """Return the largest number of `kind` ("facts" or "objects") that a model is asked about.

    A published file has as many as are sampled, a generated world is made for its cases, and of any other
    graph there are at most as many as mining may find, or as its file is large.
    """
    kg, mining, resources = config["kgs"][config["kg"]], config["mining"], folder / "resources"
    if kg["source"] == "none":
        return 0.0
    if kg["source"] in ("released", "generated"):
        datasets = names_of_kind("conflict" if kind == "facts" else "round")
        return OF_CASE[kind] * sum(number_of_cases(config, d) for d in datasets if d in config["datasets"])
    if kind == "facts":
        rules = kept_rules(resources, kg["namespace"], mining["rules"], mining["functional_heads"])
        most = float(mining["max_combinations"] * sum(1 + len(parse_rule(rule)[0]) for rule in rules))
    else:
        relations = one_to_many_relations(resources, kg["namespace"])
        most = OBJECTS * (mining["max_keys"] or float("inf")) * len(relations)
    if kg["source"] == "atlas":  # its file is a specification and no graph
        sheet = read_relations(resources / "relations.tsv", kg["namespace"])
        return min(most, float(sheet["approx_facts"].astype(int).sum()))
    for path in (Path(kg["file"]), folder / kg["file"]) if kg.get("file") else ():
        if path.is_file():
            return min(most, path.stat().st_size / TRIPLE_BYTES.get(path.suffix, TRIPLE_BYTES[".nt"]))
    return most


def shard_sizes(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> dict[Key, int]:
    """Return the cases of each job that edits, by model, dataset and editor: a multiple of 32, or all.

    All sizes double while the study has more jobs than `shards.max_jobs`. Where a study runs and what was
    measured there have no part in it: it is cut the same everywhere.
    """
    cases = {
        (model, dataset, label): number_of_cases(config, dataset)
        for dataset in config["datasets"]
        for model, label in product(config["models"], editors_of_dataset(config, dataset))
    }
    sizes = {key: _first_size(config, models, key, n) for key, n in cases.items()}
    most, seeds = config["shards"]["max_jobs"] - OF_STUDY, len(config["seeds"])
    while not config["shards"]["cases"] and any(sizes[key] < n for key, n in cases.items()):
        if seeds * sum(-(-n // sizes[key]) + OF_RUN for key, n in cases.items()) <= most:
            break
        sizes |= {key: 2 * sizes[key] for key, n in cases.items() if sizes[key] < n}
    return sizes


def _first_size(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], key: Key, n: int) -> int:
    """Return the cases of a job: all where an edit depends on those before it, or `shards.cases`.

    Else the largest of 32, 64, 128 and so on, so that a slightly better estimate renames no file, that
    `shards.device` edits in `shards.minutes`.
    """
    (model, dataset, label), wanted = key, config["shards"]
    editor = config["editors"][label]
    if not n or is_in_order(settings_of(editor["method"], merged_settings(editor, models[model]))):
        return max(n, 1)
    device, size = find_device(wanted["device"]), wanted["cases"] or BLOCK
    work = Costs(config, models[model], device).edit(label, dataset, BLOCK).work
    most = wanted["minutes"] * 60 / device.seconds(work, config["engine"]["precision"]) * BLOCK
    while not wanted["cases"] and size < n and 2 * size <= most:
        size *= 2
    return size
