"""All solutions of a pattern, page by page, none twice and none missing.

Pages are cut by the values of a variable, never by OFFSET: without a full sort, which no public service can
afford, the order of an answer is undefined and pages by position overlap and leave holes. How many solutions
each value has is asked first, and a page that brings another number is an error.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aftershock.kg.answers import EndpointError, QueryTooLargeError
from aftershock.kg.client import Client
from aftershock.kg.graph import Term
from aftershock.kg.queries import PROPERTY, Pattern

Ids = tuple[str, ...]


@dataclass(frozen=True)
class PageSize:
    """Limits of one request; WDQS answers pages of this size well within its 60 s."""

    rows: int = 10_000
    values: int = 200


@dataclass
class Found:
    """Solutions by id, and how many were left out because a value is no entity, by what it is."""

    ids: list[Ids] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Found") -> None:
        """Append what another request brought."""
        self.ids += other.ids
        self.odd += other.odd


def fetch(
    client: Client,
    pattern: Pattern,
    by: Sequence[str],
    total: int | None = None,
    keep: Callable[[Ids], bool] | None = None,
    size: PageSize | None = None,
) -> Found:
    """All solutions of `pattern`, sorted; of many only those to `keep`, so that they need not fit in memory.

    Pages are cut by the variables `by`, each where the one before is too coarse. `total`, when known, is not
    asked for.
    """
    total = count(client, pattern) if total is None else total
    found = _Reader(client, size or PageSize(), keep).read(pattern, by, total)
    found.ids.sort()
    return found


def fetch_values(
    client: Client, pattern: Pattern, variable: str, counts: Mapping[str, int], size: PageSize | None = None
) -> Found:
    """The solutions, sorted, in which `variable` is an entity of `counts`, which tells how many each has."""
    found = _Reader(client, size or PageSize()).read_values(pattern, (variable,), counts)
    found.ids.sort()
    return found


def count(client: Client, pattern: Pattern) -> int:
    """How many solutions the endpoint says there are."""
    ((number,),) = client.select(pattern.total)
    return _number(number)


def list_values(client: Client, pattern: Pattern, variable: str, total: int) -> dict[Term | None, int]:
    """Solutions per value of `variable`; EndpointError unless they add up to `total`."""
    query = pattern.counts(variable)
    counts = {value: _number(number) for value, number in client.select(query)}
    _expect(total, sum(counts.values()), client, query)
    return counts


@dataclass(frozen=True)
class _Reader:
    """Reads pages of one size from one endpoint."""

    client: Client
    size: PageSize
    keep: Callable[[Ids], bool] | None = None

    def read(self, pattern: Pattern, by: Sequence[str], total: int) -> Found:
        """The `total` solutions of `pattern`."""
        if total <= self.size.rows or not by:
            return self.read_page(pattern, total)
        entities = {}
        found = Found()
        for value, number in list_values(self.client, pattern, by[0], total).items():
            entity_id = self.client.graph.entity_id(value)
            if entity_id is None:
                found.odd[self.client.graph.oddity(value)] += number
            else:
                entities[entity_id] = number
        found.add(self.read_values(pattern, by, entities))
        return found

    def read_values(self, pattern: Pattern, by: Sequence[str], counts: Mapping[str, int]) -> Found:
        """The solutions in which the first variable of `by` is one of the entities counted."""
        found = Found()
        for values in self.pack(counts):
            found.add(self.read_group(pattern, by, values))
        return found

    def read_group(self, pattern: Pattern, by: Sequence[str], counts: Mapping[str, int]) -> Found:
        """The same for entities that make one page; its halves when it takes the endpoint too long."""
        try:
            return self.read(pattern.among(by[0], list(counts)), by[1:], sum(counts.values()))
        except QueryTooLargeError:
            if len(counts) == 1:
                raise
        items = list(counts.items())
        found = self.read_group(pattern, by, dict(items[: len(items) // 2]))
        found.add(self.read_group(pattern, by, dict(items[len(items) // 2 :])))
        return found

    def read_page(self, pattern: Pattern, total: int) -> Found:
        """The `total` solutions of `pattern`, in one request."""
        rows = set(self.client.select(pattern.rows)) if total else set()
        _expect(total, len(rows), self.client, pattern.rows)
        graph = self.client.graph
        readers = [graph.relation_id if name == PROPERTY else graph.entity_id for name in pattern.variables]
        found = Found()
        for row in rows:
            ids = tuple(read(term) for read, term in zip(readers, row, strict=True))
            if None in ids:
                found.odd[graph.oddity(row[ids.index(None)])] += 1
            elif self.keep is None or self.keep(ids):
                found.ids.append(ids)
        return found

    def pack(self, counts: Mapping[str, int]) -> Iterator[dict[str, int]]:
        """The entities in groups that each make one page."""
        page: dict[str, int] = {}
        rows = 0
        for value in sorted(counts):
            if page and (len(page) == self.size.values or rows + counts[value] > self.size.rows):
                yield page
                page, rows = {}, 0
            page[value] = counts[value]
            rows += counts[value]
        if page:
            yield page


def _number(term: Term | None) -> int:
    if term is None or not term.value.isdigit():
        raise EndpointError(f"a number was expected, not {term}")
    return int(term.value)


def _expect(total: int, found: int, client: Client, query: str) -> None:
    if found != total:
        raise EndpointError(
            f"{client.endpoint} counts {total} solutions but sent {found}: the answer is cut off, or the "
            f"data changed meanwhile. Run again\n{query}"
        )
