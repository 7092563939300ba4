"""A dataset of cases, as the tables CASES, EDITS and PROBES."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftershock.cases import CONFLICT, conflict, round_edit
from aftershock.cases.conflict import ConflictCase, Selection
from aftershock.cases.graph_facts import Fact, FactIndex
from aftershock.cases.probes import Probe, conflict_probes, round_probes
from aftershock.cases.round_edit import RoundCase
from aftershock.cases.split import components, split_entities
from aftershock.seeds import generator
from aftershock.tables import CASES, EDITS, PROBES

SPLITS = ("test", "dev", "train")


@dataclass(frozen=True)
class Dataset:
    """Cases with their edits and probes, and a count of candidates kept and dropped."""

    cases: pd.DataFrame
    edits: pd.DataFrame
    probes: pd.DataFrame
    counts: pd.DataFrame  # split, reason, candidates


@dataclass(frozen=True)
class Sources:
    """What the cases of a graph and a model are made from."""

    instances: pd.DataFrame  # INSTANCES
    objects: pd.DataFrame  # OBJECT_SCORES
    index: FactIndex
    functionality: Mapping[str, float]
    prompts: Mapping[str, str]  # edit prompt of each relation


def build(dataset: str, sources: Sources, settings: Mapping) -> Dataset:
    """Build `dataset` with the `cases` section of the configuration.

    Fewer cases than the quota are no error: `counts` says why candidates were dropped.
    """
    instances = sources.instances[sources.instances["kept"]]
    splits = split_entities(instances, sources.objects, settings["split"], settings["seed"])
    rows = _Rows(dataset, sources, settings["seed"])
    counts = []
    for split in SPLITS:
        quota = settings["quotas"][split].get(dataset, 0)
        if dataset in CONFLICT:
            chosen, dropped = conflict.select(
                dataset, split, quota, instances, sources.index, splits, _selection(sources, settings)
            )
            rows.add_conflict(split, chosen, settings)
        else:
            chosen, dropped = round_edit.select(
                dataset,
                split,
                quota,
                sources.objects,
                sources.index,
                splits,
                settings["min_known_objects"],
                settings["seed"],
            )
            rows.add_round(split, chosen, settings)
        counts += [(split, "kept", len(chosen)), *((split, reason, n) for reason, n in sorted(dropped.items()))]
    return rows.tables(pd.DataFrame(counts, columns=["split", "reason", "candidates"]))


def _selection(sources: Sources, settings: Mapping) -> Selection:
    return Selection(
        sources.functionality,
        settings["functionality"],
        settings["strict_only"],
        settings["max_per_first_edit"],
        settings["seed"],
    )


class _Rows:
    """Collects the rows of the three tables while cases are added in order."""

    def __init__(self, dataset: str, sources: Sources, seed: int) -> None:
        self.dataset, self.sources, self.seed = dataset, sources, seed
        self.index = sources.index
        self.cases: list[dict] = []
        self.edits: list[dict] = []
        self.probes: list[dict] = []
        self.entities: list[tuple[str, ...]] = []

    def add_conflict(self, split: str, chosen: Sequence[ConflictCase], settings: Mapping) -> None:
        for position, case in enumerate(chosen):
            rng = generator(self.seed, "controls", self.dataset, split, position)
            others = unrelated(case, chosen, rng)
            functionality = self.sources.functionality.get(case.clash, 0.0)
            case_id = self._case(
                split,
                case.rule,
                functionality >= settings["functionality"],
                functionality,
                tied_known=self.index.knows(case.tied) if case.tied else None,
            )
            self.entities.append(case.entities)
            edits = {"e1": case.first, "e2": case.second}
            if others:
                edits["control"] = others[0].second
            for name, edit in edits.items():
                self._edit(case_id, name, 0, edit.new, edit.old_id)
            self._probes(case_id, conflict_probes(self.dataset, case, others, self.index, rng))

    def add_round(self, split: str, chosen: Sequence[RoundCase], settings: Mapping) -> None:
        for position, case in enumerate(chosen):
            rng = generator(self.seed, "controls", self.dataset, split, position)
            strangers = [other for other in chosen if other.subject_id != case.subject_id]
            control = strangers[rng.integers(len(strangers))] if strangers else None
            case_id = self._case(
                split,
                f"1-N@{case.relation_id}",
                True,  # the way back restores a truth; nothing false is left that could coexist
                self.sources.functionality.get(case.relation_id, 0.0),
                n_objects=len(case.object_ids),
                n_known=len(case.known_ids),
            )
            self.entities.append((case.subject_id,))
            self._edit(case_id, "e1", 0, Fact(*case.key, case.target_id), case.original_id)
            self._edit(case_id, "e2", 0, Fact(*case.key, case.original_id), case.target_id)
            for i, object_id in enumerate(case.object_ids):
                self._edit(case_id, "multi", i, Fact(*case.key, object_id), case.target_id)
            self._probes(case_id, round_probes(case, control))

    def _case(self, split: str, rule: str, strict: bool, functionality: float, **counts) -> int:
        case_id = len(self.cases)
        row = {"case_id": case_id, "split": split, "rule": rule, "strict": strict}
        row |= {"functionality": functionality, "tied_known": None, "n_objects": 0, "n_known": 0}
        self.cases.append(row | counts)
        return case_id

    def _edit(self, case_id: int, name: str, position: int, new: Fact, old_id: str) -> None:
        labels = self.index.labels
        self.edits.append(
            {
                "case_id": case_id,
                "edit": name,
                "position": position,
                "subject_id": new.subject_id,
                "subject": labels[new.subject_id],
                "relation_id": new.relation_id,
                "prompt": self.sources.prompts[new.relation_id],
                "target_new_id": new.object_id,
                "target_new": labels[new.object_id],
                "target_true_id": old_id,
                "target_true": labels[old_id],
            }
        )

    def _probes(self, case_id: int, probes: Sequence[Probe]) -> None:
        probes = list(probes)
        numbers = {fact: i for i, fact in enumerate(dict.fromkeys(fact for _, fact, _ in probes))}
        wide = {fact for _, fact, prompts in probes if prompts == "all"}
        positions: Counter = Counter()
        for role, fact, prompts in probes:
            self.probes.append(
                {
                    "case_id": case_id,
                    "role": role,
                    "position": positions[role],
                    "probe_id": numbers[fact],
                    "subject_id": fact.subject_id,
                    "subject": self.index.labels[fact.subject_id],
                    "relation_id": fact.relation_id,
                    "object_id": fact.object_id,
                    "object": self.index.labels[fact.object_id],
                    "prompts": "all" if fact in wide else prompts,
                }
            )
            positions[role] += 1

    def tables(self, counts: pd.DataFrame) -> Dataset:
        cases = pd.DataFrame(self.cases, columns=[c for c in CASES.columns if c != "cluster"])
        cases["tied_known"] = cases["tied_known"].astype("boolean")
        clusters = components((entities[0], other) for entities in self.entities for other in entities)
        numbers = {name: i for i, name in enumerate(sorted(set(clusters.values())))}
        cases["cluster"] = [numbers[clusters[entities[0]]] for entities in self.entities]
        edits = pd.DataFrame(self.edits, columns=list(EDITS.columns))
        probes = pd.DataFrame(self.probes, columns=list(PROBES.columns))
        return Dataset(cases[list(CASES.columns)], edits, probes, counts)


def unrelated(
    case: ConflictCase, chosen: Sequence[ConflictCase], rng: np.random.Generator
) -> list[ConflictCase]:
    """The cases of `chosen` that share no subject with `case`, in random order, those of its rule first.

    Cases of the same rule and relation come first, so that a borrowed second edit differs from the case's own
    in nothing but the facts.
    """
    own = {*case.entities, case.second.subject_id}
    strangers = [c for c in chosen if not own & {*c.entities, c.second.subject_id, c.first.subject_id}]
    shuffled = [strangers[i] for i in rng.permutation(len(strangers))]
    return sorted(shuffled, key=lambda c: (c.rule != case.rule, c.second.relation_id != case.second.relation_id))
