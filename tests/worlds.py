"""Graphs mined as a run mines them, small enough for tests."""

import gzip
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import yaml

from aftershock.datasets.asked import facts_of_instances
from aftershock.datasets.build import Dataset, build
from aftershock.datasets.graph_facts import Context, FactIndex
from aftershock.datasets.split import split_entities, splits_of
from aftershock.datasets.table import DATASETS
from aftershock.kg.combinations import find_combinations, find_objects
from aftershock.kg.filters import Limits, Names, complete, filter_facts, filter_instances, filter_objects
from aftershock.kg.graph import GRAPHS
from aftershock.kg.labels import find_labels
from aftershock.kg.logic import LogicRule
from aftershock.kg.rules import Thresholds, mine_rules
from aftershock.kg.sample import sample_facts
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations, read_rules
from aftershock.kg.source import Source, connect
from aftershock.kg.store import load_triples
from aftershock.kg.triples import write_triples
from aftershock.kg.true_objects import find_true_objects, keys_of_cases
from aftershock.kg.world import generate_world
from aftershock.seeds import generator
from aftershock.tables.graph import INSTANCES
from families import SETTINGS

ROOT = Path(__file__).parents[1]
RESOURCES = ROOT / "resources"
SLICE = ROOT.parent / "shared" / "data" / "wikidata-slice.nt.gz"
SHARES = {"test": 0.6, "dev": 0.2, "train": 0.2}


@dataclass(frozen=True)
class Asked:
    """A graph's answers to a run."""

    namespace: str
    found: Mapping[str, tuple[pd.DataFrame, Counter]]
    """The sample, COMBINATIONS of each rule and OBJECTS of each key, all with what was left out."""
    combinations: pd.DataFrame
    objects: pd.DataFrame
    whole: pd.DataFrame
    """The facts of all these."""
    true_objects: pd.DataFrame
    """Further true facts of subjects that cases may edit."""
    labels: pd.DataFrame
    names: Names


@dataclass(frozen=True)
class Mined:
    """Tables of a graph before a model is asked."""

    namespace: str
    facts: pd.DataFrame
    instances: pd.DataFrame
    objects: pd.DataFrame
    relations: pd.DataFrame  # measured

    @property
    def sheet(self) -> pd.DataFrame:
        """The graph's rows of relations.tsv."""
        return read_relations(RESOURCES / "relations.tsv", self.namespace)

    def context(self, seed: int = 0) -> Context:
        """All facts are known to the model."""
        index = FactIndex.from_frames(self.facts, facts_of_instances(self.instances).assign(known=True))
        prompts = self.sheet.rename(columns={"prompt": "template"}).assign(prompt_id=0)
        return Context.from_frames(index, prompts, self.relations, self.sheet, 0.9, seed)

    def scores(self, seed: int = 0) -> pd.DataFrame:
        """OBJECT_SCORES of a model that knows every object; similarities are random."""
        found = self.objects.assign(probability=0.5, rank=1, known=True)
        return found.assign(similarity=generator(seed, "similarity").random(len(found)))

    def division(self, seed: int = 0) -> pd.DataFrame:
        """SPLIT rows."""
        return split_entities(self.instances, self.objects, self.facts, SHARES, seed)


def ask(source: Source, namespace: str, max_facts: int = 1_000_000) -> Asked:
    """All that a run asks of a graph with the rules and relations of the sheets."""
    relation_ids = read_relations(RESOURCES / "relations.tsv", namespace)["relation_id"].tolist()
    found = {"sample": sample_facts(source, relation_ids, max_facts, seed=0)}
    rules = kept_rules(RESOURCES, namespace)
    found |= {rule: find_combinations(source, LogicRule.parse(rule), 50_000, 0) for rule in rules}
    keys = one_to_many_relations(RESOURCES, namespace)
    found |= {relation_id: find_objects(source, relation_id) for relation_id in keys}
    sample = found["sample"][0]
    combinations = pd.concat([found[rule][0] for rule in rules], ignore_index=True)
    objects = pd.concat([found[relation_id][0] for relation_id in keys], ignore_index=True)
    whole = complete(sample, combinations, objects, head_holds=True)
    keys_asked = keys_of_cases(sample, combinations, objects)
    beside, _ = find_true_objects(source, keys_asked, pd.concat([sample, objects]))
    pairs = [part[["subject_id", "object_id"]] for part in (whole, beside)]
    ids = [*pairs, combinations[["x_id", "y_id", "z_id"]]]
    seen = {entity for part in ids for entity in pd.unique(part.to_numpy().ravel())}
    labels = find_labels(source, seen)
    names = Names(labels, GRAPHS[namespace])
    return Asked(namespace, found, combinations, objects, whole, beside, labels, names)


def mine(asked: Asked) -> Mined:
    """Mine and filter the answers as a run does."""
    relation_ids = read_relations(RESOURCES / "relations.tsv", asked.namespace)["relation_id"].tolist()
    sheet = read_rules(RESOURCES / "rules.tsv", asked.namespace)
    _, relations = mine_rules(asked.found["sample"][0], relation_ids, sheet, Thresholds())
    facts = filter_facts(asked.whole, asked.names, beside=asked.true_objects)
    instances = filter_instances(asked.combinations, facts, asked.names, Limits(100, 10))
    objects, _ = filter_objects(asked.objects, asked.names)
    return Mined(asked.namespace, facts, instances, objects, relations)


def ask_world(folder: Path, seed: int = 0, max_facts: int = 1_000_000, more: str = "") -> Asked:
    """All that a run asks of the generated world of resources/world.yaml, and `more` lines of triples."""
    spec = yaml.safe_load((RESOURCES / "world.yaml").read_text(encoding="utf-8"))
    write_triples(generate_world(spec, seed), folder / "world.nt.gz")
    with gzip.open(folder / "world.nt.gz", "at") as file:
        file.write(more)
    load_triples(folder / "world.nt.gz", folder / "store")
    with connect({"namespace": "world"}, folder / "store") as source:
        return ask(source, "world", max_facts)


def mine_world(folder: Path, seed: int = 0) -> Mined:
    """The generated world, mined as a run mines it."""
    return mine(ask_world(folder, seed))


def joined(sample: pd.DataFrame, rules: list[str]) -> pd.DataFrame:
    """The instances of `rules` among facts, by following every fact."""
    facts = list(sample.itertuples(index=False, name=None))
    true, after = set(facts), {}
    for s, r, o in facts:
        after.setdefault((s, r), []).append(o)
    rows = set()
    for text in rules:
        rule = LogicRule.parse(text)
        for x, _, y in (fact for fact in facts if fact[1] == rule.body[0]):
            if len(rule.body) == 1 and (y, rule.head, x) in true and x != y:
                rows.add((text, x, y, x))
            for z in after.get((y, rule.body[1]), ()) if len(rule.body) == 2 else ():
                if (x, rule.head, z) in true and len({x, y, z}) == 3:
                    rows.add((text, x, y, z))
    return pd.DataFrame(sorted(rows), columns=["rule", "x_id", "y_id", "z_id"])


def random_world(seed: int) -> Mined:
    """A few dozen facts without rhyme or reason, some entities sharing a label, filtered like mined ones."""
    rng = generator(seed, "random world")
    people, things = [f"E{i}" for i in range(1, 15)], [f"E{i}" for i in range(20, 28)]
    rows = set()
    for _ in range(70):
        s, o = rng.choice(people, 2)
        relation_id = str(rng.choice(["R1", "R2", "R3"]))
        rows |= {(str(s), relation_id, str(o))} | ({(str(o), "R1", str(s))} if relation_id == "R1" else set())
        rows.add((str(s), str(rng.choice(["R20", "R21"])), str(rng.choice(things))))
    sample = pd.DataFrame(sorted(rows), columns=["subject_id", "relation_id", "object_id"])
    sample = sample[sample["subject_id"] != sample["object_id"]].reset_index(drop=True)
    names = {e: f"Name {rng.integers(20)}" for e in people} | {e: f"Thing {rng.integers(12)}" for e in things}
    table = pd.DataFrame({"entity_id": list(names), "label": list(names.values())})
    labels = Names(table.assign(language="en", redirect=None), GRAPHS["world"])
    facts = filter_facts(sample, labels)
    found = joined(sample, ["R1>R1", "R2>R3", "R2&R1>R3", "R3&R1>R2"])
    instances = filter_instances(found.reset_index(drop=True), facts, labels, Limits(100, 10))
    several = sample[sample["relation_id"].isin(["R20", "R21"])]
    objects, _ = filter_objects(several.reset_index(drop=True), labels)
    relations = pd.DataFrame({"relation_id": ["R1", "R2", "R3"], "functionality": rng.random(3)})
    return Mined("world", facts, instances[list(INSTANCES.columns)], objects, relations)


def build_all(mined: Mined, settings: Mapping, seed: int = 0) -> dict[str, Dataset]:
    """Every dataset, with one split for all."""
    splits, context, scores = splits_of(mined.division(seed)), mined.context(seed), mined.scores(seed)
    return {name: build(name, mined.instances, scores, splits, context, settings) for name in DATASETS}


def hash_tables(folder: Path) -> list[str]:
    """Name, length and hash of each table of all datasets of the generated world."""
    quotas = {split: dict.fromkeys(DATASETS, 20) for split in SHARES}
    built = build_all(mine_world(folder), {**SETTINGS, "quotas": quotas, "split": SHARES})
    return [
        f"{dataset} {len(table)} {hashlib.sha256(table.to_csv().encode()).hexdigest()}"
        for dataset, made in built.items()
        for table in (made.cases, made.edits, made.probes)
    ]
