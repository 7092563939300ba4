"""The configuration of a run, checked as a whole before any job starts."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from aftershock.config.editors import editor_errors, name_errors, training_data_errors
from aftershock.config.fetched import source_errors
from aftershock.config.graphs import graph_errors, reads_mined, screen_errors
from aftershock.config.models import (
    encoder_errors,
    family_errors,
    layer_errors,
    read_helpers,
    read_models,
)
from aftershock.config.sequences import sequence_errors
from aftershock.config.sheets import sheet_errors
from aftershock.config.tasks import task_errors
from aftershock.config.used import leave_out_unused, used_graphs
from aftershock.metrics.abilities.curves import MEASURES
from aftershock.metrics.catalogue import BY_NAME, find_metric
from aftershock.project import PROJECT
from aftershock.schema import Fault, faults, fill_defaults, read_schema, suggestion, without
from aftershock.text_files import read_yaml

TEMPLATES = ("seen", "held_out_fact", "held_out_relation")  # that recall is measured on
NEEDED_IN_USE = {"kgs": ("file", "folder", "url", "contact"), "editors": ("method",)}
NO_CONTACT = (
    "missing; a public service wants to know whom to write to. Give your mail or web address in a file of "
    "your own, named last on the command line: kgs: {{{name}: {{contact: you@example.org}}}}"
)


def check_config(config: dict[str, Any], folder: str | Path) -> dict[str, dict[str, Any]]:
    """The contents of the configured models' files, by name, after checking all that a run is made from.

    Those of models that write or rank paraphrases are among them. `folder` is the project's. Defaults of the
    schemas are filled into `config` and into the models in place, and models and editors that no stage uses
    are left out of it. ValueError lists every error in the configuration, the models' files and the sheets in
    resources/.
    """
    folder = Path(folder)
    fill_defaults(config, read_schema("config"))
    found = faults(config, read_schema("config"))
    sound: dict[str, Any] = {"kgs": {}, "models": [], "editors": {}, "cases": {}, "report": {}}
    sound |= without(config, [fault for fault in found if not _is_missing(fault, *NEEDED_IN_USE)])
    leave_out_unused(sound, found)
    unused = {label for label, editor in sound["editors"].items() if not editor}
    found = [fault for fault in found if not (_is_missing(fault, "editors") and fault.path[1] in unused)]
    sound |= without(sound, [fault for fault in found if not _is_missing(fault, "kgs")])
    models, model_errors = read_models(sound, folder / "resources" / "models")
    used = used_graphs(sound, models, folder)
    found = [fault for fault in found if not _is_missing(fault, "kgs") or fault.path[1] in used]
    sound |= without(sound, [fault for fault in found if not _is_contact(fault)])
    errors = [*_without_contact(found), *(str(fault) for fault in found if not _is_contact(fault))]
    faulty = {str(fault.path[1]) for fault in found if fault.path[:1] == ("kgs",) and len(fault.path) > 1}
    errors += [
        *graph_errors(sound, used, folder, faulty),
        *editor_errors(sound),
        *_split(sound),
        *_bars(sound),
    ]
    errors += _variants(sound)
    errors += [*name_errors(sound), *device_errors(sound), *sequence_errors(sound, folder), *_nothing(config)]
    errors += task_errors(sound, folder)
    errors += model_errors
    errors += [*family_errors(sound, models), *layer_errors(sound, models), *encoder_errors(sound, models)]
    errors += training_data_errors(sound, models, folder)
    helpers: dict[str, dict[str, Any]] = {}
    if reads_mined(sound, used):
        helpers, helper_errors = read_helpers(sound, folder / "resources" / "models")
        errors += helper_errors
    errors += [*sheet_errors(folder / "resources", sound), *screen_errors(sound, used, folder)]
    errors += source_errors(sound, {**helpers, **models}, folder, used)
    if errors:
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        raise ValueError("\n  ".join([f"{count} in the configuration or in resources/:", *errors]))
    leave_out_unused(config)
    return {**helpers, **models}


def _is_missing(fault: Fault, *sections: str) -> bool:
    """Return True if an entry of `sections` lacks a key that is only needed where a stage uses the entry."""
    keys = {(section, key) for section in sections for key in NEEDED_IN_USE[section]}
    return fault.path[::2] in keys and fault.text == "missing"


def _is_contact(fault: Fault) -> bool:
    return fault.path[::2] == ("kgs", "contact") and fault.text == "missing"


def _without_contact(found: Iterable[Fault]) -> Iterator[str]:
    """Yield a remedy for each service that nobody answers for."""
    for fault in filter(_is_contact, found):
        yield f"{'.'.join(map(str, fault.path))}: {NO_CONTACT.format(name=fault.path[1])}"


def _nothing(config: Mapping[str, Any]) -> Iterator[str]:
    """A run that has neither datasets nor plans."""
    plans = config.get("sequences")
    if config.get("datasets") == [] and isinstance(plans, dict) and not any(plans.values()):
        yield "datasets: there is none, and no plan under `sequences` either; name some of either"


def device_errors(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield the devices of a configuration that are unknown, or no GPU where one is meant."""
    devices = read_yaml(PROJECT / "resources" / "devices.yaml")
    gpus = {name: device for name, device in devices.items() if device["accelerator"]}
    named = [("shards.device", config.get("shards", {}).get("device"), devices)]
    named += [(f"gpus.{kind}", name, gpus) for kind, name in config.get("gpus", {}).items()]
    for key, name, known in named:
        if name is not None and name not in known:
            what = "no GPU" if name in devices else "unknown"
            yield f"{key}: {name!r} is {what}; {suggestion(name, known)}"


def _split(config: Mapping[str, Any]) -> Iterator[str]:
    """Shares of the entities that do not add up to one."""
    total = sum(config["cases"].get("split", {"": 1}).values())
    if abs(total - 1) > 1e-9:
        yield f"cases.split: train, dev and test add up to {total:g}, not to 1"


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


def _variants(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield variants that lack a key, and names in them that are unknown."""
    editors = [label for label, editor in config["editors"].items() if editor]
    plans = [name for name, plan in (config.get("sequences") or {}).items() if plan]
    for number, variant in enumerate(config["report"].get("variants", ())):
        known = {"editor": editors, "of": editors, "dataset": config.get("datasets", []), "metric": BY_NAME}
        known |= {"plan": plans, "measure": MEASURES, "of_measure": MEASURES}
        wanted = {"plan", "measure", "of_measure"} if "plan" in variant else {"of", "dataset", "metric"}
        for key in sorted(wanted - set(variant)):
            yield f"report.variants.{number}.{key}: missing"
        for key in sorted(set(variant) - wanted - {"title", "differs", "editor"}):
            others = ", ".join(sorted(wanted))
            yield f"report.variants.{number}.{key}: not beside {others}; leave it out"
        for key, names in known.items():
            if key not in variant or key not in {*wanted, "editor"}:
                continue
            name = variant[key]
            if name not in names and not (key == "metric" and find_metric(name)):
                yield f"report.variants.{number}.{key}: {name!r} is unknown; {suggestion(name, names)}"
