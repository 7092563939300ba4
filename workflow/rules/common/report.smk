"""Configuration of the rules of report.smk."""


def precisions():
    """Return the comparisons that come before the report: nothing in a strict run."""
    if config["engine"]["precision"] == "strict":
        return []
    runs = {(run["model"], run["editor"], run["seed"]) for run in RUNS}
    return [f"results/{KG}/{name}/precision/{editor}.s{seed}.parquet" for name, editor, seed in sorted(runs)]


def results(kind):
    """One `kind` of file of every run: a model, dataset, editor and seed."""
    return [f"results/{KG}/{r['model']}/{r['dataset']}/{r['editor']}/s{r['seed']}/{kind}" for r in RUNS]


def of_settings(pattern):
    """One file of every model and dataset."""
    return [pattern.format(kg=KG, model=name, dataset=dataset) for name, dataset in SETTINGS]


def known_of_settings():
    """Return every model with each file that says how much it knew of what datasets are made of."""
    settings = [SimpleNamespace(kg=KG, model=name, dataset=dataset) for name, dataset in SETTINGS]
    return list(dict.fromkeys((each.model, counts_of_known(each)) for each in settings))


def facets_of_settings():
    """The facets of the cases of every model and dataset, from the first of its runs."""
    first = {}
    for path, r in zip(results("facets.parquet"), RUNS):
        first.setdefault((r["model"], r["dataset"]), path)
    return [first[setting] for setting in SETTINGS]


def tuned():
    """Model and editor of every tuning, with its trials."""
    found, used = {}, {(run["model"], run["editor"]) for run in [*RUNS, *SEQUENCES]}
    for name in config["models"]:
        for label in (label for label in EDITOR_LABELS if (name, label) in used):
            path = trials(SimpleNamespace(kg=KG, model=name, editor=label))
            if path:
                found[path] = (name, EDITOR_LABELS[label].get("tuned_as", label))
    return [(label, path) for path, label in found.items()]


def published():
    """The published files that reported figures ask about; none for cases that were built."""
    return released_files(SimpleNamespace(kg=KG)) if KG in RELEASED else []


def circumstances():
    """Return what reported figures have to know about this run; see paper/reported.py."""
    engine, mend = config["engine"], config["mend"]
    learnt = mend["edits"]["file"] if mend["edits"] else f"facts of {mend['kg'] or KG}"
    texts = {
        name: model.get("moments", {}).get("text")
        or model.get("moments", {}).get("hub")
        or "what it was trained on"
        for name, model in MODELS.items()
    }
    return {
        "hubs": {name: MODELS[name].get("source", {}).get("hub") for name in config["models"]},
        "editors": EDITOR_LABELS,
        "folder": released_folder(SimpleNamespace(kg=KG)) if KG in RELEASED else None,
        "here": {
            "target_ids": f"{engine['target_ids']} (target_ids); precision {engine['precision']}",
            "templates": "texts sampled from the model with the run's seed",
            "mend": f"trained on {learnt}, locality from {mend['locality_file'] or 'the graph'}",
            "mend_vocabulary": "the model's own",
        },
        "models": {name: {"moments": f"text: {texts[name]}"} for name in config["models"]},
    }
