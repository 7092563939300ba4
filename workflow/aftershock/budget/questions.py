"""Numbers of facts that a model is asked about: as listed, or as many as the configuration allows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aftershock.datasets.conflict import parse_rule
from aftershock.datasets.table import CONFLICT, ROUND
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations

OF_CASE = {"facts": 3.0, "objects": 6.0}  # of a case in a world made for the run, of all splits
TRIPLE_BYTES = 130  # of a line of N-Triples; about a tenth of it when packed
OBJECTS = 3.0  # objects of a subject with several


def most_asked(config: Mapping[str, Any], folder: Path, kind: str) -> float:
    """Largest number of `kind` ("facts" or "objects") to ask about, before any graph is read.

    A published file has as many as are sampled, and a generated world is made for its cases.
    """
    kg, cases = config["kgs"][config["kg"]], config["cases"]["quotas"]
    of_kind = CONFLICT if kind == "facts" else ROUND
    datasets = [d for d in config["datasets"] if d in of_kind]
    if kg["source"] == "none":
        return 0.0
    if kg["source"] == "released":
        return OF_CASE[kind] * kg["sample"] * len(datasets)
    if kg["source"] == "generated":
        return OF_CASE[kind] * sum(quota.get(d, 0) for quota in cases.values() for d in datasets or of_kind)
    mining, resources = config["mining"], folder / "resources"
    if kind == "facts":
        rules = kept_rules(resources, kg["namespace"], mining["rules"], mining["functional_heads"])
        allowed = mining["max_combinations"] * sum(1 + len(parse_rule(rule)[0]) for rule in rules)
    else:
        keys = float("inf") if mining["max_keys"] is None else mining["max_keys"]
        allowed = OBJECTS * keys * len(one_to_many_relations(resources, kg["namespace"]))
    if kg["source"] == "atlas":  # its file is a specification and no graph
        sheet = read_relations(resources / "relations.tsv", kg["namespace"])
        return min(float(allowed), float(sheet["approx_facts"].astype(int).sum()))
    return min(float(allowed), _triples(kg, folder))


def _triples(kg: Mapping[str, Any], folder: Path) -> float:
    """Upper bound of the triples in a graph's file, from its size; unlimited for a service."""
    path = kg.get("file")
    found = next((p for p in (Path(path), folder / path) if p.is_file()), None) if path else None
    if found is None:
        return float("inf")
    packed = 10 if found.suffix in (".gz", ".bz2") else 1
    return found.stat().st_size * packed / TRIPLE_BYTES
