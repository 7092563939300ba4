"""A dataset of cases, as the tables CASES, EDITS and PROBES."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, islice
from typing import Any

import numpy as np
import pandas as pd

from aftershock.datasets import conflict, round_edit
from aftershock.datasets.conflict import ConflictCase, Selection
from aftershock.datasets.graph_facts import Context, Fact
from aftershock.datasets.probes import (
    IN_CONTEXT,
    TEXTS,
    Neighbours,
    Probe,
    Texts,
    conflict_probes,
    round_probes,
)
from aftershock.datasets.round_edit import RoundCase, RoundSelection
from aftershock.datasets.split import components, home_of
from aftershock.datasets.table import CONFLICT, SPLITS
from aftershock.datasets.targets import nth_left
from aftershock.matching import normal
from aftershock.seeds import generator
from aftershock.tables.cases import CASES, EDITS, PROBES

COUNTS = ["split", "rule", "reason", "candidates"]
STRANGERS = 8  # unrelated cases that lend a case its controls


@dataclass(frozen=True)
class Dataset:
    """Cases with their edits and probes, and a count of candidates kept and dropped."""

    cases: pd.DataFrame
    edits: pd.DataFrame
    probes: pd.DataFrame
    counts: pd.DataFrame | None = None  # COUNTS; None when read back


def build(
    dataset: str,
    instances: pd.DataFrame,
    scores: pd.DataFrame,
    splits: Mapping[str, str],
    context: Context,
    settings: Mapping,
    texts: pd.DataFrame | None = None,
) -> Dataset:
    """Build `dataset` from INSTANCES and OBJECT_SCORES with the `cases` section of the configuration.

    `splits` has the split of each entity, `texts` (LOCAL_COLUMNS) what edits should leave alone. Fewer cases
    than the quota are no error: `counts` says why candidates were dropped.
    """
    kept = instances[instances["kept"]].sort_values(conflict.COLUMNS)
    homes, homes_of_keys = home_of(kept, splits), scores["subject_id"].map(splits)
    context = replace(context, index=context.index.with_rules(kept["rule"]))
    rows = _Rows(dataset, context, splits, texts)
    counts = []
    chosen: Sequence[ConflictCase | RoundCase]
    for split in SPLITS:
        quotas = settings["quotas"][split]
        if dataset in CONFLICT:
            mine = kept[homes == split]
            quota = quotas.get(dataset, 0)
            chosen, dropped = conflict.select(
                dataset, split, quota, mine, splits, _selection(context, settings)
            )
        else:
            mine = scores[homes_of_keys == split]
            selection = round_selection(settings, context.seed)
            chosen, dropped = round_edit.select(
                dataset, split, quotas, mine, context.index, splits, selection
            )
        rows.add(split, chosen)
        counts += _counts(split, chosen, dropped)
    return rows.tables(pd.DataFrame(counts, columns=COUNTS))


def _selection(context: Context, settings: Mapping) -> Selection:
    return Selection(
        context,
        settings["strict_only"],
        settings["max_per_first_edit"],
        settings["max_per_tied_fact"],
        settings["max_per_object"],
        settings["balance_targets"],
    )


def round_selection(settings: Mapping, seed: int) -> RoundSelection:
    """Selection of round cases by the `cases` section of the configuration."""
    return RoundSelection(
        settings["min_known_objects"], settings["object_counts"], settings["balance_targets"], seed
    )


def _counts(split: str, chosen: Sequence[ConflictCase | RoundCase], dropped: Counter) -> list[tuple]:
    """COUNTS rows: kept candidates by rule, then the others by reason and rule."""
    kept = Counter(case.rule for case in chosen)
    rows = [(split, rule, "kept", n) for rule, n in sorted(kept.items())] or [(split, "", "kept", 0)]
    lost = sorted((reason, rule, n) for (rule, reason), n in dropped.items() if n)
    return [*rows, *((split, rule, reason, n) for reason, rule, n in lost)]


def tabulate(
    dataset: str,
    cases: Sequence[ConflictCase | RoundCase],
    context: Context,
    texts: pd.DataFrame | None = None,
) -> Dataset:
    """The tables of given `cases`, all of them test cases; `texts` as in `build`."""
    rows = _Rows(dataset, context, {}, texts)
    rows.add("test", cases)
    return rows.tables(pd.DataFrame(_counts("test", cases, Counter()), columns=COUNTS))


class _Rows:
    """Collects the rows of the three tables while cases are added in order."""

    def __init__(
        self, dataset: str, context: Context, splits: Mapping[str, str], texts: pd.DataFrame | None
    ) -> None:
        self.dataset, self.context, self.index = dataset, context, context.index
        self.texts = Texts(texts) if texts is not None and dataset == "coverage" else None
        self.labels = {**self.index.labels, **self.texts.labels} if self.texts else self.index.labels
        self.name = cache(lambda entity: normal(self.index.labels[entity]))
        self.near = Neighbours(context.index, splits)
        self.cases: list[dict] = []
        self.edits: list[dict] = []
        self.probes: list[dict] = []
        self.entities: list[tuple[str, ...]] = []

    def add(self, split: str, chosen: Sequence[ConflictCase | RoundCase]) -> None:
        self.near = self.near.of(split)
        self.places = defaultdict(list)
        for place, case in enumerate(chosen):
            self.places[self.name(case.entities[0])].append(place)
        add: Callable[..., None] = self._add_conflict if self.dataset in CONFLICT else self._add_round
        for position, case in enumerate(chosen):
            add(split, case, chosen, generator(self.context.seed, "controls", self.dataset, split, position))

    def _add_conflict(
        self, split: str, case: ConflictCase, chosen: Sequence[ConflictCase], rng: np.random.Generator
    ) -> None:
        others = unrelated(case, chosen, self.name, rng)
        strict = self.context.strict(case.clash)
        more: dict[str, Any] = {"tied_known": self.index.knows(case.tied) if case.tied else None}
        more["implied"] = self.context.inference(case.rule) if self.dataset != "coverage" else "stated"
        case_id = self._case(split, case.rule, strict, case.clash, **more)
        self.entities.append(case.entities)
        edits = {"e1": case.first, "e2": case.second}
        if others:
            edits["control"] = others[0].second
        for name, edit in edits.items():
            self._edit(case_id, name, 0, edit.new, edit.old_id)
        probes = list(conflict_probes(self.dataset, case, others, self.near, rng))
        if self.texts and split == "test":
            subjects = {self.labels[edit.subject_id] for edit in (case.first, case.second)}
            own = generator(self.context.seed, "locality texts", case_id)
            probes += self.texts.draw(subjects, TEXTS, own)
        self._probes(case_id, probes)

    def _add_round(
        self, split: str, case: RoundCase, chosen: Sequence[RoundCase], rng: np.random.Generator
    ) -> None:
        own = self.places[self.name(case.subject_id)]
        left = len(chosen) - len(own)
        control = chosen[nth_left(int(rng.integers(left)), own)] if left else None
        # The second edit restores a truth: nothing false is left that could hold beside it.
        counts = {"n_objects": len(case.object_ids), "n_known": len(case.known_ids)}
        case_id = self._case(split, case.rule, True, case.relation_id, **counts)
        self.entities.append(case.entities)
        self._edit(case_id, "e1", 0, Fact(*case.key, case.target_id), case.original_id)
        self._edit(case_id, "e2", 0, Fact(*case.key, case.original_id), case.target_id)
        for i, object_id in enumerate(case.object_ids):
            self._edit(case_id, "multi", i, Fact(*case.key, object_id), case.target_id)
        for i, object_id in enumerate(filter(None, self._related(case.original_id))):
            self._edit(case_id, "related", i, Fact(*case.key, object_id), case.target_id)
        self._probes(case_id, list(round_probes(case, control)))

    def _related(self, object_id: str) -> tuple[str, str | None]:
        """An object and its neighbour in the same split, unless that has the same label."""
        other = self.context.neighbour(object_id, self.near.splits, self.near.split)
        labels = self.index.labels
        alike = other is not None and normal(labels[other]) == normal(labels[object_id])
        return object_id, None if alike else other

    def _case(self, split: str, rule: str, strict: bool, clash: str, **more: Any) -> int:
        case_id = len(self.cases)
        row = {"case_id": case_id, "split": split, "rule": rule, "strict": strict}
        row["functionality"] = self.context.functionality.get(clash, 0.0)
        self.cases.append(row | {"tied_known": None, "implied": None, "n_objects": 0, "n_known": 0} | more)
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
                "prompt": self.context.prompts[new.relation_id],
                "target_new_id": new.object_id,
                "target_new": labels[new.object_id],
                "target_true_id": old_id,
                "target_true": labels[old_id],
            }
        )

    def _probes(self, case_id: int, probes: Sequence[Probe]) -> None:
        asked = dict.fromkeys((fact, prompts == IN_CONTEXT) for _, fact, prompts in probes)
        numbers = {key: i for i, key in enumerate(asked)}
        wide = {fact for _, fact, prompts in probes if prompts == "all"}
        positions: Counter = Counter()
        for role, fact, prompts in probes:
            self.probes.append(
                {
                    "case_id": case_id,
                    "role": role,
                    "position": positions[role],
                    "probe_id": numbers[fact, prompts == IN_CONTEXT],
                    "subject_id": fact.subject_id,
                    "subject": self.labels[fact.subject_id],
                    "relation_id": fact.relation_id,
                    "object_id": fact.object_id,
                    "object": self.labels[fact.object_id],
                    "prompts": "all" if fact in wide and prompts != IN_CONTEXT else prompts,
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
    case: ConflictCase,
    chosen: Sequence[ConflictCase],
    name: Callable[[str], str],
    rng: np.random.Generator,
) -> list[ConflictCase]:
    """A few cases of `chosen` that share no subject's `name` with `case`, in random order.

    Cases of the same rule whose second edit has the same relation come first, so that a borrowed second edit
    differs from the case's own in nothing but the facts.
    """
    own = set(map(name, (*case.entities, case.second.subject_id)))

    def is_stranger(other: ConflictCase) -> bool:
        return own.isdisjoint(map(name, (*other.entities, other.first.subject_id, other.second.subject_id)))

    def kind(other: ConflictCase) -> tuple[str, str]:
        return other.rule, other.second.relation_id

    order = rng.permutation(len(chosen))
    alike = (chosen[i] for i in order if kind(chosen[i]) == kind(case) and is_stranger(chosen[i]))
    different = (chosen[i] for i in order if kind(chosen[i]) != kind(case) and is_stranger(chosen[i]))
    return list(islice(chain(alike, different), STRANGERS))
