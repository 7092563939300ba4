"""Remarks on the second moments that edits were made with, from MOMENTS rows."""

import pandas as pd

ENOUGH = 2
"""Vectors per dimension from which on the moments of a layer are usable (Li et al., 2025, FastMEMIT)."""


def remarks(table: pd.DataFrame) -> list[str]:
    """Return a line for each layer of too few tokens and for each whose moments are not of full rank."""
    found = []
    for row in table.itertuples(index=False):
        if row.tokens < ENOUGH * row.width:
            found.append(
                f"layer {row.layer}: {row.tokens} tokens are few for {row.width} dimensions; take at least "
                f"{ENOUGH * row.width}: more text, or larger `documents` or `vectors_per_dimension`"
            )
        if row.rank < row.width:
            found.append(
                f"layer {row.layer}: the second moments are of rank {row.rank} in {row.width} dimensions. An "
                "edit costs nothing along the others, so that the rounding of its keys may decide it there"
            )
    return found
