"""What a run is asked to do, checked as a whole before any job starts."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aftershock.editors.depth import VARIANTS, default_layers
from aftershock.editors.settings import as_values, merge
from aftershock.editors.table import EDITORS, mend_training, settings_of
from aftershock.kg.graph import GRAPHS
from aftershock.kg.sheets import PARAPHRASES
from aftershock.metrics.catalogue import BY_NAME, find_metric
from aftershock.schema import Fault, faults, fill_defaults, read_schema, read_sheet, suggestion, without

TEMPLATES = ("seen", "held_out_fact", "held_out_relation")  # that recall is measured on
TRIPLES = ("ntriples", "dump")  # sources that are files of triples
ENDINGS = (".nt", ".nt.gz", ".nt.bz2")
NO_CONTACT = (
    "missing; a public service wants to know whom to write to. Give your mail or web address in a file of "
    "your own, named last on the command line: kgs: {{{name}: {{contact: you@example.org}}}}"
)


def check_config(config: dict[str, Any], folder: str | Path) -> dict[str, dict[str, Any]]:
    """The contents of the configured models' files, by name, after checking all that a run is made from.

    Those of models that write or rank paraphrases are among them. `folder` is the project's. Defaults of the
    schemas are filled into `config` and into the models in place. ValueError lists every error in the
    configuration, the models' files and the sheets in resources/.
    """
    folder = Path(folder)
    fill_defaults(config, read_schema("config"))
    found = faults(config, read_schema("config"))
    sound = {"kgs": {}, "models": [], "editors": {}, "cases": {}, "report": {}}
    sound |= without(config, [fault for fault in found if not _is_contact(fault)])
    models, model_errors = _models(sound, folder / "resources" / "models")
    errors = [*_without_contact(found), *(str(fault) for fault in found if not _is_contact(fault))]
    errors += [*_graphs(sound, models, folder), *_editors(sound), *_split(sound), *_bars(sound)]
    errors += model_errors
    errors += _mend(sound, models, folder)
    helpers, helper_errors = _helpers(sound, folder / "resources" / "models")
    errors += helper_errors
    errors += [*_sheets(folder / "resources", sound), *_screen(sound, folder)]
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise ValueError("\n  ".join([f"{count} in the configuration or in resources/:", *errors]))
    return {**helpers, **models}


def merged_settings(editor: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a configured editor for one model: the method's, the model's, then the run's.

    Layers that none of them gives are those of the method that this one is a variant of, or follow from the
    model's depth.
    """
    method = editor["method"]
    suited = model["editors"].get(method, {})
    return as_values(settings_of(method, _layers(method, model), suited, editor["settings"]))


def depth(model: Mapping[str, Any]) -> int | None:
    """How many layers a model's file says it has; None where it does not say."""
    return model.get("architecture", {}).get("n_layer") or model.get("n_layers")


def _layers(method: str, model: Mapping[str, Any]) -> dict[str, Any]:
    """The layers that suit a model where its file gives none for `method`."""
    like = model.get("editors", {}).get(VARIANTS.get(method), {})
    if "layers" in like:
        return {"layers": like["layers"]}
    known = depth(model) and default_layers(method, depth(model))
    return {"layers": known} if known else {}


def _graphs(
    config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], folder: Path
) -> Iterator[str]:
    """Unknown graphs and namespaces, and missing files of the graphs in use."""
    kgs = config["kgs"]
    if "kg" in config and config["kg"] not in kgs:
        yield f"kg: {config['kg']!r} is unknown; {suggestion(config['kg'], kgs)}"
    for name in {config.get("kg"), *(model.get("kg") for model in models.values())} & set(kgs):
        for key in {"file", "folder"} & set(kgs[name]):
            path = kgs[name][key]
            if not Path(path).exists() and not (folder / path).exists():
                yield f"kgs.{name}.{key}: there is no {path!r}; a path is relative to the working directory"
        if kgs[name]["source"] in TRIPLES and not kgs[name]["file"].endswith(ENDINGS):
            yield f"kgs.{name}.file: {kgs[name]['file']!r} is not named {' or '.join(ENDINGS)}"
    for name, kg in kgs.items():
        if kg["namespace"] not in GRAPHS:
            known = suggestion(kg["namespace"], GRAPHS)
            yield f"kgs.{name}.namespace: {kg['namespace']!r} is unknown; {known}"


def _is_contact(fault: Fault) -> bool:
    return fault.path[::2] == ("kgs", "contact") and fault.text == "missing"


def _without_contact(found: Iterable[Fault]) -> Iterator[str]:
    """What to do about each service that nobody answers for."""
    for fault in filter(_is_contact, found):
        yield f"{'.'.join(map(str, fault.path))}: {NO_CONTACT.format(name=fault.path[1])}"


def _split(config: Mapping[str, Any]) -> Iterator[str]:
    """Shares of the entities that do not add up to one."""
    total = sum(config["cases"].get("split", {"": 1}).values())
    if abs(total - 1) > 1e-9:
        yield f"cases.split: train, dev and test add up to {total:g}, not to 1"


def _editors(config: Mapping[str, Any]) -> Iterator[str]:
    """Unknown methods and settings, and labels that stand for no editor."""
    editors = {label: editor for label, editor in config["editors"].items() if editor}
    if config["editors"] and not editors:
        yield "editors: all are null; at least one is needed"
    for label, editor in editors.items():
        where, method = f"editors.{label}", editor["method"]
        if method in EDITORS:
            yield from _settings(method, f"{where}.settings", editor["settings"])
        else:
            yield f"{where}.method: {method!r} is unknown; {suggestion(method, EDITORS)}"
        like = editor.get("tuned_as", label)
        if like not in editors:
            yield f"{where}.tuned_as: {like!r} is unknown; {suggestion(like, editors)}"
        elif editors[like]["method"] != method:
            yield f"{where}.tuned_as: {like!r} is of method {editors[like]['method']!r}, not {method!r}"
        released = config["kgs"].get(config.get("kg"), {}).get("source") == "released"
        if editor.get("labels") == "related" and released:
            yield f"{where}.labels: published files name no neighbours of objects; take all, or a number"
        if editor.get("labels", "all") != "all" and editor.get("second_edit") != "multi_label":
            yield f"{where}.labels: it needs second_edit: multi_label"


def _mend(config: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[str]:
    """What hinders the training of a hypernetwork."""
    mend, kgs = config.get("mend", {}), config["kgs"]
    yield from _training_settings("mend.settings", mend.get("settings", {}))
    for section in ("cases", "mend"):
        path = config.get(section, {}).get("locality_file")
        if path and not Path(path).exists() and not (folder / path).exists():
            yield (
                f"{section}.locality_file: there is no {path!r}; a path is relative to the working directory"
            )
    editors = {
        label: editor
        for label, editor in config["editors"].items()
        if editor and editor["method"] in EDITORS and "mend" in EDITORS[editor["method"]].needs
    }
    source = mend.get("kg") or config.get("kg")
    if mend.get("kg") and source not in kgs:
        yield f"mend.kg: {source!r} is unknown; {suggestion(source, kgs)}"
    elif editors and source in kgs and kgs[source].get("source") == "released":
        label = next(iter(editors))
        yield f"mend.kg: published files have no train split; editors.{label} needs a graph that is mined"
    for name, model in models.items():
        try:
            layers = {tuple(merged_settings(editor, model)["layers"]) for editor in editors.values()}
        except (KeyError, ValueError):
            continue  # said elsewhere
        if len(layers) > 1:
            yield f"editors: {', '.join(editors)} share {name}'s hypernetwork, so they need the same layers"


def _training_settings(where: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Settings of MEND's training that are unknown or not accepted."""
    for name, value in values.items():
        try:
            mend_training({name: value})
        except ValueError as error:
            yield str(error).replace("mend.", f"{where}.", 1)


def _helpers(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Contents of the files of models that write or rank paraphrases, and what is wrong with them."""
    settings, models, errors = config.get("paraphrases", {}), {}, []
    if settings.get("backend") and not settings.get("model"):
        errors.append(f"paraphrases.model: missing; backend {settings['backend']} needs one")
    keys = ["ranking_model", *(["model"] if settings.get("backend") == "local" else [])]
    for key in keys:
        name = settings.get(key)
        if not name:
            continue
        file = folder / f"{name}.yaml"
        if not file.is_file():
            known = suggestion(name, (path.stem for path in folder.glob("*.yaml")))
            errors.append(f"paraphrases.{key}: {name!r} has no file resources/models/{file.name}; {known}")
            continue
        found, wrong = _models({"models": [name], "kgs": config["kgs"], "editors": {}}, folder)
        errors += [line for line in wrong if name not in config["models"]]
        models |= found
        if "train" in found.get(name, {}):
            errors.append(
                f"paraphrases.{key}: {name!r} is trained here on these very prompts; take one with a `source`"
            )
    return models, errors


def _bars(config: Mapping[str, Any]) -> Iterator[str]:
    """Bars of metrics or editors that are unknown."""
    editors = [label for label, editor in config["editors"].items() if editor]
    for number, bar in enumerate(config["report"].get("bars", ())):
        where, metric = f"report.bars.{number}", bar["metric"]
        known = TEMPLATES if bar["dataset"] == "recall" else BY_NAME
        if metric not in known and (known is TEMPLATES or not find_metric(metric)):
            yield f"{where}.metric: {metric!r} is unknown; {suggestion(metric, known)}"
        for label in bar.get("editors", ()):
            if label not in config["editors"]:
                yield f"{where}.editors: {label!r} is unknown; {suggestion(label, editors)}"


def _settings(method: str, where: str, values: Mapping[str, Any]) -> Iterator[str]:
    """Settings that `method` does not have or does not accept."""
    for name, value in values.items():
        try:
            merge(EDITORS[method].settings, where, {name: value})
        except ValueError as error:
            yield str(error)


def _models(config: Mapping[str, Any], folder: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Contents of the configured models' files by name, and what is wrong with them."""
    models, errors = {}, []
    for name in config["models"]:
        file = folder / f"{name}.yaml"
        if not file.is_file():
            known = suggestion(name, (path.stem for path in folder.glob("*.yaml")))
            errors.append(f"models: {name!r} has no file resources/models/{file.name}; {known}")
            continue
        try:
            model = yaml.safe_load(file.read_text(encoding="utf-8"))
        except yaml.YAMLError as error:
            errors.append(f"resources/models/{file.name} is not YAML: {error}")
            continue
        fill_defaults(model, read_schema("model"))
        found = faults(model, read_schema("model"))
        lines = [*map(str, found), *_model(without(model, found), config)]
        errors += [f"resources/models/{file.name}: {line}" for line in lines]
        models[name] = without(model, found)
    return models, errors


def _model(model: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a model's file beyond its schema."""
    if "kg" in model and model["kg"] not in config["kgs"]:
        yield f"kg: {model['kg']!r} is unknown; {suggestion(model['kg'], config['kgs'])}"
    if (n := depth(model)) is not None:
        for method, values in model.get("editors", {}).items():
            layers = values.get("layers", ())
            beyond = [layer for layer in layers if isinstance(layer, int) and layer >= n]
            if beyond:
                yield f"editors.{method}.layers: {beyond} are not among the model's layers 0 to {n - 1}"
    yield from _without_layers(model, config)
    yield from _training_settings("mend", model.get("mend", {}))
    for part in ("editors", "search"):
        for method, values in model.get(part, {}).items():
            if method not in EDITORS:
                yield f"{part}.{method}: unknown method; {suggestion(method, EDITORS)}"
            elif part == "editors":
                yield from _settings(method, f"{part}.{method}", values)
            else:
                for setting, options in values.items():
                    for option in options:
                        yield from _settings(method, f"{part}.{method}", {setting: option})


def _without_layers(model: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    """Configured editors whose layers neither a file nor the model's depth can tell."""
    for label, editor in config["editors"].items():
        method = editor["method"] if editor else None
        if method not in EDITORS or depth(model) is not None or "layers" in editor["settings"]:
            continue
        if "layers" not in {**_layers(method, model), **model.get("editors", {}).get(method, {})}:
            yield f"editors.{method}.layers: missing, for editor {label}; give them, or n_layers"


def _sheets(resources: Path, config: Mapping[str, Any]) -> list[str]:
    """What is wrong with the rows of relations.tsv, paraphrases.tsv and rules.tsv, and their selection."""
    sheets, errors = {}, []
    for name in ("relations", "paraphrases", "rules"):
        sheets[name], found = read_sheet(resources / f"{name}.tsv", name)
        errors += found
    if not errors:
        errors += [*_repeated(sheets), *_unknown_relations(sheets), *_paraphrases(sheets, config)]
        errors += _chosen_rules(sheets, config)
    return errors


def _screen(config: Mapping[str, Any], folder: Path) -> Iterator[str]:
    """What is wrong with the screen's files, and with leaving the living out."""
    screen = config.get("screen", {})
    words = screen.get("words")
    if words and not (Path(words).is_file() or (folder / words).is_file()):
        yield f"screen.words: {words} does not exist; name a file of words, or null for none"
    yield from read_sheet(folder / "resources" / "screen.tsv", "screen")[1]
    kg = config["kgs"].get(config.get("kg"), {})
    graph = GRAPHS.get(kg.get("namespace"))
    if screen.get("exclude_living") and kg.get("source") != "generated" and graph and not graph.of_lives:
        yield f"screen.exclude_living: graph {config['kg']!r} does not tell who lives; set it to false"
    if screen.get("exclude_living") and kg.get("source") == "released":
        yield "screen.exclude_living: published rows do not tell who lives; set it to false"


def _chosen_rules(sheets: Mapping[str, list[dict[str, str]]], config: Mapping[str, Any]) -> Iterator[str]:
    """Rules that this run wants but rules.tsv does not keep."""
    kept = [row["rule"] for row in sheets["rules"] if row["status"] == "keep"]
    for rule in config.get("mining", {}).get("rules") or ():
        if rule not in kept:
            yield (
                f"mining.rules: {rule!r} is not kept by rules.tsv; mark it keep there, or leave it out; "
                f"{suggestion(rule, kept)}"
            )


def _repeated(sheets: Mapping[str, list[dict[str, str]]]) -> Iterator[str]:
    keys = {"relations": ["relation_id"], "paraphrases": ["relation_id", "template"], "rules": ["rule"]}
    for name, columns in keys.items():
        counts = Counter(tuple(row[c] for c in ("namespace", *columns)) for row in sheets[name])
        yield from (f"{name}.tsv: {' '.join(key)} is there {n} times" for key, n in counts.items() if n > 1)


def _unknown_relations(sheets: Mapping[str, list[dict[str, str]]]) -> Iterator[str]:
    """Rows about relations that relations.tsv does not have."""
    known = {(row["namespace"], row["relation_id"]) for row in sheets["relations"]}
    for name in ("paraphrases", "rules"):
        for number, row in enumerate(sheets[name], start=2):
            ids = [row["relation_id"]] if name == "paraphrases" else row["rule"].replace("&", ">").split(">")
            for relation in ids:
                if (row["namespace"], relation) not in known:
                    options = suggestion(relation, [r for space, r in known if space == row["namespace"]])
                    yield (
                        f"{name}.tsv row {number}: unknown relation {relation!r}; {options}; describe it in "
                        "relations.tsv, or remove the row"
                    )


def _paraphrases(sheets: Mapping[str, list[dict[str, str]]], config: Mapping[str, Any]) -> Iterator[str]:
    """Relations with too few or too many paraphrases, or with their own prompt among them."""
    settings = config.get("paraphrases", {})
    templates: dict[tuple[str, str], list[str]] = {}
    for row in sheets["paraphrases"]:
        if row["status"] == "keep":
            templates.setdefault((row["namespace"], row["relation_id"]), []).append(row["template"])
    for row in sheets["relations"]:
        mine = templates.get((row["namespace"], row["relation_id"]), [])
        where = f"paraphrases.tsv: relation {row['relation_id']} of {row['namespace']}"
        if len(mine) > PARAPHRASES or len(mine) < PARAPHRASES and not settings.get("backend"):
            more = "" if len(mine) > PARAPHRASES else "; keep more rows, or set a paraphrases.backend"
            yield f"{where} has {len(mine)} paraphrases, not {PARAPHRASES}{more}"
        if row["prompt"] in mine:
            yield f"{where} repeats its prompt {row['prompt']!r}"
    known = [row["relation_id"] for row in sheets["relations"]]
    for relation in settings.get("relations") or ():
        if relation not in known:
            yield f"paraphrases.relations: {relation!r} is unknown; {suggestion(relation, known)}"
