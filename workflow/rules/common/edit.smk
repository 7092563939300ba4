"""Configuration of the rules of edit.smk."""

from aftershock.editors.mend import mend_training
from aftershock.editors.serac import serac_training
from aftershock.editors.settings import as_values


def mend_layers(wildcards):
    """The layers that the model's configured editors want a hypernetwork for: the same for all."""
    label = next(e for e in EDITOR_LABELS if "hypernetwork" in artifacts_for(e, wildcards.model))
    return merged_settings(EDITOR_LABELS[label], model(wildcards))["layers"]


def mend_settings(wildcards):
    """Return the settings of a hypernetwork's training: the defaults, the model's, then the run's."""
    return as_values(mend_training(model(wildcards)["mend"], config["mend"]["settings"]))


def serac_settings(wildcards):
    """Return the settings of SERAC's training: the defaults, the model's, then the run's."""
    return as_values(serac_training(model(wildcards)["serac"], config["serac"]["settings"]))


def file_of_training():
    """The file of edits that MEND and SERAC are trained on; none where they are trained on a graph."""
    edits = config["mend"]["edits"]
    return resource_path(edits["file"]) if edits else []


def source_of_training():
    """The format of that file, and its options."""
    edits = config["mend"]["edits"]
    return {name: value for name, value in edits.items() if name != "file"} if edits else None


def graphs_to_train_on():
    """The graphs that MEND and SERAC may be trained for: mined ones, or all where a file has the edits."""
    return config["kgs"] if config["mend"]["edits"] else MINED


def of_training_graph(pattern):
    """A file of the graph that MEND and SERAC are trained on; none where they are trained on a file."""
    return [] if config["mend"]["edits"] else pattern


def taught_in_training(wildcards):
    """Return the facts of MEND's and SERAC's graph that the model was taught."""
    return [] if config["mend"]["edits"] else taught(wildcards)


def locality_file(wildcards):
    """The file of texts to leave alone in training; none where they come from what is trained on."""
    path = config["mend"]["locality_file"]
    return resource_path(path) if path else []


def search_space(wildcards):
    """The values that tuning may choose from, by setting."""
    return (
        model(wildcards).get("search", {}).get(method_of(EDITOR_LABELS[wildcards.editor]["method"]).name, {})
    )


def shard_files(wildcards, kind):
    """The files of all shards of one editor on one dataset."""
    folder = (
        f"results/{wildcards.kg}/{wildcards.model}/{wildcards.dataset}/{wildcards.editor}/s{wildcards.seed}"
    )
    return [f"{folder}/{kind}/{shard}.parquet" for shard in shards(wildcards)]


def scored_files(wildcards, kind):
    """The files of the shards that are scored: all, or of an incomplete run those that are there."""
    names = ("observations", "telemetry", "health")
    made = list(zip(*(shard_files(wildcards, name) for name in names)))
    if config["report"]["incomplete"]:
        made = [files for files in made if all(Path(path).exists() for path in files)]
    return [files[names.index(kind)] for files in made]


def graph_facts(wildcards):
    """The facts of a mined graph, which say how much it knows of an entity."""
    return [] if wildcards.kg in RELEASED else f"results/kg/{wildcards.kg}/facts.parquet"
