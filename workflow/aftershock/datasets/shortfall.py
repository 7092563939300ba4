"""Messages about splits with fewer cases than their quota."""

from collections.abc import Iterator, Mapping

import pandas as pd

from aftershock.datasets import reasons

LISTED = 3  # of rules and of reasons


def shortfalls(dataset: str, counts: pd.DataFrame, quotas: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Yield a line per split with fewer cases than its quota: how many, of which rules, what to relax.

    `counts` are the rows of a Dataset's counts.
    """
    for split, wanted in quotas.items():
        quota, rows = wanted.get(dataset, 0), counts[counts["split"] == split]
        kept = rows[rows["reason"] == "kept"]
        found = int(kept["candidates"].sum())
        if found < quota:
            lost = rows[~rows["reason"].isin(["kept", reasons.QUOTA])]
            yield (
                f"{dataset}, {split}: {found} of {quota} cases found ({_by_rule(rows, kept)}). {_why(lost)}; "
                f"or ask for fewer in cases.quotas.{split}.{dataset}."
            )


def _by_rule(rows: pd.DataFrame, kept: pd.DataFrame) -> str:
    """The rules with fewest cases."""
    numbers = kept.set_index("rule")["candidates"]
    numbers = numbers.reindex(sorted(set(rows["rule"]) - {""}), fill_value=0).sort_values(kind="stable")
    if numbers.empty:
        return "no rule has a candidate"
    shown = ", ".join(f"{rule} {n}" for rule, n in numbers.head(LISTED).items())
    return f"fewest of {shown}"


def _why(lost: pd.DataFrame) -> str:
    """The reasons that took most candidates, with what to relax."""
    numbers = lost.groupby("reason")["candidates"].sum().sort_values(ascending=False, kind="stable")
    if numbers.empty:
        return "No candidate was dropped: the graph has no more; mine a larger one, or keep more rules"
    said = []
    for reason, n in numbers.head(LISTED).items():
        fallen = lost[lost["reason"] == reason].sort_values("candidates", ascending=False, kind="stable")
        remedy = reasons.remedy(reason)
        relax = f"; try {remedy}" if remedy else ""
        said.append(f"{n} dropped because {reason}, most of {fallen['rule'].iloc[0]}{relax}")
    return ". ".join(text[0].upper() + text[1:] for text in said)
