"""Configuration of the rules of screen.smk."""

from aftershock.kg.graph import find_graph


def screened_words(wildcards):
    """The file of words that keep a label out, if there is one."""
    words = config["screen"]["words"]
    return resource_path(words) if words else []


def label_scores(wildcards):
    """Return the verdicts of the classifier of texts on a graph's labels, if there is one."""
    return f"results/kg/{wildcards.kg}/label_scores.parquet" if config["screen"]["classifier"] else []


def screen_threshold():
    """The score from which on a label is left out."""
    return (config["screen"]["classifier"] or {"threshold": 1.0})["threshold"]


def living(wildcards):
    """Return the file of who lives, when that matters."""
    excluded = config["screen"]["exclude_living"] and find_graph(graph(wildcards)["namespace"]).death
    return f"results/kg/{wildcards.kg}/living.parquet" if excluded else []
