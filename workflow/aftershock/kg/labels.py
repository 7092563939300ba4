"""Names of entities."""

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pandas as pd

from aftershock.kg.answers import EndpointError
from aftershock.kg.client import Client
from aftershock.kg.graph import Term
from aftershock.kg.queries import names

log = logging.getLogger(__name__)

BATCH = 200  # at 400 WDQS was seen to run out of time
LANGUAGES = ("en", "mul")  # in this order


def find_labels(client: Client, entity_ids: Iterable[str]) -> pd.DataFrame:
    """LABELS rows of entities and of those that they redirect to.

    The English label, else the one for all languages; entities without either have an empty one.
    """
    rows: dict[str, tuple] = {}
    wanted = set(entity_ids)
    while wanted:
        ordered = sorted(wanted)
        for start in range(0, len(ordered), BATCH):
            rows.update(_ask(client, ordered[start : start + BATCH]))
        wanted = {target for _, _, target in rows.values() if target} - set(rows)
    frame = pd.DataFrame(
        [(entity_id, *rows[entity_id]) for entity_id in sorted(rows)],
        columns=["entity_id", "label", "language", "redirect"],
    )
    log.info(
        "%d entities, %d without a label, %d redirects",
        len(frame),
        frame["label"].isna().sum(),
        frame["redirect"].notna().sum(),
    )
    return frame


def _ask(client: Client, entity_ids: Sequence[str]) -> dict[str, tuple]:
    """Label, its language and the redirect's target of each entity."""
    labels: dict[str, set[Term]] = defaultdict(set)
    targets: dict[str, set[str]] = defaultdict(set)
    seen = set()
    for entity, label, target in client.select(names(entity_ids)):
        entity_id = client.graph.entity_id(entity)
        seen.add(entity_id)
        if label:
            labels[entity_id].add(label)
        target_id = client.graph.entity_id(target)
        if target_id:
            targets[entity_id].add(target_id)
    if seen != set(entity_ids):
        raise EndpointError(
            f"{client.endpoint} answered about {len(seen)} of {len(entity_ids)} entities: the answer is "
            "cut off. Run again"
        )
    return {e: (*_best(labels[e]), min(targets[e], default=None)) for e in entity_ids}


def _best(labels: set[Term]) -> tuple[str | None, str | None]:
    for language in LANGUAGES:
        found = [label.value for label in labels if label.language == language]
        if found:
            return min(found), language
    return None, None
