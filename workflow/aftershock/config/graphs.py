"""The graphs of a run, and what is left out of them."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from aftershock.config.paths import path_errors
from aftershock.kg.atlas.sources import REMEDY, missing_packages
from aftershock.kg.graph import GRAPHS
from aftershock.kg.screen import read_decisions
from aftershock.schema import faults, read_schema, suggestion
from aftershock.text_files import read_yaml

TRIPLES = ("ntriples", "dump")  # sources that are files of triples
ENDINGS = (".nt", ".nt.gz", ".nt.bz2")


def graph_errors(
    config: Mapping[str, Any], used: set[str], folder: Path, faulty: Collection[str] = ()
) -> Iterator[str]:
    """Unknown graphs and namespaces, and missing files of the graphs in use.

    The names of `faulty` ones are known, though nothing else of them is here.
    """
    kgs = config["kgs"]
    if "kg" in config and config["kg"] not in {*kgs, *faulty}:
        yield f"kg: {config['kg']!r} is unknown; {suggestion(config['kg'], kgs)}"
    for name in used & set(kgs):
        for key in {"file", "folder"} & set(kgs[name]):
            yield from path_errors(f"kgs.{name}.{key}", kgs[name][key], folder, key)
        if kgs[name]["source"] in TRIPLES and not kgs[name]["file"].endswith(ENDINGS):
            yield f"kgs.{name}.file: {kgs[name]['file']!r} is not named {' or '.join(ENDINGS)}"
        if kgs[name]["source"] == "atlas":
            yield from _atlas_errors(name, kgs[name].get("file", ""), folder)
    for name, kg in kgs.items():
        namespace = kg.get("namespace")  # none has none
        if namespace is not None and namespace not in GRAPHS:
            yield f"kgs.{name}.namespace: {namespace!r} is unknown; {suggestion(namespace, GRAPHS)}"


def _atlas_errors(name: str | None, file: str, folder: Path) -> Iterator[str]:
    """Yield mistakes in an atlas's description, and packages that are missing unless it was made before."""
    path = next((path for path in (Path(file), folder / file) if path.is_file()), None)
    if path:
        yield from (f"{file}: {fault}" for fault in faults(read_yaml(path), read_schema("atlas")))
    made = Path(f"results/kg/{name}/atlas.nt.gz").exists()
    if not made and (missing := missing_packages()):
        yield f"kgs.{name}: an atlas needs the packages {', '.join(missing)}: {REMEDY}"


def reads_mined(config: Mapping[str, Any], used: Collection[str]) -> bool:
    """Return True if a graph in use is mined: labels are then screened, and prompts paraphrased."""
    kgs = config.get("kgs", {})
    return any(kgs[name].get("source") not in ("released", "none") for name in used if name in kgs)


def screen_errors(config: Mapping[str, Any], used: set[str], folder: Path) -> Iterator[str]:
    """Yield faults of the screen's files, and of leaving the living out; of a mined graph only."""
    screen = config.get("screen", {})
    words = screen.get("words") if reads_mined(config, used) else None
    if words and not (Path(words).is_file() or (folder / words).is_file()):
        yield f"screen.words: {words} does not exist; name a file of words, or null for none"
    yield from read_decisions(folder / "resources" / "screen.tsv")[1]
    kg = config["kgs"].get(config.get("kg"), {})
    graph = GRAPHS.get(kg.get("namespace"))
    if screen.get("exclude_living") and kg.get("source") != "generated" and graph and not graph.of_lives:
        yield f"screen.exclude_living: graph {config['kg']!r} does not tell who lives; set it to false"
    if screen.get("exclude_living") and kg.get("source") == "released":
        yield "screen.exclude_living: published rows do not tell who lives; set it to false"
