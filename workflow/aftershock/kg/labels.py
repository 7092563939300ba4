"""Names of entities, and the entities that redirected ones stand for."""

import logging
from collections.abc import Iterable

import pandas as pd

from aftershock.kg.source import Source

log = logging.getLogger(__name__)


def find_labels(source: Source, entity_ids: Iterable[str]) -> pd.DataFrame:
    """LABELS rows of entities and of those that they redirect to.

    The English label, else the one for all languages; entities without either have an empty one.
    """
    rows: dict[str, tuple[str | None, str | None, str | None]] = {}
    wanted = set(entity_ids)
    while wanted:
        rows.update(source.names(wanted))
        wanted = {target for _, _, target in rows.values() if target} - set(rows)
    frame = pd.DataFrame(
        [(entity_id, *rows[entity_id]) for entity_id in sorted(rows)],
        columns=["entity_id", "label", "language", "redirect"],
    )
    log.info(
        "%d entities, %d with an English label, %d with one for all languages only, %d redirects",
        len(frame),
        (frame["language"] == "en").sum(),
        (frame["language"] == "mul").sum(),
        frame["redirect"].notna().sum(),
    )
    return frame


class Redirections:
    """Final targets of redirected entities, and the number of rows that had one."""

    def __init__(self, labels: pd.DataFrame) -> None:
        """Follow the redirects of LABELS rows; entities that redirect in a circle stay as they are."""
        moved = labels.dropna(subset=["redirect"])
        steps = dict(zip(moved["entity_id"], moved["redirect"], strict=True))
        self.ends: dict[str, str] = {}
        self.rows = 0
        for start in steps:
            seen, end = {start}, steps[start]
            while end in steps and end not in seen:
                seen.add(end)
                end = steps[end]
            if end not in seen:
                self.ends[start] = end

    def follow(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows, sorted, each once, with every redirected id replaced by its final target."""
        ids = [name for name in frame if name.endswith("_id") and name != "relation_id"]
        replaced = frame.assign(**{name: frame[name].map(lambda e: self.ends.get(e, e)) for name in ids})
        changed = int((replaced[ids] != frame[ids]).any(axis=1).sum())
        self.rows += changed
        return replaced.drop_duplicates().sort_values(list(frame), ignore_index=True) if changed else frame
