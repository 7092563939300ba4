"""Named input functions, what the configuration selects, and wildcard constraints."""

import re
from itertools import zip_longest
from pathlib import Path
from types import SimpleNamespace

from aftershock.cases import CONFLICT, ROUND, SPLITS
from aftershock.cases.released import FILES, PROMPT_FILES
from aftershock.code_hash import code_hash
from aftershock.config import check_config, merged_settings
from aftershock.editors.settings import as_values, is_sequential
from aftershock.editors.table import EDITORS, mend_training, settings_of
from aftershock.figure_names import KINDS
from aftershock.kg.graph import find_graph
from aftershock.kg.sheets import kept_rules, one_to_many_relations, read_relations
from aftershock.metrics.precision import CASES_NEEDED
from aftershock.process import name_run
from snakemake.exceptions import WorkflowError

name_run()  # so that no job outlives this run

RESOURCES = f"{workflow.basedir}/resources"

try:
    MODELS = check_config(config, workflow.basedir)
except ValueError as error:
    raise WorkflowError(str(error)) from None

KG = config["kg"]
EDITOR_LABELS = {label: editor for label, editor in config["editors"].items() if editor}
STUDY = config["study"] or "default"
REPORT = f"results/report/{config['study']}" if config["study"] else "results/report"
RELEASED = [name for name, kg in config["kgs"].items() if kg["source"] == "released"]
MINED = [name for name in config["kgs"] if name not in RELEASED]
TRAINED = [name for name, model in MODELS.items() if "train" in model]
FETCHED = [name for name in MODELS if name not in TRAINED]


def any_of(names):
    """A pattern that matches one of `names` and nothing else."""
    return "|".join(re.escape(name) for name in sorted(names)) or "(?!)"


wildcard_constraints:
    kg=any_of(config["kgs"]),
    model=any_of(MODELS),
    dataset=any_of(CONFLICT + ROUND),
    editor=any_of(EDITOR_LABELS),
    backend="openai|local",
    kind="all|conflict|round",
    split="|".join(SPLITS),
    seed=r"\d+",
    shard=r"\d{5}-\d{5}",


# --- graphs -----------------------------------------------------------------------------------------------


def resource_path(path):
    """A path of the configuration: relative to the working directory, else to the project."""
    return path if Path(path).exists() else f"{workflow.basedir}/{path}"


def graph(wildcards):
    """The configuration of the graph."""
    return config["kgs"][wildcards.kg]


def graph_file(wildcards):
    """The RDF file of a graph: made from a world's description, or the user's own."""
    kg = graph(wildcards)
    return (
        f"results/kg/{wildcards.kg}/world.nt.gz" if kg["source"] == "generated" else resource_path(kg["file"])
    )


def graph_store(wildcards):
    """The store that a mining job serves, or the tables of a dump; an endpoint elsewhere needs none."""
    source = graph(wildcards)["source"]
    folder = "dump" if source == "dump" else "store"
    return [] if source == "endpoint" else f"results/kg/{wildcards.kg}/{folder}"


def listed_relations(wildcards):
    """The relations that resources/relations.tsv lists for a graph."""
    namespace = graph(wildcards)["namespace"]
    listed = set(read_relations(f"{RESOURCES}/relations.tsv", namespace)["relation_id"])
    return sorted(listed | (find_graph(namespace).of_lives if config["screen"]["exclude_living"] else set()))


def rule_file(rule):
    """A logic rule as part of a file name."""
    return rule.replace("&", "-").replace(">", "-")


def taken_rules(wildcards):
    """The logic rules that resources/rules.tsv keeps and this run takes."""
    mining = config["mining"]
    return kept_rules(RESOURCES, graph(wildcards)["namespace"], mining["rules"], mining["functional_heads"])


def thresholds():
    """What a logic rule must reach to be suggested."""
    mining = config["mining"]
    found = {name: mining[name] for name in mining if name.startswith("min_")}
    if mining["functional_heads"]:
        found["min_functionality"] = config["cases"]["functionality"]
    return found


def combinations(wildcards):
    """One file per logic rule that is taken."""
    rules = taken_rules(wildcards)
    return [f"results/kg/{wildcards.kg}/combinations/{rule_file(rule)}.parquet" for rule in rules]


def one_to_many_ids(wildcards):
    """The relations whose subjects with several objects are looked for."""
    return one_to_many_relations(RESOURCES, graph(wildcards)["namespace"])


def one_to_many(wildcards):
    """One file per relation with several objects."""
    relations = one_to_many_ids(wildcards)
    return [f"results/kg/{wildcards.kg}/objects/{relation}.parquet" for relation in relations]


def screened_words(wildcards):
    """The file of words that keep a label out, if there is one."""
    words = config["screen"]["words"]
    return resource_path(words) if words else []


def label_scores(wildcards):
    """What the classifier of texts says of a graph's labels, if there is one."""
    return f"results/kg/{wildcards.kg}/label_scores.parquet" if config["screen"]["classifier"] else []


def screen_threshold():
    """The score from which on a label is left out."""
    return (config["screen"]["classifier"] or {"threshold": 1.0})["threshold"]


def living(wildcards):
    """Who lives, when that matters."""
    excluded = config["screen"]["exclude_living"] and find_graph(graph(wildcards)["namespace"]).death
    return f"results/kg/{wildcards.kg}/living.parquet" if excluded else []


def described_file(wildcards):
    """The RDF file behind a graph; a service has none."""
    return [] if graph(wildcards)["source"] == "endpoint" else graph_file(wildcards)


def facts_of_run():
    """What the graph of this run gives, with its datasheet."""
    names = ["findings.csv"] if KG in RELEASED else ["datasheet.md", "summary.csv", "suggested_rules.tsv"]
    return [f"results/kg/{KG}/{name}" for name in names]


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
    splits = [] if KG in RELEASED else exported_splits()
    return cases + [f"results/{KG}/{name}/released/{split}" for name in config["models"] for split in splits]


def exported_splits():
    """The splits that any dataset of this run has cases in; test in any case."""
    quotas = config["cases"]["quotas"]
    return [s for s in SPLITS if s == "test" or any(quotas[s].get(d, 0) for d in config["datasets"])]


def rule_of_file(wildcards):
    """The logic rule that a file name stands for."""
    return {rule_file(rule): rule for rule in taken_rules(wildcards)}[wildcards.rule_file]


def released_folder(wildcards):
    """The folder of published files."""
    return graph(wildcards)["folder"]


def released_files(wildcards):
    """The published files that this run reads."""
    folder = Path(released_folder(wildcards))
    return [folder / name for name in (*(FILES[d] for d in config["datasets"]), *PROMPT_FILES.values())]


def prompts_of(wildcards, kind):
    """The prompts of a graph; published files have a set for conflict and one for round datasets."""
    name = f"prompts.{kind}" if wildcards.kg in RELEASED else "prompts"
    return f"results/kg/{wildcards.kg}/{name}.parquet"


def prompts(wildcards):
    """The prompts of a dataset."""
    return prompts_of(wildcards, "round" if wildcards.dataset in ROUND else "conflict")


def prompts_for_facts(wildcards):
    """The prompts of the facts behind conflict cases."""
    return prompts_of(wildcards, "conflict")


def prompts_for_objects(wildcards):
    """The prompts of one-to-many facts."""
    return prompts_of(wildcards, "round")


def paraphrase_settings(*names):
    """Some of the settings of `paraphrases`."""
    return {name: config["paraphrases"][name] for name in names}


def paraphrase_origin():
    """Who writes paraphrases in this run, in words; nobody by default."""
    backend, model, address = paraphrase_settings("backend", "model", "base_url").values()
    return {"openai": f"{model} at {address}", "local": f"local model {model}"}.get(backend)


def weights_of(key):
    """The weights of the model that `paraphrases` names under `key`; nothing where it names none."""
    name = config["paraphrases"][key]
    return f"results/models/{name}/weights" if name in MODELS else []


def paraphrase_candidates(wildcards):
    """What the configured back end wrote."""
    backend = config["paraphrases"]["backend"]
    if backend is None:
        raise WorkflowError("paraphrases.backend is null, which asks nobody; set it to openai or local")
    return f"results/kg/{wildcards.kg}/paraphrases/{backend}/candidates.parquet"


def paraphrase_scores(wildcards):
    """How likely true objects are after the candidates, where a model ranks them."""
    backend, ranking_model = paraphrase_settings("backend", "ranking_model").values()
    return f"results/kg/{wildcards.kg}/paraphrases/{backend}/scores.parquet" if ranking_model else []


def generated_paraphrases(wildcards):
    """Paraphrases for relations with fewer than ten reviewed ones, where somebody is asked for them."""
    backend = config["paraphrases"]["backend"]
    return f"results/kg/{wildcards.kg}/paraphrases.parquet" if backend else []


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
    """What a model said about facts or objects, in as many files as there are jobs."""
    n, folder = config["shards"]["questions"], f"results/{wildcards.kg}/{wildcards.model}/answers"
    return [f"{folder}/{kind}.{i}-of-{n}.parquet" for i in range(1, n + 1)]


def counts_of_known(wildcards):
    """How much a model knows of what a dataset is made of."""
    name = "objects" if wildcards.dataset in ROUND else "verified"
    return f"results/{wildcards.kg}/{wildcards.model}/{name}.csv"


def asked_instances(wildcards):
    """The instances of logic rules behind the facts that a model is asked about; published files have none."""
    return [] if wildcards.kg in RELEASED else f"results/kg/{wildcards.kg}/instances.parquet"


def label_encoder(wildcards):
    """The folder of the sentence encoder; none where the model's own embeddings are taken."""
    return [] if config["cases"]["label_encoder"] == "model" else "results/encoder"


def encoder_source(wildcards):
    """Where the sentence encoder comes from."""
    source = config["cases"]["label_encoder"]
    return {"path": resource_path(source["path"])} if "path" in source else source


# --- models -----------------------------------------------------------------------------------------------


def model(wildcards):
    """The contents of resources/models/{model}.yaml."""
    return MODELS[wildcards.model]


def taught(wildcards):
    """What a model trained on this very graph was taught; nothing for other models."""
    if model(wildcards).get("kg") == wildcards.kg:
        return f"results/models/{wildcards.model}/taught.parquet"
    return []


def moments_text(wildcards):
    """The text behind the second moments: files or a data set that the model's YAML names, else what it was
    trained on."""
    named = model(wildcards)["moments"].get("text")
    if isinstance(named, dict):
        return f"results/models/{wildcards.model}/text"
    if named:
        return [resource_path(path) for path in ([named] if isinstance(named, str) else named)]
    if "train" in model(wildcards):
        return f"results/models/{wildcards.model}/text.txt"
    raise WorkflowError(
        f"{wildcards.model} needs text for second moments: name some in resources/models/"
        f"{wildcards.model}.yaml, as moments: {{text: file}}"
    )


def moments_sample(wildcards):
    """How the text behind the second moments is sampled."""
    return {name: value for name, value in model(wildcards)["moments"].items() if name != "text"}


# --- cases and editors ------------------------------------------------------------------------------------


def shards(wildcards):
    """Ranges of test cases, each a job; no range cuts a block of 32 cases.

    An editor whose edits depend on those before them is one job.
    """
    kg, editor = config["kgs"][KG], EDITOR_LABELS[wildcards.editor]
    quotas = config["cases"]["quotas"]["test"]
    n = kg["sample"] if kg["source"] == "released" else quotas.get(wildcards.dataset, 0)
    settings = settings_of(editor["method"], merged_settings(editor, model(wildcards)))
    step = max(n, 1) if is_sequential(settings) else config["shards"]["cases"]
    return [f"{start:05d}-{min(start + step, n) - 1:05d}" for start in range(0, n, step)]


def editors_of(dataset):
    """The editors that `dataset` is made for: multi-label editing needs several true objects."""
    return [
        label
        for label, editor in EDITOR_LABELS.items()
        if dataset in ROUND or editor.get("second_edit", "plain") == "plain"
    ]


def tuned_label(wildcards):
    """The editor whose trials choose the settings."""
    return EDITOR_LABELS[wildcards.editor].get("tuned_as", wildcards.editor)


def trials(wildcards):
    """The trials of an editor, when there is something to choose from."""
    label = tuned_label(wildcards)
    searched = model(wildcards).get("search", {}).get(EDITOR_LABELS[label]["method"])
    if config["tuning"]["trials"] > 1 and searched and wildcards.kg not in RELEASED:
        return f"results/{wildcards.kg}/{wildcards.model}/tune/{label}.parquet"
    return []


def moments(wildcards):
    """Second moments, for editors that need them."""
    needs = EDITORS[EDITOR_LABELS[wildcards.editor]["method"]].needs
    return f"results/models/{wildcards.model}/moments.safetensors" if "moments" in needs else []


def hypernetwork(wildcards):
    """The trained hypernetwork, for editors that need one; tuning works on coverage."""
    editor, mend = EDITOR_LABELS[wildcards.editor], config["mend"]
    if "mend" not in EDITORS[editor["method"]].needs:
        return []
    kind = "round" if getattr(wildcards, "dataset", "coverage") in ROUND else "conflict"
    kind = "all" if mend["kinds"] == "all" else kind
    return f"results/{mend['kg'] or wildcards.kg}/{wildcards.model}/mend/{kind}/hypernetwork.safetensors"


def mend_layers(wildcards):
    """The layers that the model's configured editors want a hypernetwork for: the same for all."""
    editor = next(e for e in EDITOR_LABELS.values() if "mend" in EDITORS[e["method"]].needs)
    return merged_settings(editor, model(wildcards))["layers"]


def mend_settings(wildcards):
    """How a model's hypernetwork is trained: the defaults, the model's settings, then the run's."""
    return as_values(mend_training(model(wildcards)["mend"], config["mend"]["settings"]))


def locality_texts(wildcards):
    """The file of texts that coverage cases ask about, if there is one."""
    path = config["cases"]["locality_file"]
    return resource_path(path) if path and wildcards.dataset == "coverage" else []


def locality_file(wildcards):
    """The file of texts that MEND should learn to leave alone; none where they come from the graph."""
    path = config["mend"]["locality_file"]
    return resource_path(path) if path else []


def editor_settings(wildcards):
    """Method, settings and second edit of an editor for one model."""
    editor = EDITOR_LABELS[wildcards.editor]
    return {
        "method": editor["method"],
        "second_edit": editor.get("second_edit", "plain"),
        "labels": editor.get("labels", "all"),
        "settings": merged_settings(editor, model(wildcards)),
    }


def editor_code(wildcards):
    """A hash of what an editor's results depend on; its module is named because the table hides it."""
    method = EDITOR_LABELS[wildcards.editor]["method"]
    return code_hash("aftershock.editors.protocol", "aftershock.editors.tuning", EDITORS[method].module)


def moment_layers(wildcards):
    """Every layer whose moments a configured editor needs for this model."""
    layers = set()
    for editor in EDITOR_LABELS.values():
        if "moments" in EDITORS[editor["method"]].needs:
            layers |= set(merged_settings(editor, model(wildcards))["layers"])
            layers |= {
                layer
                for choice in model(wildcards).get("search", {}).get(editor["method"], {}).get("layers", [])
                for layer in choice
            }
    return sorted(layers)


def swept_editors(wildcards):
    """The editors that find_layers tries at each layer, by label."""
    labels = config["find_layers"]["editors"]
    if labels is None:
        labels = [name for name, e in EDITOR_LABELS.items() if e.get("second_edit", "plain") == "plain"]
    if unknown := sorted(set(labels) - set(EDITOR_LABELS)):
        known = ", ".join(EDITOR_LABELS)
        raise WorkflowError(f"find_layers.editors: {', '.join(unknown)} is unknown; known: {known}")
    return {
        label: {
            "method": EDITOR_LABELS[label]["method"],
            "settings": merged_settings(EDITOR_LABELS[label], model(wildcards)),
        }
        for label in labels
    }


def swept_text(wildcards):
    """The text behind second moments, when an editor that find_layers tries needs them."""
    methods = [editor["method"] for editor in swept_editors(wildcards).values()]
    return moments_text(wildcards) if any("moments" in EDITORS[m].needs for m in methods) else []


def shard_files(wildcards, kind):
    """The files of all shards of one editor on one dataset."""
    folder = (
        f"results/{wildcards.kg}/{wildcards.model}/{wildcards.dataset}/{wildcards.editor}/s{wildcards.seed}"
    )
    return [f"{folder}/{kind}/{shard}.parquet" for shard in shards(wildcards)]


def scored_files(wildcards, kind):
    """The files of the shards that are scored: all, or of an incomplete run those that are there."""
    pairs = list(zip(*(shard_files(wildcards, name) for name in ("observations", "telemetry"))))
    if config["report"]["incomplete"]:
        pairs = [pair for pair in pairs if all(Path(path).exists() for path in pair)]
    return [pair[kind == "telemetry"] for pair in pairs]


def graph_facts(wildcards):
    """The facts of a mined graph, which say how much it knows of an entity."""
    return [] if wildcards.kg in RELEASED else f"results/kg/{wildcards.kg}/facts.parquet"


def compared_shards(wildcards):
    """(dataset, shard) of the cases on which precisions are compared: of each dataset in turn, until enough."""
    names = [name for name in config["datasets"] if wildcards.editor in editors_of(name)]
    asked = [SimpleNamespace(model=wildcards.model, editor=wildcards.editor, dataset=name) for name in names]
    ranges = zip_longest(*([(run.dataset, shard) for shard in shards(run)] for run in asked))
    chosen, tested = [], 0
    for name, shard in (pair for row in ranges for pair in row if pair):
        if tested >= CASES_NEEDED:
            break
        first, last = map(int, shard.split("-"))
        chosen.append((name, shard))
        tested += last - first + 1
    return chosen


def compared_files(wildcards, pattern):
    """A file of each compared shard."""
    folder, run = f"results/{wildcards.kg}/{wildcards.model}", f"{wildcards.editor}/s{wildcards.seed}"
    return [
        f"{folder}/{pattern.format(dataset=dataset, shard=shard, run=run)}"
        for dataset, shard in compared_shards(wildcards)
    ]


def search_space(wildcards):
    """The values that tuning may choose from, by setting."""
    return model(wildcards).get("search", {}).get(EDITOR_LABELS[wildcards.editor]["method"], {})


# --- the report -------------------------------------------------------------------------------------------

RUNS = [
    {"model": name, "dataset": dataset, "editor": editor, "seed": seed}
    for name in config["models"]
    for dataset in config["datasets"]
    for editor in editors_of(dataset)
    for seed in config["seeds"]
]


def precisions():
    """What has to be compared before the report: nothing in a strict run."""
    if config["engine"]["precision"] == "strict":
        return []
    runs = {(run["model"], run["editor"], run["seed"]) for run in RUNS}
    return [f"results/{KG}/{name}/precision/{editor}.s{seed}.parquet" for name, editor, seed in sorted(runs)]


def results(kind):
    """One `kind` of file of every run: a model, dataset, editor and seed."""
    return [f"results/{KG}/{r['model']}/{r['dataset']}/{r['editor']}/s{r['seed']}/{kind}" for r in RUNS]


SETTINGS = list(dict.fromkeys((run["model"], run["dataset"]) for run in RUNS))
"""Every model and dataset of the run."""


def of_settings(pattern):
    """One file of every model and dataset."""
    return [pattern.format(kg=KG, model=name, dataset=dataset) for name, dataset in SETTINGS]


def tuned():
    """Model and editor of every tuning, with its trials."""
    found = {}
    for name in config["models"]:
        for label in EDITOR_LABELS:
            path = trials(SimpleNamespace(kg=KG, model=name, editor=label))
            if path:
                found[path] = (name, EDITOR_LABELS[label].get("tuned_as", label))
    return [(label, path) for path, label in found.items()]


TUNED = tuned()
HYPERNETWORKS = {
    hypernetwork(SimpleNamespace(kg=KG, **run)): run["model"]
    for run in RUNS
    if "mend" in EDITORS[EDITOR_LABELS[run["editor"]]["method"]].needs
}
"""The model of every hypernetwork that this run edits with."""


def published():
    """The published files that reported figures ask about; none for cases that were built."""
    return released_files(SimpleNamespace(kg=KG)) if KG in RELEASED else []


SCORED = {
    name: f"results/{KG}/{name}/{config['datasets'][0]}/unedited.parquet"
    for name in config["models"]
    if KG in RELEASED
}
"""A table that each model was loaded for, whose provenance names the software; for published files only."""


def circumstances():
    """What reported figures have to know about this run; see reported.py."""
    engine, mend = config["engine"], config["mend"]
    texts = {
        name: model.get("moments", {}).get("text") or "what it was trained on"
        for name, model in MODELS.items()
    }
    return {
        "hubs": {name: MODELS[name].get("source", {}).get("hub") for name in config["models"]},
        "editors": EDITOR_LABELS,
        "folder": released_folder(SimpleNamespace(kg=KG)) if KG in RELEASED else None,
        "here": {
            "target_ids": f"{engine['target_ids']} (target_ids); precision {engine['precision']}",
            "templates": "texts sampled from the model with the run's seed",
            "mend": f"trained on facts of {mend['kg'] or KG}, locality from {mend['locality_file'] or 'the graph'}",
            "mend_vocabulary": "the model's own",
        },
        "models": {name: {"moments": f"text: {texts[name]}"} for name in config["models"]},
    }
