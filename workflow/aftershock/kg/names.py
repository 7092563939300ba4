"""Labels, redirects and living persons among entities, queried from an endpoint in batches."""

from collections.abc import Callable, Iterable, Sequence

from aftershock.kg.answers import QueryTooLargeError, Row, UnavailableError
from aftershock.kg.client import Client
from aftershock.kg.graph import Term
from aftershock.kg.queries import lives, names

BATCH = 200  # entities of one request; at 400 WDQS was seen to run out of time

Names = dict[str, tuple[str | None, str | None, str | None]]


def find_names(client: Client, entity_ids: Iterable[str]) -> Names:
    """Label, its language and the redirection's target of each entity, None where there is none.

    The English label, else the one for all languages (`mul`); of several the first in code point order.
    """
    entities = client.graph.entities
    return {
        entity_id: _name(client, row)
        for entity_id, row in _one_each(client, entity_ids, lambda ids: names(ids, entities))
    }


def find_living(client: Client, entity_ids: Iterable[str]) -> set[str]:
    """The human beings among some entities for whom the graph states no death."""
    human, death = client.graph.human, client.graph.death
    if human is None or death is None:
        raise ValueError(f"nothing in namespace {client.graph.namespace!r} tells who lives")
    rows = _one_each(client, entity_ids, lambda ids: lives(ids, human, death))
    return {entity_id for entity_id, (_, kind, died) in rows if _some(kind) and not _some(died)}


def _some(count: Term | None) -> bool:
    return count is not None and int(count.value) > 0


def _one_each(
    client: Client, entity_ids: Iterable[str], query: Callable[[Sequence[str]], str]
) -> list[tuple[str, Row]]:
    """The single row about each entity, queried in batches."""
    ordered, found = sorted(set(entity_ids)), []
    for start in range(0, len(ordered), BATCH):
        found += _ask(client, ordered[start : start + BATCH], query)
    return found


def _ask(
    client: Client, entity_ids: Sequence[str], query: Callable[[Sequence[str]], str], last: bool = False
) -> list[tuple[str, Row]]:
    """The rows of a batch, or of its halves when the endpoint cannot send it at once."""

    def one_each(rows: list[Row]) -> str | None:
        about = {client.graph.entity_id(row[0]) for row in rows}
        if len(rows) == len(entity_ids) and about == set(entity_ids):
            return None
        return f"{len(rows)} rows about {len(about)} entities came for {len(entity_ids)} entities"

    try:
        rows = client.select(query(entity_ids), one_each, patient=len(entity_ids) == 1)
    except QueryTooLargeError:
        if len(entity_ids) == 1:
            raise
    except UnavailableError:
        if len(entity_ids) == 1 or last:
            raise
        last = True
    else:
        named = ((client.graph.entity_id(row[0]), row) for row in rows)
        return [(entity_id, row) for entity_id, row in named if entity_id is not None]
    half = len(entity_ids) // 2
    return _ask(client, entity_ids[:half], query, last) + _ask(client, entity_ids[half:], query, last)


def _name(client: Client, row: Row) -> tuple[str | None, str | None, str | None]:
    _, english, common, target = row
    label = english or common
    language = ("en" if english else "mul") if label else None
    return label and label.value, language, client.graph.entity_id(target and Term("uri", target.value))
