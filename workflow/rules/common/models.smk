"""Configuration of the rules of models.smk."""

from aftershock.config.settings import is_gathered, is_published

GATHERED = [name for name, contents in MODELS.items() if is_gathered(contents)]
PUBLISHED = [name for name, contents in MODELS.items() if is_published(contents)]
SOURCE = ("hub", "revision", "kind", "file")


def moments_text(wildcards):
    """The text behind the second moments: what was gathered for them, else what the model's YAML names."""
    if wildcards.model in GATHERED:
        return f"results/models/{wildcards.model}/gathered.jsonl"
    return named_text(wildcards)


def gathered_text(wildcards):
    """The text that documents are drawn from; none for a model that writes them itself."""
    return [] if model(wildcards)["moments"].get("text") == "self" else named_text(wildcards)


def named_text(wildcards):
    """The files or the data set that the model's YAML names, else what it was trained on."""
    folder, file = f"results/models/{wildcards.model}", f"resources/models/{wildcards.model}.yaml"
    named = model(wildcards)["moments"].get("text")
    if isinstance(named, dict):
        return f"{folder}/text"
    if named:
        files = {path: resource_path(path) for path in ([named] if isinstance(named, str) else named)}
        missing = [path for path, found in files.items() if not Path(found).exists()]
        there = Path(folder, "moments.safetensors").exists()
        if (
            missing and not there and workflow.is_main_process
        ):  # else a job, or a plan for what is not there yet
            raise WorkflowError(
                f"{file}: moments.text: there is no {', no '.join(missing)}, which editors with second moments "
                "need; a path is relative to the working directory. Put the text there, or name a data set"
            )
        return list(files.values())
    if "train" in model(wildcards):
        return f"{folder}/text.txt"
    raise WorkflowError(
        f"{file}: moments.text: missing, and editors with second moments need it; name a file, a data set or self"
    )


def beginning(wildcards):
    """The document token of a model, where its file names one: no chat template stands around documents."""
    return reading_of(model(wildcards), ["document_token"])


def reader(wildcards):
    """Options of the model that documents are read with."""
    options = {name: config["engine"][name] for name in ("device_map", "special_tokens")}
    return options | beginning(wildcards)


def moments_sample(wildcards):
    """Options of sampling the text behind the second moments; all of it is taken where it was gathered."""
    sample = {
        name: value
        for name, value in model(wildcards)["moments"].items()
        if name not in ("text", "tokens", *SOURCE)
    }
    if wildcards.model in GATHERED:
        sample |= {"column": "text", "vectors_per_dimension": None}
    return sample


def gathered_sample(wildcards):
    """Options of gathering text, and the amount."""
    sample = {name: value for name, value in model(wildcards)["moments"].items() if name != "text"}
    return {"tokens": "auto"} | sample


def published_source(wildcards):
    """The place of a model's published second moments."""
    return {name: value for name, value in model(wildcards)["moments"].items() if name in SOURCE}


def training(wildcards):
    """Options of training a model, and of reading the texts of its recall."""
    return model(wildcards)["train"] | beginning(wildcards)


def training_parts(wildcards):
    """Return the number of cores that training a model can use."""
    return model(wildcards)["train"]["parts"]


def layers_with_moments(wildcards):
    """Every layer whose moments a configured editor needs for this model."""
    return moment_layers(EDITOR_LABELS, model(wildcards))


def layers_with_attention_moments(wildcards):
    """Every layer whose attention's moments a configured editor needs for this model."""
    return artifact_layers("attention_moments", EDITOR_LABELS, model(wildcards))


def layers_with_null_space(wildcards):
    """Every layer whose null space a configured editor needs for this model."""
    return artifact_layers("null_space", EDITOR_LABELS, model(wildcards))


def swept_editors(wildcards):
    """The editors that find_layers tries at each layer, by label."""
    labels = config["find_layers"]["editors"]
    if labels is None:
        labels = [
            name
            for name, e in EDITOR_LABELS.items()
            if e.get("second_edit", "plain") == "plain" and "layers" in merged_settings(e, model(wildcards))
        ]
    if unknown := sorted(set(labels) - set(EDITOR_LABELS)):
        known = ", ".join(EDITOR_LABELS)
        raise WorkflowError(f"find_layers.editors: {', '.join(unknown)} is unknown; known: {known}")
    return {
        label: {
            "method": EDITOR_LABELS[label]["method"],
            "settings": merged_settings(EDITOR_LABELS[label], model(wildcards)),
            "regularisers": merged_entries(EDITOR_LABELS[label].get("regularisers", ())),
        }
        for label in labels
    }


def swept_text(wildcards):
    """The text behind second moments, when an editor that find_layers tries needs them."""
    needed = [artifacts_for(label, wildcards.model) for label in swept_editors(wildcards)]
    return moments_text(wildcards) if any("moments" in with_sources(names) for names in needed) else []


GPT2 = family_code(TRAINED[0]) if TRAINED else []
"""The module with the family of models that are trained here."""


def code_of_sweep(wildcards):
    """The code of find_layers: its own, and that of every editor that it tries."""
    editors = swept_editors(wildcards).values()
    named = {part for editor in editors for part in method_of(editor["method"]).code}
    named |= {part for editor in editors for part in code_of_entries(editor["regularisers"])}
    return code_of("find_layers", *family_code(wildcards.model), *sorted(named))
