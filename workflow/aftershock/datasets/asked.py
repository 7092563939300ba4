"""Selection of the facts that a model is queried about before cases are built."""

import pandas as pd

from aftershock.datasets.graph_facts import parse_rule
from aftershock.tables.graph import FACT_KEY
from aftershock.tables.models import TAUGHT

KEY = list(FACT_KEY)


def facts_of_instances(instances: pd.DataFrame) -> pd.DataFrame:
    """The facts (by id) that the kept `instances` (INSTANCES rows) are made of, each once, sorted."""
    parts = [pd.DataFrame(columns=KEY, dtype="str")]
    for rule, rows in instances[instances["kept"]].groupby("rule"):
        body, head = parse_rule(rule)
        x, y, z = rows["x_id"], rows["y_id"], rows["z_id"]
        shape = (
            [(x, body[0], y), (y, head, x)]
            if len(body) == 1
            else [
                (x, body[0], y),
                (y, body[1], z),
                (x, head, z),
            ]
        )
        parts += [pd.DataFrame({KEY[0]: s, KEY[1]: relation_id, KEY[2]: o}) for s, relation_id, o in shape]
    return pd.concat(parts, ignore_index=True).drop_duplicates().sort_values(KEY, ignore_index=True)


def with_labels(asked: pd.DataFrame, facts: pd.DataFrame, taught: pd.DataFrame | None) -> pd.DataFrame:
    """TAUGHT rows for those of `asked` that are kept in `facts` (FACTS).

    A model trained from scratch on this graph is asked about nothing that it was not `taught`.
    """
    kept = facts.loc[facts["kept"], list(TAUGHT.columns)]
    rows = asked[KEY].merge(kept, on=KEY)
    if taught is not None:
        rows = rows.merge(taught[KEY], on=KEY)
    return rows[list(TAUGHT.columns)].sort_values(KEY, ignore_index=True)


def only_taught(facts: pd.DataFrame, taught: pd.DataFrame) -> pd.DataFrame:
    """`facts` (FACTS) of which only those that a model was `taught` count as kept.

    A small model trained on part of a graph cannot write the name of an entity that it never met, so targets
    and probes have to come from that part. The other facts stay true.
    """
    met = facts[KEY].merge(taught[KEY].assign(met=True), on=KEY, how="left")["met"].notna().to_numpy()
    return facts.assign(kept=facts["kept"] & met, reason=facts["reason"].where(met, "not taught"))
