"""Selection of the requests of a second edit: e2 itself, or several objects at once."""

import pandas as pd

PLAIN, RELATED, ALL = "plain", "related", "all"


def second_rows(edits: pd.DataFrame, second_edit: str, labels: int | str = ALL) -> pd.DataFrame:
    """The EDITS rows that are written together as the second edit of each case, in order.

    With `second_edit` "plain" these are e2; with "multi_label" `labels` says which: "all" true objects; a
    number of them, the edited one and those that come first of the others; or "related": the edited object
    and its neighbour in the graph, such as the country of a city.
    """
    if second_edit == PLAIN or labels == RELATED:
        name = "e2" if second_edit == PLAIN else RELATED
        return edits[edits["edit"] == name].sort_values(["case_id", "position"])
    rows = edits[edits["edit"] == "multi"]
    if labels == ALL:
        return rows.sort_values(["case_id", "position"])
    edited = edits[edits["edit"] == "e2"].groupby("case_id")["target_new"].first()
    other = rows["target_new"] != rows["case_id"].map(edited)
    ranked = rows.assign(other=other).sort_values(["case_id", "other", "position"]).drop(columns="other")
    return ranked[ranked.groupby("case_id").cumcount() < labels]
