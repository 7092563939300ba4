"""Dependencies and extras of the wheel, which are dependency groups of pyproject.toml."""

import tomllib
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class GroupsAsExtras(MetadataHookInterface):
    """Take the dependencies from the groups that [tool.hatch.metadata.hooks.custom] names."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "pyproject.toml").read_text(encoding="utf-8")
        groups = tomllib.loads(text)["dependency-groups"]
        metadata["dependencies"] = requirements(groups, self.config["dependencies"])
        extras = self.config["extras"].items()
        metadata["optional-dependencies"] = {extra: requirements(groups, group) for extra, group in extras}


def requirements(groups: dict[str, list[Any]], name: str) -> list[str]:
    """Return the requirements of a group, those of the groups that it includes among them."""
    found = []
    for entry in groups[name]:
        found += [entry] if isinstance(entry, str) else requirements(groups, entry["include-group"])
    return sorted(set(found))
