"""A study on published files: their rows are read and checked instead of cases being built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from aftershock.datasets.build import Dataset, tabulate
from aftershock.datasets.conflict import ConflictCase
from aftershock.datasets.graph_facts import Context, Fact, as_facts
from aftershock.datasets.released import FILES, PROMPT_FILES, Published, prompt_kind, read_cases, read_prompts
from aftershock.datasets.round_edit import RoundCase
from aftershock.datasets.statements import cases_of
from aftershock.datasets.table import CONFLICT, DATASETS
from aftershock.prompts import split
from aftershock.seeds import generator
from aftershock.tables.graph import FACTS, PROMPTS, RELATIONS
from aftershock.tables.models import TAUGHT


@dataclass(frozen=True)
class Folder:
    """The sampled rows of each file of a folder, and the facts stated in all its rows."""

    files: Mapping[str, Published]  # all rows, by dataset
    sampled: Mapping[str, Sequence[int]]  # row numbers in the sample, by dataset
    facts: frozenset[Fact]
    labels: Mapping[str, str]

    @classmethod
    def read(cls, path: str, datasets: Sequence[str], sample: int, seed: int) -> "Folder":
        """Read the files of `datasets` and draw up to `sample` rows of each; no label may be empty."""
        unknown = sorted(set(datasets) - set(DATASETS))
        if unknown:
            raise ValueError(f"unknown datasets {unknown}; known: {', '.join(DATASETS)}")
        files = {name: read_cases(path, name) for name in datasets}
        sampled, facts = {}, set()
        labels: dict[str, str] = {}
        for name, published in files.items():
            order = generator(seed, "released", name).permutation(len(published.rows))
            sampled[name] = sorted(order[:sample].tolist())
            facts.update(as_facts(published.truths))
            entities = published.entities
            empty = entities[entities["label"].str.strip() == ""]
            if len(empty):
                row, entity_id, _ = empty.iloc[0]
                raise ValueError(f"{path}/{FILES[name]}: row {row}: {entity_id} has an empty label")
            labels |= dict(zip(entities["entity_id"], entities["label"], strict=True))
        return cls(files, sampled, frozenset(facts), labels)

    def chosen(self, dataset: str) -> list[ConflictCase] | list[RoundCase]:
        """The sampled cases of `dataset`."""
        return cases_of(dataset, self.files[dataset].take(self.sampled[dataset]))

    def fact_table(self) -> pd.DataFrame:
        """Every stated fact as a FACTS row."""
        frame = self._labelled(sorted(self.facts))
        return frame.assign(kept=True, reason=None)[list(FACTS.columns)]

    def asked(self) -> pd.DataFrame:
        """TAUGHT rows of the tied facts and first edits' facts of the sample: what a model must know."""
        facts = set()
        for dataset in self.files:
            for case in self.chosen(dataset):
                if isinstance(case, ConflictCase):
                    facts |= {case.first.old} | ({case.tied} if case.tied else set())
        return self._labelled(sorted(facts))

    def asked_objects(self) -> pd.DataFrame:
        """TAUGHT rows of all true objects of the sampled round cases."""
        facts = {
            Fact(*case.key, object_id)
            for dataset in self.files
            for case in self.chosen(dataset)
            if isinstance(case, RoundCase)
            for object_id in case.object_ids
        }
        return self._labelled(sorted(facts))

    def relations(self) -> pd.DataFrame:
        """RELATIONS rows measured on the stated facts."""
        frame = self._labelled(sorted(self.facts))
        grouped = frame.groupby("relation_id")
        counts = grouped.agg(
            facts=("object_id", "size"), subjects=("subject_id", "nunique"), objects=("object_id", "nunique")
        )
        counts["functionality"] = counts["subjects"] / counts["facts"]
        counts["inverse_functionality"] = counts["objects"] / counts["facts"]
        return counts.reset_index()[list(RELATIONS.columns)]

    def prompts(self, path: str, kind: str) -> pd.DataFrame:
        """PROMPTS rows of one of the two prompt files, with the edit prompts that the rows carry."""
        names = [name for name in self.files if prompt_kind(name) == kind]
        first: dict[str, str] = {}
        for name in names:
            statements = self.files[name].statements
            first |= dict(zip(statements["relation_id"], statements["prompt"], strict=True))
        paraphrases = read_prompts(path, kind)[0].groupby("relation_id")["template"].agg(list)
        rows = []
        for relation_id, template in sorted(first.items()):
            texts = [template, *paraphrases.get(relation_id, [])]
            for text in texts:
                try:
                    split(text)
                except ValueError as error:
                    name = PROMPT_FILES[kind]
                    raise ValueError(
                        f"{path}: relation {relation_id} in {name} or in a row: {error}"
                    ) from error
            rows += [(relation_id, i, text, "released") for i, text in enumerate(texts)]
        return pd.DataFrame(rows, columns=list(PROMPTS.columns))

    def _labelled(self, facts: Sequence[Fact]) -> pd.DataFrame:
        rows = [(*f, self.labels[f.subject_id], self.labels[f.object_id]) for f in facts]
        return pd.DataFrame(rows, columns=list(TAUGHT.columns))


def build_released(
    dataset: str,
    folder: Folder,
    objects: pd.DataFrame,
    context: Context,
    texts: pd.DataFrame | None = None,
) -> Dataset:
    """The sampled rows of one file as a dataset of test cases; nothing is dropped.

    `objects` are OBJECT_SCORES rows: they say which true objects the model knows. `texts` (LOCAL_COLUMNS) are
    what edits should leave alone.
    """
    labels = {**context.index.labels, **folder.labels}  # targets are in no true fact
    context = replace(context, index=replace(context.index, labels=labels))
    cases: Sequence[ConflictCase | RoundCase] = folder.chosen(dataset)
    if dataset not in CONFLICT:
        known = objects[objects["known"]]
        ids = known.groupby(["subject_id", "relation_id"])["object_id"].agg(frozenset).to_dict()
        cases = [
            replace(case, known_ids=ids.get(case.key, frozenset()))
            for case in cases
            if isinstance(case, RoundCase)
        ]
    return tabulate(dataset, cases, context, texts)
