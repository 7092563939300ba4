"""Configuration of the rules of facts.smk."""

from aftershock.kg.graph import find_graph
from aftershock.kg.sheets import read_relations

MADE = {"generated": "world", "atlas": "atlas"}  # graphs that a run makes, by source


def graph_file(wildcards):
    """The RDF file of a graph: made by this run, or the user's own."""
    kg = graph(wildcards)
    made = MADE.get(kg["source"])
    return f"results/kg/{wildcards.kg}/{made}.nt.gz" if made else resource_path(kg["file"])


def listed_relations(wildcards):
    """The relations that resources/relations.tsv lists for a graph."""
    namespace = graph(wildcards)["namespace"]
    listed = set(read_relations(f"{RESOURCES}/relations.tsv", namespace)["relation_id"])
    return sorted(listed | (find_graph(namespace).of_lives if config["screen"]["exclude_living"] else set()))


def thresholds():
    """Return the limits that a logic rule must reach to be suggested."""
    mining = config["mining"]
    found = {name: mining[name] for name in mining if name.startswith("min_")}
    if mining["functional_heads"]:
        found["min_functionality"] = config["cases"]["functionality"]
    return found


def rule_of_file(wildcards):
    """The logic rule that a file name stands for."""
    return {rule_file(rule): rule for rule in taken_rules(wildcards)}[wildcards.rule_file]
