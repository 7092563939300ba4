"""One message and exit status 2 for what a user can put right."""

import sys
from importlib.util import find_spec
from typing import Any

from typer.core import TyperGroup

from aftershock.project import installation

WRONG = 2
"""Exit status of a command that was called in a way that cannot work."""
FAILED = 1
"""Exit status of a command that did what it was asked for and found something wrong."""
EXPECTED = (ValueError, OSError)
OWN = ("PreflightError", "SlurmError")
"""Errors of modules that a command imports when it runs."""


class Reporting(TyperGroup):
    """Subcommands that an error which a user can put right ends with one message."""

    def invoke(self, ctx: Any) -> Any:
        """Call a subcommand."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not isinstance(error, EXPECTED) and type(error).__name__ not in OWN:
                raise
            print(f"aftershock {ctx.invoked_subcommand}: {_told(error)}", file=sys.stderr)
            sys.exit(WRONG)


def _told(error: Exception) -> str:
    """Return what an error says; of one about a file, the file first and what to look at."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        said = error.strerror[:1].lower() + error.strerror[1:]
        return f"{error.filename} cannot be used: {said}; check the path, and its permissions"
    return str(error)


def require_workflow() -> None:
    """Raise ValueError where Snakemake is not installed, with how to install it."""
    if find_spec("snakemake") is None:
        raise ValueError(
            f"this needs Snakemake, which is not installed. Install it: {installation('workflow')}"
        )
