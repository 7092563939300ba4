"""Configuration of the rules of knowledge.smk."""


def asked_facts(wildcards):
    """The facts that a model is asked about before conflict cases are built."""
    if wildcards.kg in RELEASED:
        return f"results/kg/{wildcards.kg}/asked.facts.parquet"
    return f"results/{wildcards.kg}/{wildcards.model}/asked/facts.parquet"


def asked_objects(wildcards):
    """The one-to-many facts that a model is asked about before round cases are built."""
    if wildcards.kg in RELEASED:
        return f"results/kg/{wildcards.kg}/asked.objects.parquet"
    return f"results/{wildcards.kg}/{wildcards.model}/asked/objects.parquet"


def answers(wildcards, kind):
    """Return a model's answers about facts or objects, in as many files as there are jobs."""
    n, folder = config["shards"]["questions"], f"results/{wildcards.kg}/{wildcards.model}/answers"
    return [f"{folder}/{kind}.{i}-of-{n}.parquet" for i in range(1, n + 1)]


def asked_instances(wildcards):
    """The instances of logic rules behind the facts that a model is asked about; published files have none."""
    return [] if wildcards.kg in RELEASED else f"results/kg/{wildcards.kg}/instances.parquet"


def label_encoder(wildcards):
    """The folder of the sentence encoder; none where the model's own embeddings are taken."""
    return [] if config["cases"]["label_encoder"] == "model" else "results/encoder"


def encoder_source(wildcards):
    """Return where the sentence encoder comes from."""
    source = config["cases"]["label_encoder"]
    return {"path": resource_path(source["path"])} if "path" in source else source
