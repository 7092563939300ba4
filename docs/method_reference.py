"""A reference of the editing methods in Markdown, made from their records and the models' files.

PYTHONPATH=workflow python docs/method_reference.py > docs/method-reference.md
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aftershock.editors.contract import Method
from aftershock.editors.methods import FoundMethod, find_methods
from aftershock.editors.overview import families_table, methods_table
from aftershock.project import PROJECT
from aftershock.text_files import read_yaml

HEAD = """# Reference of editing methods

Made from the methods' records and the models' files by `docs/method_reference.py`.
[editors.md](editors.md) explains them, [methods.md](methods.md) says how to add one. Settings that are
not listed have the defaults of the method's dataclass, which describes each.
"""
COMMENT = re.compile(r"^  # (.+)$")
ENTRY = re.compile(r"^  (\w+):(.*)$")


def method_page(models: Path = PROJECT / "resources" / "models") -> str:
    """Return the whole page."""
    found = [each for _, each in sorted(find_methods().items())]
    published = _published(models)
    parts = [HEAD, "\n".join(methods_table(found)), "\n".join(families_table(found))]
    parts += ["\n".join(_section(each, published.get(each.name, {}))) for each in found]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(found: FoundMethod, published: Mapping[str, tuple[Mapping[str, Any], str]]) -> Iterator[str]:
    method = found.method
    yield f"## {method.title}"
    yield ""
    yield f"`{found.name}`, from {method.source}. It changes {method.changes}."
    yield ""
    needs = ", ".join(f"`{name}`" for name in method.needs(method.settings())) or "nothing"
    yield f"* Made first: {needs}."
    yield f"* Time of an edit: {_time(method)}."
    for place, text in (("In the paper", method.paper), ("In releases", method.released)):
        if text:
            yield f"* {place}: {text}."
    if not published:
        yield "* No model's file has settings of its own."
        return
    yield ""
    yield "| model | settings | source |"
    yield "| --- | --- | --- |"
    for model, (settings, source) in sorted(published.items()):
        yield f"| {model} | {_settings(settings)} | {source} |"


def _time(method: Method) -> str:
    """Return the passes that an edit with the default settings takes, as `budget.edits` estimates them."""
    settings = method.settings()
    if hasattr(settings, "edited_by"):
        return "that of an edit by the method that it wraps, and a pass over its texts"
    passes = method.passes(settings) if method.passes else getattr(settings, "steps", 1)
    tokens = "a request's tokens from the subject on" if method.layer_loop else "a request's texts"
    where = "above the highest edited layer" if method.layer_loop else "from the lowest edited layer on"
    return f"{passes:.0f} {'pass' if passes == 1 else 'passes'} over {tokens}, forth and back {where}"


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}: {_value(value)}`" for name, value in settings.items())


def _value(value: Any) -> str:
    """Return a value as YAML has it, runs of layers as first to last."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        whole = len(value) > 2 and all(isinstance(each, int) for each in value)
        whole = whole and value == list(range(value[0], value[-1] + 1))
        return f"{value[0]} to {value[-1]}" if whole else "[" + ", ".join(map(_value, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


def _published(folder: Path) -> dict[str, dict[str, tuple[Mapping[str, Any], str]]]:
    """Return settings and their source by method and model, of models whose weights are fetched."""
    found: dict[str, dict[str, tuple[Mapping[str, Any], str]]] = {}
    for path in sorted(folder.glob("*.yaml")):
        model = read_yaml(path)
        if "source" not in model:
            continue
        sources = _sources(path.read_text(encoding="utf-8").splitlines())
        for name, settings in (model.get("editors") or {}).items():
            found.setdefault(name, {})[path.stem] = settings, sources.get(name, "")
    return found


def _sources(lines: Sequence[str]) -> dict[str, str]:
    """Return the comment before each entry under `editors` of a model's file, or else the one behind it."""
    found, above, inside = {}, list[str](), False
    for line in lines:
        if not line.startswith(" "):
            inside, above = line.startswith("editors:"), []
        elif inside and (comment := COMMENT.match(line)):
            above.append(comment[1])
        elif inside and (entry := ENTRY.match(line)):
            behind = entry[2].partition(" # ")[2]
            found[entry[1]] = " ".join(above) or behind
            above = []
    return found


if __name__ == "__main__":
    print(method_page(), end="")
