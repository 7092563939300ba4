"""Configuration of the rules of paraphrases.smk."""


def paraphrase_settings(*names):
    """Some of the settings of `paraphrases`."""
    return {name: config["paraphrases"][name] for name in names}


def paraphrase_origin():
    """Return who writes paraphrases in this run, in words; nobody by default."""
    backend, model, address = paraphrase_settings("backend", "model", "base_url").values()
    return {"openai": f"{model} at {address}", "local": f"local model {model}"}.get(backend)


def weights_of(key):
    """The weights of the model that `paraphrases` names under `key`; nothing where it names none."""
    name = config["paraphrases"][key]
    return f"results/models/{name}/weights" if name in MODELS else []


def paraphrase_candidates(wildcards):
    """Return the candidates that the configured back end wrote."""
    backend = config["paraphrases"]["backend"]
    if backend is None:
        raise WorkflowError("paraphrases.backend is null, which asks nobody; set it to openai or local")
    return f"results/kg/{wildcards.kg}/paraphrases/{backend}/candidates.parquet"


def paraphrase_scores(wildcards):
    """Return the scores of true objects after the candidates, where a model ranks them."""
    backend, ranking_model = paraphrase_settings("backend", "ranking_model").values()
    return f"results/kg/{wildcards.kg}/paraphrases/{backend}/scores.parquet" if ranking_model else []


def generated_paraphrases(wildcards):
    """Paraphrases for relations with fewer than ten reviewed ones, where somebody is asked for them."""
    backend = config["paraphrases"]["backend"]
    return f"results/kg/{wildcards.kg}/paraphrases.parquet" if backend else []
