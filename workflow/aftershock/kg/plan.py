"""Estimate of the requests that mining would send, sending none: `aftershock queries`.

Which requests there are follows from how many facts each relation has about (`approx_facts` in
relations.tsv), so numbers are estimates; the queries are those that are sent. Where a query lists entities,
which are known from earlier answers only, one entity stands for them.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aftershock.kg.client import PageSize
from aftershock.kg.endpoint_source import SUBJECTS
from aftershock.kg.gate import SPACING
from aftershock.kg.graph import Graph, find_graph
from aftershock.kg.logic import BodyRule, LogicRule
from aftershock.kg.names import BATCH as LABELS
from aftershock.kg.queries import Pattern, facts, instances, names, neighbourhood, of_every_rank
from aftershock.kg.sampling import hash_limit
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations
from aftershock.project import PROJECT
from aftershock.schema import fill_defaults, read_schema, suggestion
from aftershock.text_files import read_keys

SECONDS = {"count": 5.0, "list": 30.0, "page": 2.0}  # estimated seconds of one request


@dataclass(frozen=True)
class Step:
    """Requests of one kind."""

    stage: str
    kind: str  # count, list or page
    about: str
    query: str
    requests: int = 1

    @property
    def minutes(self) -> float:
        """Minutes that the requests take, pauses between them included."""
        return self.requests * (SPACING + SECONDS[self.kind]) / 60

    def __str__(self) -> str:
        times = "once" if self.requests == 1 else f"about {self.requests} times, with other entities"
        return f"# {self.stage}, {self.kind}: {self.about}; sent {times}\n{self.query}\n"


def plan(
    graph: Graph,
    approx: Mapping[str, int],
    rules: Sequence[str],
    one_to_many: Sequence[str],
    mining: Mapping[str, Any],
    size: PageSize | None = None,
) -> list[Step]:
    """The requests that mine a graph with about `approx` facts per relation, by the config's `mining`.

    A query that two stages need is there once: its answer is kept. Where it lists entities, each stage asks
    about others.
    """
    planner = _Planner(graph, dict(approx), size or PageSize())
    steps = [
        *planner.sample(mining["max_facts"], mining["seed"]),
        *(
            step
            for rule in rules
            for step in planner.combinations(LogicRule.parse(rule), mining.get("head_holds", True))
        ),
        *(
            step
            for relation_id in one_to_many
            for step in planner.objects(relation_id, mining.get("max_keys"))
        ),
        *planner.true_objects([LogicRule.parse(rule) for rule in rules], mining),
        planner.labels(mining["max_facts"]),
    ]
    stages = {step: step.stage if f"wd:{planner.someone} " in step.query else "" for step in steps}
    return list({(step.query, stages[step]): step for step in reversed(steps)}.values())[::-1]


@dataclass(frozen=True)
class _Planner:
    graph: Graph
    approx: dict[str, int]
    size: PageSize

    def sample(self, max_facts: int, seed: int) -> Iterator[Step]:
        """The relations' facts, all or those around some entities."""
        for relation_id in self.approx:
            yield self.step("sample_facts", "count", relation_id, facts(relation_id).total)
        total = sum(self.approx.values())
        if total <= max_facts:
            for relation_id, number in self.approx.items():
                yield from self.pages("sample_facts", relation_id, facts(relation_id), "s", number)
            return
        limit = hash_limit(max_facts, total)
        for relation_id in self.approx:
            pattern = facts(relation_id)
            pattern = pattern.hashed_below(seed, limit, ("s",)) if limit else pattern
            yield self.step("sample_facts", "count", f"{relation_id}, some subjects", pattern.total)
            yield self.step("sample_facts", "list", f"{relation_id}, some subjects", pattern.counts("s"))
        yield from self.about("sample_facts", list(self.approx), max_facts)

    def about(self, stage: str, relation_ids: Sequence[str], entities: int) -> Iterator[Step]:
        """The facts of some relations about at most so many entities."""
        yield from self.of_entities(stage, "facts", neighbourhood(relation_ids), entities)

    def of_entities(self, stage: str, what: str, pattern: Pattern, entities: int) -> Iterator[Step]:
        """A pattern's solutions whose subjects are at most so many entities."""
        pattern = pattern.among("s", [self.someone])
        text = f"{what} about {SUBJECTS} entities; at most {entities} entities"
        for kind, query in (("count", pattern.total), ("page", pattern.rows)):
            yield self.step(stage, kind, text, query, math.ceil(entities / SUBJECTS))

    def combinations(self, rule: LogicRule, head_holds: bool) -> Iterator[Step]:
        """The instances of a rule: no more than the rarest of its relations has facts, taken one each."""
        asked = rule if head_holds else BodyRule(rule.body, rule.head)
        number = min(self.approx[relation_id] for _, relation_id, _ in asked.facts)
        pattern = instances(asked)
        yield self.step("mine_combinations", "count", str(rule), pattern.total)
        yield from self.pages("mine_combinations", str(rule), pattern, "y", number)

    def objects(self, relation_id: str, max_keys: int | None) -> Iterator[Step]:
        """The subjects with several objects, estimated at a third of a relation's facts."""
        number = self.approx[relation_id] / 3
        number = number if max_keys is None else min(number, max_keys)
        yield self.step("mine_objects", "count", relation_id, facts(relation_id).total)
        yield self.step("mine_objects", "list", relation_id, facts(relation_id).counts("s"))
        several = facts(relation_id).among("s", [self.someone]).rows
        yield self.step("mine_objects", "page", relation_id, several, math.ceil(number / self.size.values))

    def true_objects(self, rules: Sequence[LogicRule], mining: Mapping[str, Any]) -> Iterator[Step]:
        """Yield the steps that ask a sampled graph for all facts of the subjects of cases.

        These are x and y of each rule's instances, and the sampled objects of a binary rule's body. Every
        subject is asked about statements of other ranks, where the graph has these.
        """
        total = sum(self.approx.values())
        known = min(total, mining["max_facts"])
        if total <= mining["max_facts"] or not rules:
            yield from self.of_every_rank(known)
            return
        taken = mining.get("max_combinations", total)
        number = sum(2 * min(taken, *(self.approx[r] for r in rule.relations)) for rule in rules)
        bodies = {rule.body[0] for rule in rules if len(rule.body) == 1}
        number += sum(math.ceil(mining["max_facts"] * self.approx[body] / total) for body in bodies)
        relation_ids = sorted({relation_id for rule in rules for relation_id in rule.relations})
        yield from self.about("mine_true_objects", relation_ids, number)
        yield from self.of_every_rank(known + number)

    def of_every_rank(self, entities: int) -> Iterator[Step]:
        """The statements about at most so many entities."""
        if self.graph.statements:
            pattern = of_every_rank(list(self.approx), self.graph.statements)
            yield from self.of_entities("mine_true_objects", "statements", pattern, entities)

    def labels(self, max_facts: int) -> Step:
        """The names of all entities: at most as many as facts are taken."""
        number = min(max_facts, sum(self.approx.values()))
        query = names([self.someone], self.graph.entities)
        text = f"names of {LABELS} entities; at most {number} entities"
        return self.step("mine_labels", "page", text, query, math.ceil(number / LABELS))

    def pages(self, stage: str, about: str, pattern: Pattern, variable: str, number: int) -> Iterator[Step]:
        """A pattern's solutions: in one request when they are few, else by values of a variable."""
        if number <= self.size.rows:
            yield self.step(stage, "page", about, pattern.rows)
            return
        yield self.step(stage, "list", about, pattern.counts(variable))
        pages = math.ceil(number / self.size.values)
        yield self.step(stage, "page", about, pattern.among(variable, [self.someone]).rows, pages)

    def step(self, stage: str, kind: str, about: str, query: str, requests: int = 1) -> Step:
        return Step(stage, kind, about, self.graph.prefixes + query, requests)

    @property
    def someone(self) -> str:
        """A placeholder entity for those of a page."""
        return f"{self.graph.entity_letter}1"


def read_study(files: Sequence[str | Path]) -> dict[str, Any]:
    """The configuration of a study: config.yaml, then the files, later ones overriding earlier ones."""
    config: dict[str, Any] = {}
    for file in (PROJECT / "config.yaml", *files):
        if not Path(file).is_file():
            raise ValueError(f"there is no study {file}; give the path of a YAML file")
        _update(config, read_keys(file))
    fill_defaults(config, read_schema("config"))
    return config


def plan_study(config: Mapping[str, Any], resources: Path = PROJECT / "resources") -> list[Step]:
    """The steps of mining a study's graph; ValueError when the graph is no service."""
    if config["kg"] not in config["kgs"]:
        raise ValueError(f"kg: {config['kg']!r} is unknown; {suggestion(config['kg'], config['kgs'])}")
    kg = config["kgs"][config["kg"]]
    if kg["source"] != "endpoint":
        raise ValueError(
            f"graph {config['kg']} is read from a file (source: {kg['source']}), so no service is asked; "
            "give a study whose graph has source: endpoint"
        )
    graph = find_graph(kg["namespace"])
    relations = read_relations(resources / "relations.tsv", graph.namespace)
    approx = dict(zip(relations["relation_id"], map(int, relations["approx_facts"]), strict=True))
    mining = config["mining"]
    rules = kept_rules(resources, graph.namespace, mining["rules"], mining["functional_heads"])
    return plan(graph, approx, rules, one_to_many_relations(resources, graph.namespace), mining)


def summarize(steps: Sequence[Step], url: str) -> str:
    """Totals of the steps, as comment lines."""
    took = ", ".join(f"{seconds:.0f} s ({kind})" for kind, seconds in SECONDS.items())
    requests, minutes = sum(step.requests for step in steps), sum(step.minutes for step in steps)
    lines = [
        f"{url} would be sent about {requests} requests, one at a time, in about {minutes:.0f} minutes "
        f"({minutes / 60:.1f} hours):"
    ]
    for stage in dict.fromkeys(step.stage for step in steps):
        own = [step for step in steps if step.stage == stage]
        requests, minutes = sum(step.requests for step in own), sum(step.minutes for step in own)
        lines.append(f"  {stage}: {requests} requests, {minutes:.0f} minutes")
    lines += [
        "Nothing was sent. These are estimates: facts per relation are rough, pages are counted as if a",
        f"value had one row, and a request is thought to take {took}, with {SPACING:.0f} s after each.",
    ]
    return "".join(f"# {line}\n" for line in lines)


def print_queries(files: Sequence[str], folder: Path | None) -> None:
    """Print the queries of a study, or write them to a folder, one file each."""
    config = read_study(files)
    steps = plan_study(config)
    summary = summarize(steps, config["kgs"][config["kg"]]["url"])
    if folder is None:
        print("\n".join([*map(str, steps), summary]))
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number, step in enumerate(steps, start=1):
        file = folder / f"{number:03d}-{step.stage}-{step.kind}.rq"
        file.write_text(str(step), encoding="utf-8")
    print(f"{len(steps)} queries are in {folder}\n{summary}")


def _update(config: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Merge `more` into `config` as Snakemake merges configuration files."""
    for key, value in more.items():
        if isinstance(value, Mapping) and isinstance(config.get(key), dict):
            _update(config[key], value)
        else:
            config[key] = value
