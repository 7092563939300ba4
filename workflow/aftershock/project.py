"""The files beside the package, its version, and how its commands are called.

In a checkout the workflow, `resources/` and `config.yaml` lie two folders above the package; a wheel has them
in the package's own folder `share/`, laid out alike.
"""

import importlib.metadata
import io
import os
import shlex
import sys
import tomllib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1]
IN_CHECKOUT = (CHECKOUT / "pyproject.toml").is_file() and (CHECKOUT / "Snakefile").is_file()
PROJECT = CHECKOUT if IN_CHECKOUT else PACKAGE / "share"
SNAKEFILE = PROJECT / "Snakefile"
EXTRAS = {"harness": "lm-eval"}
"""Extras of the wheel that have another name than their dependency group."""


@cache
def version() -> str:
    """Return the version of the package: a checkout's own, else that of the installed distribution."""
    if IN_CHECKOUT:
        text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)["project"]["version"]
    return importlib.metadata.version("aftershock")


def command(name: str, *options: str) -> str:
    """Return the line that calls a subcommand: of make where make started this process, else `aftershock`."""
    if "MAKELEVEL" not in os.environ:
        return " ".join(["aftershock", name, *options])
    return f"make {name} ARGS={shlex.quote(' '.join(options))}" if options else f"make {name}"


def installation(group: str) -> str:
    """Return the command that installs a dependency group, or the extra of the wheel that is made from it."""
    if IN_CHECKOUT:
        return f"pip install --group {group} -c constraints.txt"
    extra = EXTRAS.get(group, group)
    return f'pip install "aftershock[{extra}]" (from a checkout: pip install ".[{extra}]")'


def escape_unwritable() -> None:
    """Let what the encoding of the output lacks be written as escapes: labels are in any script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
