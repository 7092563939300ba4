"""All solutions of a pattern, page by page, none twice and none missing.

Pages are cut by the values of a variable, never by OFFSET: without a full sort, which no public service can
afford, the order of an answer is undefined and pages by position overlap and leave holes. How many solutions
each value has is asked first, and a page that brings another number is an error.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from aftershock.kg.answers import EndpointError, QueryTooLargeError, Row
from aftershock.kg.client import Client
from aftershock.kg.graph import Term
from aftershock.kg.queries import PROPERTY, Pattern


@dataclass(frozen=True)
class PageSize:
    """Limits of one request; WDQS answers pages of this size well within its 60 s."""

    rows: int = 10_000
    values: int = 200


@dataclass
class Found:
    """Solutions by id, and how many were left out because a value is no entity, by what it is."""

    ids: list[tuple[str, ...]] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Found") -> None:
        """Append what another request brought."""
        self.ids += other.ids
        self.odd += other.odd


def fetch(client: Client, pattern: Pattern, by: Sequence[str], size: PageSize | None = None) -> Found:
    """All solutions of `pattern`, sorted.

    Pages are cut by the variables `by`, each where the one before is too coarse.
    """
    found = _fetch(client, pattern, by, count(client, pattern), size or PageSize())
    found.ids.sort()
    return found


def fetch_values(
    client: Client, pattern: Pattern, variable: str, counts: Mapping[str, int], size: PageSize | None = None
) -> Found:
    """The solutions, sorted, in which `variable` is an entity of `counts`, which tells how many each has."""
    found = Found()
    for values in _pack(counts, size or PageSize()):
        found.add(_fetch_values(client, pattern, (variable,), values, size or PageSize()))
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


def _fetch(client: Client, pattern: Pattern, by: Sequence[str], total: int, size: PageSize) -> Found:
    if total <= size.rows or not by:
        rows = set(client.select(pattern.rows)) if total else set()
        _expect(total, len(rows), client, pattern.rows)
        return _identify(client, pattern.variables, rows)
    found = Found()
    entities = {}
    for value, number in list_values(client, pattern, by[0], total).items():
        entity_id = client.graph.entity_id(value)
        if entity_id is None:
            found.odd[client.graph.oddity(value)] += number
        else:
            entities[entity_id] = number
    for values in _pack(entities, size):
        found.add(_fetch_values(client, pattern, by, values, size))
    return found


def _fetch_values(
    client: Client, pattern: Pattern, by: Sequence[str], counts: Mapping[str, int], size: PageSize
) -> Found:
    """One page, or its halves when it takes the endpoint too long."""
    try:
        return _fetch(client, pattern.among(by[0], list(counts)), by[1:], sum(counts.values()), size)
    except QueryTooLargeError:
        if len(counts) == 1:
            raise
    middle = len(counts) // 2
    items = list(counts.items())
    found = _fetch_values(client, pattern, by, dict(items[:middle]), size)
    found.add(_fetch_values(client, pattern, by, dict(items[middle:]), size))
    return found


def _pack(counts: Mapping[str, int], size: PageSize) -> Iterator[dict[str, int]]:
    """The values of a variable in groups that each make one page."""
    page: dict[str, int] = {}
    rows = 0
    for value in sorted(counts):
        if page and (len(page) == size.values or rows + counts[value] > size.rows):
            yield page
            page, rows = {}, 0
        page[value] = counts[value]
        rows += counts[value]
    if page:
        yield page


def _identify(client: Client, variables: Sequence[str], rows: set[Row]) -> Found:
    """The ids that rows stand for."""
    graph = client.graph
    readers = [graph.relation_id if variable == PROPERTY else graph.entity_id for variable in variables]
    found = Found()
    for row in rows:
        ids = tuple(read(term) for read, term in zip(readers, row, strict=True))
        if None in ids:
            found.odd[graph.oddity(row[ids.index(None)])] += 1
        else:
            found.ids.append(ids)
    return found


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
