"""Selection of the requests of a second edit: e2 itself, or several objects at once."""

import pandas as pd

from aftershock.seeds import derive

PLAIN, RELATED, ALL = "plain", "related", "all"


def second_rows(edits: pd.DataFrame, second_edit: str, labels: int | str = ALL) -> pd.DataFrame:
    """The EDITS rows that are written together as the second edit of each case, in order.

    With `second_edit` "plain" these are e2; with "multi_label" `labels` says which: "all" true objects; a
    number of them, the edited one and others that are drawn, a larger number with all of a smaller one; or
    "related": the edited object and its neighbour in the graph, such as the country of a city. Objects that
    are left out are so a random part of the others, and compare with all others of another method.
    """
    if second_edit == PLAIN or labels == RELATED:
        name = "e2" if second_edit == PLAIN else RELATED
        return edits[edits["edit"] == name].sort_values(["case_id", "position"])
    rows = edits[edits["edit"] == "multi"]
    if labels == ALL:
        return rows.sort_values(["case_id", "position"])
    edited = edits[edits["edit"] == "e2"].groupby("case_id")["target_new"].first()
    other = rows["target_new"] != rows["case_id"].map(edited)
    drawn = [derive(0, "labels", *row) for row in rows[["case_id", "target_new"]].itertuples(index=False)]
    ranked = rows.assign(other=other, drawn=drawn).sort_values(["case_id", "other", "drawn"])
    return ranked[ranked.groupby("case_id").cumcount() < labels].drop(columns=["other", "drawn"])
