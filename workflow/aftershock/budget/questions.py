"""Numbers of facts that a model is asked about, before any graph is read: as many as are allowed at most."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftershock.config.shards import number_of_cases
from aftershock.datasets.graph_facts import parse_rule
from aftershock.datasets.table import names_of_kind
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations

OF_CASE = {"facts": 3.7, "objects": 6.0}  # of a test case in a world made for the run, of all splits
TRIPLE_BYTES, PACKED = 130, 10  # of a line of N-Triples; times that a packed one is shorter
OBJECTS = 3.0  # objects of a subject with several


def most_asked(config: Mapping[str, Any], folder: Path, kind: str) -> float:
    """Return the largest number of `kind` ("facts" or "objects") to ask about.

    A published file has as many as are sampled, and a generated world is made for its cases.
    """
    kg, mining, resources = config["kgs"][config["kg"]], config["mining"], folder / "resources"
    if kg["source"] == "none":
        return 0.0
    if kg["source"] in ("released", "generated"):
        datasets = names_of_kind("conflict" if kind == "facts" else "round")
        return OF_CASE[kind] * sum(number_of_cases(config, d) for d in datasets if d in config["datasets"])
    if kind == "facts":
        rules = kept_rules(resources, kg["namespace"], mining["rules"], mining["functional_heads"])
        most = float(mining["max_combinations"] * sum(1 + len(parse_rule(rule)[0]) for rule in rules))
    else:
        relations = one_to_many_relations(resources, kg["namespace"])
        most = OBJECTS * (mining["max_keys"] or float("inf")) * len(relations)
    if kg["source"] == "atlas":  # its file is a specification and no graph
        sheet = read_relations(resources / "relations.tsv", kg["namespace"])
        return min(most, float(sheet["approx_facts"].astype(int).sum()))
    for path in (Path(kg["file"]), folder / kg["file"]) if kg.get("file") else ():
        if path.is_file():
            packed = PACKED if path.suffix in (".gz", ".bz2") else 1
            return min(most, path.stat().st_size * packed / TRIPLE_BYTES)
    return most
