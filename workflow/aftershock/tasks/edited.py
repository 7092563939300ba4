"""Edits of a plan as fields of items: the edited facts, to be said in free generation."""

import pandas as pd

from aftershock.prompts import bare, fill


def spoken(edits: pd.DataFrame) -> list[dict]:
    """Return the fields of each edit that is part of the plan, from SEQUENCE_EDITS, with its whole prompt."""
    kept = edits[edits["kept"]]
    return [{**row, "prompt": bare(fill(row["prompt"], row["subject"]))} for row in kept.to_dict("records")]
