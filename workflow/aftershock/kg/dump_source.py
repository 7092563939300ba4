"""A graph in the tables that were made from a dump, asked with DuckDB."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from aftershock.kg.graph import Graph
from aftershock.kg.logic import LogicRule
from aftershock.kg.pages import Found, Ids
from aftershock.kg.partitions import FACTS, LABELS, REDIRECTS, STATEMENTS, TERMS, about, open_database
from aftershock.kg.sampling import DIGITS

ROWS = 100_000  # rows fetched at once


class DumpSource:
    """Facts of each relation in a table: an entity is the number in its id, another term a negative one."""

    def __init__(self, folder: str | os.PathLike, graph: Graph) -> None:
        self.folder = Path(folder)
        self.graph = graph
        described = about(self.folder)
        if described["namespace"] != graph.namespace:
            raise ValueError(
                f"{folder} was read as a graph of namespace {described['namespace']!r}, not "
                f"{graph.namespace!r}; delete it and run again"
            )
        self.relation_ids = set(described["relations"])
        self.temporary = tempfile.TemporaryDirectory(prefix=".dump.", dir=self.folder.parent)
        self.db = open_database(self.temporary.name)
        for name in (LABELS, REDIRECTS, TERMS):
            self.db.execute(f"CREATE VIEW {name} AS {_table(self.folder / f'{name}.parquet')}")
        self.odd = pq.read_metadata(self.folder / f"{TERMS}.parquet").num_rows > 0

    def __enter__(self) -> "DumpSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.db.close()
        self.temporary.cleanup()

    def count_facts(self, relation_id: str) -> int:
        """Number of distinct statements of a relation."""
        return pq.read_metadata(self._file(relation_id)).num_rows

    def facts(self, relation_id: str) -> Found:
        """(subject, object) of all facts of a relation."""
        return self._found(self._facts(relation_id), ("s", "o"))

    def subjects(self, relation_id: str, seed: int, limit: str | None) -> set[str]:
        """The subjects of a relation whose seeded hash starts with digits below `limit`; None takes all."""
        query = f"SELECT DISTINCT {self._id('s')} AS id FROM ({self._facts(relation_id)}) WHERE s >= 0"
        if limit is not None:
            query = f"SELECT id FROM ({query}) WHERE md5($start || id)[:{DIGITS}] < $limit"
        values = {"start": f"{seed}{self.graph.entities}", "limit": limit} if limit is not None else None
        return {id_ for (id_,) in self.db.execute(query, values).fetchall()}

    def facts_about(self, entity_ids: Iterable[str], relation_ids: Sequence[str]) -> Found:
        """(subject, relation, object) of the facts of some relations about some entities."""
        self._want(entity_ids)
        found = Found()
        for relation_id in relation_ids:
            own = self._found(f"FROM ({self._facts(relation_id)}) WHERE s IN (FROM wanted)", ("s", "o"))
            found.ids += [(subject, relation_id, value) for subject, value in own.ids]
            found.odd += own.odd
        found.ids.sort()
        return found

    def stated_about(self, entity_ids: Iterable[str], relation_ids: Sequence[str]) -> Found:
        """(subject, relation, object) of statements of every rank of some relations about some entities."""
        self._want(entity_ids)
        found = Found()
        for relation_id in relation_ids:
            table = _table(self._file(relation_id, STATEMENTS))
            own = self._found(f"FROM ({table}) WHERE s IN (FROM wanted)", ("s", "o"))
            found.ids += [(subject, relation_id, value) for subject, value in own.ids]
        found.ids.sort()
        return found

    def count_instances(self, rule: LogicRule) -> int:
        """Number of assignments of a rule's variables for which all its facts hold, equal values too."""
        ((number,),) = self.db.execute(f"SELECT count(*) FROM ({self._instances(rule)})").fetchall()
        return number

    def instances(self, rule: LogicRule, total: int, keep: Callable[[Ids], bool]) -> Found:
        """(x, y), or (x, y, z) of a chain, of a rule's `total` instances; only those that `keep` accepts."""
        return self._found(self._instances(rule), _variables(rule), keep)

    def object_counts(self, relation_id: str, least: int) -> dict[str, int]:
        """Number of statements of a relation per subject with at least `least` of them."""
        rows = self.db.execute(
            f"SELECT {self._id('s')}, count(*) FROM ({self._facts(relation_id)}) "
            "WHERE s >= 0 GROUP BY s HAVING count(*) >= $least",
            {"least": least},
        )
        return dict(rows.fetchall())

    def objects(self, relation_id: str, counts: Mapping[str, int]) -> Found:
        """(subject, object) of the subjects of `counts`."""
        self._want(counts)
        return self._found(f"FROM ({self._facts(relation_id)}) WHERE s IN (FROM wanted)", ("s", "o"))

    def names(self, entity_ids: Iterable[str]) -> dict[str, tuple[str | None, str | None, str | None]]:
        """Label, its language and the redirect's target of each entity, None where there is none."""
        self._want(entity_ids)
        rows = self.db.execute(
            f"""
            WITH named AS (
                SELECT entity, arg_min(label, (language != 'en', label)) AS label,
                    min(language) AS language  -- en before mul
                FROM labels WHERE entity IN (FROM wanted) GROUP BY entity),
            moved AS (
                SELECT entity, min({self._id("target")}) AS target
                FROM redirects WHERE entity IN (FROM wanted) GROUP BY entity)
            SELECT {self._id("id")}, label, language, target
            FROM wanted LEFT JOIN named ON named.entity = id LEFT JOIN moved ON moved.entity = id"""
        )
        return {entity_id: tuple(rest) for entity_id, *rest in rows.fetchall()}

    def living(self, entity_ids: Iterable[str]) -> set[str]:
        """The human beings among some entities for whom the graph states no death."""
        if self.graph.human is None or self.graph.death is None:
            raise ValueError(f"nothing in namespace {self.graph.namespace!r} tells who lives")
        relation_id, human = self.graph.human
        kinds, deaths = self._facts(relation_id), self._facts(self.graph.death)
        self._want(entity_ids)
        rows = self.db.execute(
            f"""
            SELECT {self._id("s")} FROM ({kinds})
            WHERE s IN (FROM wanted) AND o = $human AND s NOT IN (SELECT s FROM ({deaths}))""",
            {"human": int(human[1:])},
        )
        return {entity_id for (entity_id,) in rows.fetchall()}

    def _want(self, entity_ids: Iterable[str]) -> None:
        """Make the table `wanted` of the numbers of some entities."""
        numbers = sorted({int(entity_id[1:]) for entity_id in entity_ids})
        self.db.register("numbers", pd.DataFrame({"id": pd.Series(numbers, dtype="int64")}))
        self.db.execute("CREATE OR REPLACE TEMP TABLE wanted AS FROM numbers")
        self.db.unregister("numbers")

    def _found(self, query: str, columns: Sequence[str], keep: Callable[[Ids], bool] | None = None) -> Found:
        """The rows of a query as ids, sorted, and how many of its rows were left out."""
        found = Found()
        least = f"least({', '.join(columns)})"
        ids = ", ".join(self._id(column) for column in columns)
        rows = self.db.execute(f"SELECT {ids} FROM ({query}) WHERE {least} >= 0")
        while batch := rows.fetchmany(ROWS):
            found.ids += filter(keep, batch) if keep else batch
        found.ids.sort()
        if self.odd:
            first = " ".join(f"WHEN {column} < 0 THEN {column}" for column in columns)
            odd = self.db.execute(
                f"""
                SELECT oddity, count(*) FROM (SELECT CASE {first} END AS id FROM ({query}) WHERE {least} < 0)
                JOIN terms USING (id) GROUP BY oddity"""
            )
            found.odd = Counter(dict(odd.fetchall()))
        return found

    def _instances(self, rule: LogicRule) -> str:
        """A query for the values of a rule's variables; of each fact, what joins it to those before."""
        joins: list[str] = []
        places: dict[str, str] = {}
        for number, (subject, relation_id, value) in enumerate(rule.facts):
            ends = {f"f{number}.s": subject, f"f{number}.o": value}
            known = [f"{end} = {places[name]}" for end, name in ends.items() if name in places]
            joins.append(
                f"({self._facts(relation_id)}) AS f{number}" + (f" ON {' AND '.join(known)}" if joins else "")
            )
            for end, name in ends.items():
                places.setdefault(name, end)
        columns = ", ".join(f"{places[name]} AS {name}" for name in _variables(rule))
        return f"SELECT {columns} FROM {' JOIN '.join(joins)}"

    def _facts(self, relation_id: str) -> str:
        return _table(self._file(relation_id))

    def _file(self, relation_id: str, kind: str = FACTS) -> Path:
        if relation_id not in self.relation_ids:
            raise ValueError(
                f"relation {relation_id} was not listed when {self.folder} was made from the dump; delete "
                "that folder and run again"
            )
        return self.folder / kind / f"{relation_id}.parquet"

    def _id(self, column: str) -> str:
        """SQL for the id of the entity whose number is in a column."""
        return f"'{self.graph.entity_letter}' || {column}"


def _table(path: Path) -> str:
    """SQL for the rows of a parquet file."""
    name = os.fspath(path).replace("'", "''")
    return f"SELECT * FROM read_parquet('{name}')"


def _variables(rule: LogicRule) -> tuple[str, ...]:
    return ("x", "y", "z")[: len(rule.body) + 1]
