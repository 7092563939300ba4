"""A study on published files: their rows are read and checked instead of cases being built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from aftershock.cases import CONFLICT, DATASETS
from aftershock.cases import released as fmt
from aftershock.cases.build import Dataset, tabulate
from aftershock.cases.graph_facts import Context, Fact, FactIndex
from aftershock.cases.invariants import violations
from aftershock.prompts import split
from aftershock.seeds import generator
from aftershock.tables import FACTS, PROMPTS, RELATIONS, TAUGHT


@dataclass(frozen=True)
class Folder:
    """The sampled rows of each file of a folder, and what all its rows say."""

    rows: Mapping[str, Sequence[fmt.Row]]  # all rows, by dataset
    sampled: Mapping[str, Sequence[int]]  # row numbers in the sample, by dataset
    facts: frozenset[Fact]
    labels: Mapping[str, str]

    @classmethod
    def read(cls, path: str, datasets: Sequence[str], sample: int, seed: int) -> "Folder":
        """Read and check the files of `datasets` and draw up to `sample` rows of each."""
        unknown = sorted(set(datasets) - set(DATASETS))
        if unknown:
            raise ValueError(f"unknown datasets {unknown}; known: {', '.join(DATASETS)}")
        rows = {name: fmt.read_rows(path, name) for name in datasets}
        every = [row for part in rows.values() for row in part]
        sampled = {
            name: sorted(generator(seed, "released", name).permutation(len(part))[:sample].tolist())
            for name, part in rows.items()
        }
        labels = {}
        for row in every:
            labels |= fmt.labels_of(row)
        return cls(rows, sampled, frozenset(f for row in every for f in fmt.triples(row)), labels)

    def chosen(self, dataset: str) -> list:
        """The sampled cases of `dataset`."""
        return [fmt.to_case(dataset, self.rows[dataset][i]) for i in self.sampled[dataset]]

    def fact_table(self) -> pd.DataFrame:
        """Every stated fact as a FACTS row."""
        frame = self._labelled(sorted(self.facts))
        return frame.assign(kept=True, reason=None)[list(FACTS.columns)]

    def asked(self) -> pd.DataFrame:
        """TAUGHT rows of the tied facts and first edits' facts of the sample: what a model must know."""
        facts = set()
        for dataset in self.rows:
            if dataset in CONFLICT:
                for case in self.chosen(dataset):
                    facts |= {case.first.old} | ({case.tied} if case.tied else set())
        return self._labelled(sorted(facts))

    def asked_objects(self) -> pd.DataFrame:
        """TAUGHT rows of all true objects of the sampled round cases."""
        facts = {
            Fact(*case.key, object_id)
            for dataset in self.rows
            if dataset not in CONFLICT
            for case in self.chosen(dataset)
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
        names = [name for name in self.rows if fmt.prompt_kind(name) == kind]
        first = fmt.edit_prompts(row for name in names for row in self.rows[name])
        paraphrases = fmt.read_paraphrases(path, kind)
        rows = []
        for relation_id, template in sorted(first.items()):
            texts = [template, *paraphrases.get(relation_id, [])]
            for text in texts:
                try:
                    split(text)
                except ValueError as error:
                    name = fmt.PROMPT_FILES[kind]
                    raise ValueError(
                        f"{path}: relation {relation_id} in {name} or in a row: {error}"
                    ) from error
            rows += [(relation_id, i, text, "released") for i, text in enumerate(texts)]
        return pd.DataFrame(rows, columns=list(PROMPTS.columns))

    def findings(self) -> pd.DataFrame:
        """Oddities of every row: dataset, kind, rows, and the first row number."""
        index = FactIndex(self.facts, dict(self.labels))
        found = []
        for dataset, rows in self.rows.items():
            cases = [fmt.to_case(dataset, row) for row in rows]
            tables = tabulate(dataset, cases, Context(index, fmt.edit_prompts(rows)))
            broken = violations(dataset, tables.edits, tables.probes, index)
            for kind, part in broken.groupby("kind"):
                found.append((dataset, kind, len(part), int(part["case_id"].min())))
        return pd.DataFrame(found, columns=["dataset", "kind", "rows", "first_row"])

    def _labelled(self, facts: Sequence[Fact]) -> pd.DataFrame:
        rows = [(*f, self.labels[f.subject_id], self.labels[f.object_id]) for f in facts]
        return pd.DataFrame(rows, columns=list(TAUGHT.columns))


def build_released(dataset: str, folder: Folder, objects: pd.DataFrame, context: Context) -> Dataset:
    """The sampled rows of one file as a dataset of test cases; nothing is dropped.

    `objects` are OBJECT_SCORES rows: they say which true objects the model knows.
    """
    labels = {**context.index.labels, **folder.labels}  # targets are in no true fact
    context = replace(context, index=replace(context.index, labels=labels))
    cases = folder.chosen(dataset)
    if dataset not in CONFLICT:
        known = objects[objects["known"]]
        ids = known.groupby(["subject_id", "relation_id"])["object_id"].agg(frozenset).to_dict()
        cases = [replace(case, known_ids=ids.get(case.key, frozenset())) for case in cases]
    return tabulate(dataset, cases, context)
