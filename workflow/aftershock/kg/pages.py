"""All solutions of a pattern, fetched in pages, none twice and none missing.

Pages are cut by the values of a variable, never by OFFSET: without a full sort, which no public service can
afford, the order of an answer is undefined and pages by position overlap and leave holes. How many solutions
each value has is asked first, and a page that brings another number is asked for again, then counted anew,
then cut smaller, by values or by a hash: an endpoint that is out of time, or that sends no more than so many
rows, gives everything in small pieces. For a piece by hash an endpoint looks at everything again, so a query
is tried twice before it is cut by hash.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from aftershock.kg.answers import IncompleteError, QueryTooLargeError, Row, UnavailableError
from aftershock.kg.client import Client, PageSize
from aftershock.kg.graph import Term
from aftershock.kg.queries import PROPERTY, STATEMENT, VALUE_PROPERTY, Pattern

log = logging.getLogger(__name__)

Ids = tuple[str, ...]
DIGITS = "0123456789abcdef"


@dataclass
class Found:
    """Solutions by id, and the number left out because a value is no entity, by kind of value."""

    ids: list[Ids] = field(default_factory=list)
    odd: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Found") -> None:
        """Append the solutions of another request."""
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
    """All solutions of `pattern` that `keep` accepts, sorted; the others need not fit in memory.

    Pages are cut by the variables `by`, each where the one before is too coarse. `total`, when known, is not
    asked for.
    """
    total = count(client, pattern) if total is None else total
    found = _Reader(client, size or client.page, keep).read(Part(pattern, tuple(by), total))
    found.ids.sort()
    return found


def fetch_values(
    client: Client, pattern: Pattern, variable: str, counts: Mapping[str, int], size: PageSize | None = None
) -> Found:
    """The solutions, sorted, in which `variable` is an entity of `counts`, which has the number of each."""
    found = _Reader(client, size or client.page).read_values(Part(pattern, (variable,), 0), counts)
    found.ids.sort()
    return found


def count(client: Client, pattern: Pattern, fresh: bool = False, digits: str = "") -> int:
    """Number of solutions according to the endpoint; counted in pieces when one query takes too long.

    Of a piece, `digits` are those that the hashes of its first variable start with.
    """
    variable, smallest = pattern.variables[:1], len(digits) == client.page.digits
    query = (pattern.bucket(variable, digits) if digits else pattern).total
    try:
        ((number,),) = client.select(query, _one_number, fresh, patient=True)
        return _number(number) or 0
    except IncompleteError:
        raise
    except QueryTooLargeError:
        if smallest:
            raise
    log.info("%s: counting takes too long, so it is done in pieces: %s", client.endpoint, query)
    return sum(count(client, pattern, fresh, digits + digit) for digit in DIGITS)


def list_values(
    client: Client, pattern: Pattern, variable: str, total: int, digits: str = "", recounts: int = 1
) -> dict[Term | None, int]:
    """Solutions per value of `variable`; EndpointError unless they add up to `total`, or to a new count.

    Of a piece, `digits` are those that the hashes of the variable start with.
    """
    piece = pattern.bucket([variable], digits) if digits else pattern
    smallest = total < 2 or len(digits) == client.page.digits
    try:
        return _listing(client, piece, variable, total)
    except IncompleteError:
        now = count(client, piece, fresh=True)
        if now != total and recounts:
            log.warning("%s: there are %d solutions now, not %d", client.endpoint, now, total)
            return list_values(client, pattern, variable, now, digits, recounts - 1)
        if now != total or smallest:
            raise
    except QueryTooLargeError:
        if smallest:
            raise
    log.info("%s: a listing is asked for in pieces: %s", client.endpoint, piece.where)
    counts: dict[Term | None, int] = {}
    for digit in DIGITS:
        number = count(client, pattern.bucket([variable], digits + digit))
        counts |= list_values(client, pattern, variable, number, digits + digit)
    if sum(counts.values()) != total:
        raise _not_whole(client, piece, total, sum(counts.values()))
    return counts


@dataclass(frozen=True)
class Part:
    """Solutions of a pattern: all, or those in which the first variable of `by` has one of some values."""

    pattern: Pattern
    by: tuple[str, ...]  # the variables that it can be cut by
    total: int
    counts: Mapping[str, int] | None = None  # solutions per value
    digits: str = ""  # that its solutions' hashes start with
    recounts: int = 1  # how often its total may still change
    last: bool = False  # whether it is a piece of what an endpoint could not answer in several attempts

    @property
    def limited(self) -> Pattern:
        """The pattern of just these solutions."""
        pattern = self.pattern if self.counts is None else self.pattern.among(self.by[0], list(self.counts))
        return pattern.bucket(pattern.variables, self.digits) if self.digits else pattern

    def values(self, counts: Mapping[str, int]) -> "Part":
        """The part's solutions that have one of these values."""
        return replace(self, counts=counts, total=sum(counts.values()))


@dataclass(frozen=True)
class _Reader:
    """Reads pages of one size from one endpoint."""

    client: Client
    size: PageSize
    keep: Callable[[Ids], bool] | None = None

    def read(self, part: Part) -> Found:
        """The solutions of a part, in one page or in pieces."""
        if part.total > self.size.rows and self.can_cut(part):
            return self.read_pieces(part)
        try:
            return self.read_page(part)
        except UnavailableError:
            if part.last or not self.can_cut(part):
                raise
            part = replace(part, last=True)
        except IncompleteError:
            now = count(self.client, part.limited, fresh=True)
            if now != part.total and part.recounts:
                log.warning("%s: there are %d solutions now, not %d", self.client.endpoint, now, part.total)
                return self.read(replace(part, total=now, recounts=part.recounts - 1))
            if now != part.total or not self.can_cut(part):
                raise
        except QueryTooLargeError:
            if not self.can_cut(part):
                raise
        log.info("%s: a page of %d solutions is cut smaller", self.client.endpoint, part.total)
        return self.read_pieces(part)

    def can_cut(self, part: Part) -> bool:
        """True if the part can be cut into smaller pieces."""
        return part.total > 1 and (bool(part.by) or len(part.digits) < self.client.page.digits)

    def read_pieces(self, part: Part) -> Found:
        """The solutions of a part: by halves of its values, by values of a variable, or by hash."""
        if not part.by:
            return self.read_buckets(part)
        if part.counts is None:
            return self.read_listed(part)
        values = list(part.counts.items())
        if len(values) == 1:
            return self.read_pieces(replace(part, pattern=part.limited, by=part.by[1:], counts=None))
        found = self.read(part.values(dict(values[: len(values) // 2])))
        found.add(self.read(part.values(dict(values[len(values) // 2 :]))))
        return found

    def read_listed(self, part: Part) -> Found:
        """The solutions of a part, by values of its first variable."""
        found, entities = Found(), {}
        for value, number in list_values(self.client, part.limited, part.by[0], part.total).items():
            entity_id = self.client.graph.entity_id(value)
            if entity_id is None:
                found.odd[self.client.graph.oddity(value)] += number
            else:
                entities[entity_id] = number
        found.add(self.read_values(part, entities))
        return found

    def read_values(self, part: Part, counts: Mapping[str, int]) -> Found:
        """The solutions in which the first variable is one of the entities counted."""
        found = Found()
        for values in self.pack(counts):
            found.add(self.read(part.values(values)))
        return found

    def read_buckets(self, part: Part) -> Found:
        """The solutions of a part, by the hash of all their values."""
        found, total = Found(), 0
        for digit in DIGITS:
            piece = replace(part, digits=part.digits + digit)
            piece = replace(piece, total=count(self.client, piece.limited))
            total += piece.total
            found.add(self.read(piece))
        if total != part.total:
            raise _not_whole(self.client, part.limited, part.total, total)
        return found

    def read_page(self, part: Part) -> Found:
        """The solutions of a part, in one request."""
        pattern, found = part.limited, Found()
        if not part.total:
            return found
        rows = self.client.select(pattern.rows, _exactly(part.total), patient=not part.by)
        graph = self.client.graph
        others: dict[str, Callable[[Term | None], str | None]] = {
            PROPERTY: graph.relation_id,
            VALUE_PROPERTY: graph.value_relation_id,
            STATEMENT: lambda term: term and term.value,
        }
        readers = [others.get(name, graph.entity_id) for name in pattern.variables]
        for row in rows:
            read_ids = [read(term) for read, term in zip(readers, row, strict=True)]
            ids = tuple(name for name in read_ids if name is not None)
            if len(ids) < len(row):
                found.odd[graph.oddity(row[read_ids.index(None)])] += 1
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


def _listing(client: Client, pattern: Pattern, variable: str, total: int) -> dict[Term | None, int]:
    """Solutions per value, in one request."""
    query = pattern.counts(variable)

    def adds_up(rows: list[Row]) -> str | None:
        numbers = [n for _, number in rows if (n := _number(number)) is not None]
        if len(numbers) < len(rows):
            return "a number was expected per value"
        return None if sum(numbers) == total else _lacks(total, sum(numbers))

    if not total:
        return {}
    rows = client.select(query, adds_up, patient=True)
    return {value: _number(number) or 0 for value, number in rows}


def _not_whole(client: Client, pattern: Pattern, total: int, found: int) -> IncompleteError:
    return IncompleteError(
        f"{client.endpoint} counts {total} solutions but {found} in sixteen pieces: the data changed "
        f"meanwhile. Run again\n{pattern.rows}"
    )


def _exactly(total: int) -> Callable[[list[Row]], str | None]:
    return lambda rows: None if len(rows) == total else _lacks(total, len(rows))


def _lacks(total: int, found: int) -> str:
    return f"it counts {total} solutions but sent {found}"


def _one_number(rows: list[Row]) -> str | None:
    numbers = [_number(row[0]) for row in rows]
    return None if len(rows) == 1 and None not in numbers else f"a number was expected, not {rows[:2]}"


def _number(term: Term | None) -> int | None:
    return int(term.value) if term and term.value.isdigit() else None
