"""Configuration of the rules of datasets.smk."""

from aftershock.kg.graph import find_graph


def described_file(wildcards):
    """The RDF file behind a graph; a service has none."""
    return [] if graph(wildcards)["source"] == "endpoint" else graph_file(wildcards)


def account_of_atlas(wildcards):
    """The account of make_atlas; other graphs have none."""
    return f"results/kg/{wildcards.kg}/atlas.json" if graph(wildcards)["source"] == "atlas" else []


def facts_of_run():
    """Return what the graph of this run gives, with its datasheet; nothing where there is no graph."""
    if KG not in RELEASED + MINED:
        return []
    names = ["findings.csv"] if KG in RELEASED else ["datasheet.md", "summary.csv", "suggested_rules.tsv"]
    return [f"results/kg/{KG}/{name}" for name in names]


def exported_splits():
    """The splits that any dataset of this run has cases in; test in any case."""
    quotas = config["cases"]["quotas"]
    return [s for s in SPLITS if s == "test" or any(quotas[s].get(d, 0) for d in config["datasets"])]


def datasets_of_run():
    """The datasets of this run for each model, with their datasheets and in the published format; published
    cases have neither.
    """
    kinds = [".parquet"] if KG in RELEASED else [".parquet", ".md"]
    cases = [
        f"results/{KG}/{name}/cases/{dataset}{kind}"
        for name in config["models"]
        for dataset in config["datasets"]
        for kind in kinds
    ]
    splits = exported_splits() if KG in MINED and config["datasets"] else []
    return cases + [f"results/{KG}/{name}/released/{split}" for name in config["models"] for split in splits]


def counts_of_known(wildcards):
    """Return the files that say how much a model knows of what a dataset is made of."""
    name = "objects" if wildcards.dataset in ROUND else "verified"
    return f"results/{wildcards.kg}/{wildcards.model}/{name}.csv"
