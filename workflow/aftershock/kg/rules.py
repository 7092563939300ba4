"""Logic rules of a sample with their measures, as AMIE defines them (Galárraga et al., 2013).

A rule predicts head facts from body facts. Its support is the number of head facts that the body predicts,
each counted once; head coverage relates that to all head facts, standard confidence to all predictions, PCA
confidence to the predictions about a subject that has some head fact (about an object, where the head is
rather functional in that direction). Variables of a body may take the same value.
"""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from aftershock.kg.logic import LogicRule

log = logging.getLogger(__name__)

CAUTION = 10  # support at which a suggested rule gets half of its score
MEASURES = ("support", "head_coverage", "std_confidence", "pca_confidence")

INVERSES = """
    SELECT b.r AS body, -1 AS body2, h.r AS head, count(*) AS support
    FROM facts h JOIN facts b ON b.s = h.o AND b.o = h.s
    GROUP BY ALL"""

# From the head facts outwards: subjects have few facts, objects can have very many.
CHAINS = """
    SELECT body, body2, head, count(*) AS support FROM (
        SELECT DISTINCT a.r AS body, b.r AS body2, h.r AS head, h.s, h.o
        FROM facts h JOIN facts a ON a.s = h.s JOIN facts b ON b.s = a.o AND b.o = h.o)
    GROUP BY ALL"""

INVERSE_PAIRS = "SELECT o AS x, s AS z FROM facts WHERE r = $body"
CHAIN_PAIRS = """
    SELECT DISTINCT a.s AS x, b.o AS z
    FROM facts a JOIN facts b ON b.s = a.o WHERE a.r = $body AND b.r = $body2"""


@dataclass(frozen=True)
class Thresholds:
    """Least measures of a rule suggested for review; AMIE's defaults, but a support of two and any head.

    AMIE mines no head relation with fewer than 100 facts. A functionality above 0 asks of a kept rule, too,
    that its head can contradict itself, as Ho et al. (2020) took only questions with one answer.
    """

    min_support: int = 2
    min_head_coverage: float = 0.01
    min_pca_confidence: float = 0.1
    min_head_size: int = 0
    min_functionality: float = 0.0


class Miner:
    """A sample of facts in DuckDB, its ids as numbers."""

    def __init__(self, sample: pd.DataFrame, relation_ids: Sequence[str]) -> None:
        self.relation_ids = list(relation_ids)
        entities, _ = pd.factorize(pd.concat([sample["subject_id"], sample["object_id"]]))
        codes = pd.Index(self.relation_ids).get_indexer(sample["relation_id"])
        if (codes < 0).any():
            unlisted = sorted(set(sample["relation_id"]) - set(relation_ids))
            raise ValueError(f"the sample has facts of {', '.join(unlisted)}, not listed in relations.tsv")
        facts = pd.DataFrame(
            {
                "s": entities[: len(sample)].astype(np.int32),
                "r": codes.astype(np.int32),
                "o": entities[len(sample) :].astype(np.int32),
            }
        )
        self.db = duckdb.connect(config={"threads": 1})
        self.db.register("frame", facts)
        self.db.execute("CREATE TABLE facts AS SELECT * FROM frame")
        self.relations = self._measure_relations()

    def frame(self, query: str, **parameters: int) -> pd.DataFrame:
        """The answer to a query."""
        return self.db.execute(query, parameters or None).df()

    def _measure_relations(self) -> pd.DataFrame:
        counted = self.frame(
            "SELECT r, count(*) AS facts, count(DISTINCT s) AS subjects, count(DISTINCT o) AS objects "
            "FROM facts GROUP BY r"
        ).set_index("r")
        frame = counted.reindex(range(len(self.relation_ids)), fill_value=0).reset_index(drop=True)
        frame.insert(0, "relation_id", self.relation_ids)
        # A relation without facts is not known to be functional.
        frame["functionality"] = (frame["subjects"] / frame["facts"]).fillna(0.0)
        frame["inverse_functionality"] = (frame["objects"] / frame["facts"]).fillna(0.0)
        return frame

    def candidates(self, judged: Sequence[LogicRule], thresholds: Thresholds) -> pd.DataFrame:
        """Codes and support of rules whose head and support reach the thresholds, and of judged ones."""
        found = pd.concat([self.frame(INVERSES), self.frame(CHAINS)])
        found = found.set_index(["body", "body2", "head"])["support"].astype(int)
        heads = self.relations.iloc[found.index.get_level_values("head")]
        sizes = heads["facts"].to_numpy()
        enough = found[
            (found >= thresholds.min_support)
            & (found >= thresholds.min_head_coverage * sizes)
            & (sizes >= thresholds.min_head_size)
            & (heads["functionality"] >= thresholds.min_functionality).to_numpy()
        ].index
        wanted = enough.union(pd.MultiIndex.from_tuples(map(self._codes, judged), names=found.index.names))
        return found.reindex(wanted, fill_value=0).reset_index()

    def measure(self, candidates: pd.DataFrame) -> pd.DataFrame:
        """The measures of rules given by code and support, in their order."""
        measured = []
        for (body, body2), group in candidates.groupby(["body", "body2"]):
            codes = {"body": int(body)} if body2 < 0 else {"body": int(body), "body2": int(body2)}
            query = INVERSE_PAIRS if body2 < 0 else CHAIN_PAIRS
            self.db.execute(f"CREATE OR REPLACE TEMP TABLE pairs AS {query}", codes)
            (predictions,) = self.db.execute("SELECT count(*) FROM pairs").fetchone()
            for row in group.itertuples(index=False):
                size = int(self.relations["facts"][row.head])
                judged = self._predictions_about_known(int(row.head))
                measured.append(
                    {
                        "rule": str(self._rule(row)),
                        "body": self.relation_ids[body],
                        "body2": None if body2 < 0 else self.relation_ids[body2],
                        "head": self.relation_ids[row.head],
                        "support": row.support,
                        "head_coverage": _share(row.support, size),
                        "std_confidence": _share(row.support, predictions),
                        "pca_confidence": _share(row.support, judged),
                    }
                )
        return pd.DataFrame(measured, columns=["rule", "body", "body2", "head", *MEASURES])

    def _predictions_about_known(self, head: int) -> int:
        """Pairs of the current body about whose subject, or else object, some head fact is known."""
        relation = self.relations.loc[head]
        known = "s" if relation["subjects"] >= relation["objects"] else "o"
        end = "x" if known == "s" else "z"
        query = f"SELECT count(*) FROM pairs WHERE {end} IN (SELECT {known} FROM facts WHERE r = $head)"
        return self.db.execute(query, {"head": head}).fetchone()[0]

    def _codes(self, rule: LogicRule) -> tuple[int, int, int]:
        body, *rest, head = map(self.relation_ids.index, rule.relations)
        return body, rest[0] if rest else -1, head

    def _rule(self, row: Any) -> LogicRule:
        body = [self.relation_ids[code] for code in (row.body, row.body2) if code >= 0]
        return LogicRule(tuple(body), self.relation_ids[row.head])


def mine_rules(
    sample: pd.DataFrame,
    relation_ids: Sequence[str],
    sheet: pd.DataFrame,
    thresholds: Thresholds,
    taken: Collection[str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """RULES rows, and RELATIONS rows with each relation's functionality.

    Listed are the rules that reach the thresholds and those that `sheet`, the rows of rules.tsv, judges,
    whatever they reach. The others are marked review. Kept rules that are not `taken` in this run, or whose
    head is not functional enough, are marked drop, and stay judged as they were.
    """
    judged = {rule: LogicRule.parse(rule) for rule in sheet["rule"]}
    for text, rule in judged.items():
        unlisted = sorted(set(rule.relations) - set(relation_ids))
        if unlisted:
            raise ValueError(
                f"rules.tsv: rule {text} names {', '.join(unlisted)}, not in relations.tsv: describe the "
                "relation there, or remove the rule"
            )
    miner = Miner(sample, relation_ids)
    frame = miner.measure(miner.candidates(list(judged.values()), thresholds))
    frame = frame[frame["rule"].isin(judged) | (frame["pca_confidence"] >= thresholds.min_pca_confidence)]
    frame = frame.merge(sheet[["rule", "status", "reason"]], on="rule", how="left")
    frame.insert(frame.columns.get_loc("status"), "judged", frame["status"])
    frame["status"] = frame["status"].fillna("review")
    frame["reason"] = [_reason(row, thresholds) for row in frame.itertuples()]
    frame = _left_out(frame, miner.relations, thresholds.min_functionality, taken)
    _warn(frame, miner.relations)
    return frame.sort_values(["support", "rule"], ascending=[False, True], ignore_index=True), miner.relations


def suggest(rules: pd.DataFrame, relations: pd.DataFrame, namespace: str) -> pd.DataFrame:
    """Rules that are not in rules.tsv yet, the most promising first.

    From RULES and RELATIONS rows. The first four columns are those of rules.tsv. The score is the PCA
    confidence times the head's functionality, as only a functional head makes two facts contradict each
    other, times support / (support + 10), as few facts prove little.
    """
    frame = rules[rules["status"] == "review"]
    measured = relations.set_index("relation_id").loc[frame["head"], ["functionality"]].to_numpy()[:, 0]
    support = frame["support"]
    score = frame["pca_confidence"] * measured * support / (support + CAUTION)
    texts = ["to be judged: keep or drop, and why"] * len(frame)
    frame = frame.assign(namespace=namespace, reason=texts, functionality=measured, score=score)
    columns = ["namespace", "rule", "status", "reason", *MEASURES, "functionality", "score"]
    return frame.sort_values(["score", "rule"], ascending=[False, True], ignore_index=True)[columns]


def _left_out(
    frame: pd.DataFrame, relations: pd.DataFrame, min_functionality: float, taken: Collection[str] | None
) -> pd.DataFrame:
    """`frame` in which kept rules that this run does not want are marked drop, with the reason."""
    functionality = dict(zip(relations["relation_id"], relations["functionality"], strict=True))
    frame = frame.copy()
    for row in frame[frame["status"] == "keep"].itertuples():
        reasons = []
        if taken is not None and row.rule not in taken:
            reasons.append("this run does not take it")
        if functionality[row.head] < min_functionality:
            reasons.append(
                f"functionality {functionality[row.head]:.3g} of its head is below {min_functionality:.3g}"
            )
        if reasons:
            frame.loc[row.Index, ["status", "reason"]] = "drop", "; ".join([row.reason, *reasons])
    return frame


def _warn(frame: pd.DataFrame, relations: pd.DataFrame) -> None:
    """Name relations without facts and kept rules without support."""
    empty = relations.loc[relations["facts"] == 0, "relation_id"]
    if len(empty):
        log.warning(
            "no fact of %s in this graph: check their ids in relations.tsv, or go on without them",
            ", ".join(empty),
        )
    unsupported = frame.loc[(frame["status"] == "keep") & (frame["support"] == 0), "rule"]
    for rule in unsupported:
        log.warning("rule %s of rules.tsv has no support in this graph", rule)


def _reason(row: Any, thresholds: Thresholds) -> str | None:
    """The sheet's reason, with the thresholds that the rule does not reach."""
    if row.status == "review":
        return None
    short = [
        f"{name} {getattr(row, name):.3g} is below {least:.3g}"
        for name, least in (
            ("support", thresholds.min_support),
            ("head_coverage", thresholds.min_head_coverage),
            ("pca_confidence", thresholds.min_pca_confidence),
        )
        if getattr(row, name) < least
    ]
    return "; ".join([row.reason, *short])


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
