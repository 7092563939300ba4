"""Pages of the documentation's site beside the files of docs/: README, schemas and docstrings.

mkdocs calls `on_files`, see mkdocs.yml.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from aftershock.schema import read_schema

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "workflow" / "aftershock"
SCHEMAS = {
    "configuration": ("config", "Configuration", "All keys of config.yaml and of a study."),
    "model-files": ("model", "Files of models", "All keys of a file in resources/models/."),
    "task-files": ("task", "Files of tasks", "All keys of a file in resources/tasks/."),
    "device-files": ("devices", "Files of devices", "All keys of resources/devices.yaml."),
}
"""Schema, title and first line of each page that a schema becomes."""
LIBRARY = {
    "aftershock.library": ["edit", "score", "generate", "export", "EditRequest", "Query"],
    "aftershock.lm.model.LanguageModel": ["load", "wrap"],
}
"""Modules and classes of the page on the library, each with the members that it shows."""
COPIED = ("CITATION.cff", "LICENSE")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and the files that the README links to (a hook of mkdocs)."""
    for name, content in made_pages().items():
        files.append(File.generated(config, name, content=content))
    for name in COPIED:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def made_pages() -> dict[str, str]:
    """Return the pages by name: their Markdown."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    pages = {"index.md": readme, "CONTRIBUTING.md": (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")}
    for name, (schema, title, about) in SCHEMAS.items():
        pages[f"reference/{name}.md"] = f"# {title}\n\n{about}\n\n" + "\n".join(_of_schema(schema))
    named = "\n\n".join(_shown_by_mkdocstrings(name, members) for name, members in LIBRARY.items())
    pages["reference/library.md"] = f"# In Python\n\nAll of it is imported from `aftershock`.\n\n{named}\n"
    packages = "\n".join(_guides())
    pages["reference/packages.md"] = f"# Packages\n\nThe guide of each package of `aftershock`.\n\n{packages}"
    return pages


def _shown_by_mkdocstrings(name: str, members: list[str]) -> str:
    """Return the lines by which mkdocstrings shows a module or class; of a module without its own heading."""
    options = ["show_root_heading: false", "show_root_toc_entry: false"] if name.islower() else []
    lines = [f"::: {name}", "    options:", *(f"      {line}" for line in [*options, f"members: {members}"])]
    return "\n".join(lines)


def _guides() -> Iterator[str]:
    """Yield the docstring of each package below a heading; its indented lists stay as they are."""
    for file in sorted(PACKAGE.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
        yield f"## {file.parent.name}\n\n{text}\n"


def _of_schema(name: str) -> Iterator[str]:
    """Yield the lines of a schema: a heading for each key at the top, and an entry for each below."""
    root = read_schema(name)
    entries = root.get("properties") or {"NAME": root["additionalProperties"]}
    for key, part in entries.items():
        part = _resolved(part, root)
        yield f"\n## {key}\n\n{_told(part, key in root.get('required', ()), root)}\n"
        yield from _below(part, key, root)


def _below(part: Mapping[str, Any], path: str, root: Mapping[str, Any]) -> Iterator[str]:
    """Yield an entry of a list for each key below one."""
    for name, inner, needed in _keys(part):
        inner, here = _resolved(inner, root), f"{path}.{name}"
        yield f"* `{here}`: {_told(inner, needed, root)}"
        yield from _below(inner, here, root)
    for option in part.get("oneOf", ()):
        yield from _below(option, path, root) if option.get("type") == "object" else ()
    if isinstance(part.get("items"), dict):
        yield from _below(_resolved(part["items"], root), f"{path}.N", root)


def _keys(part: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
    for name, inner in part.get("properties", {}).items():
        yield name, inner, name in part.get("required", ())
    others = part.get("additionalProperties")
    if isinstance(others, dict):
        yield "NAME", others, False


def _told(part: Mapping[str, Any], needed: bool, root: Mapping[str, Any]) -> str:
    """Return a key's description, with its values and default."""
    kinds = part.get("type", [])
    items = _resolved(part.get("items", {}), root)
    several = "any of" if items.get("enum") else "one of"
    values = [f"`{_shown(value)}`" for value in part.get("enum") or items.get("enum") or ()]
    facts = [
        " or ".join([kinds] if isinstance(kinds, str) else kinds) if not values else "",
        f"{several} {', '.join(values)}" if values else "",
        f"default `{_shown(part['default'])}`" if "default" in part else "",
        "required" if needed else "",
    ]
    told = "; ".join(filter(None, facts))
    return f"{_escaped(part.get('description', ''))}{f' *({told})*' if told else ''}".strip()


def _escaped(text: str) -> str:
    """Return text with what Markdown would take for emphasis or tags escaped, but for code in backticks."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([_*<])", r"\\\1", part) for i, part in enumerate(parts))


def _shown(value: Any) -> str:
    """Return a value as YAML has it, in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
    return text.replace("\n...", "").strip()


def _resolved(part: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**root["$defs"][part["$ref"].rpartition("/")[2]], **part} if "$ref" in part else part
