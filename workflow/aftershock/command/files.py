"""Configuration files and profiles by the names that a user gives, and Snakemake's arguments for them."""

import difflib
import os
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path

from aftershock.project import PROJECT, SNAKEFILE, installation
from aftershock.text_files import read_keys

STUDIES = PROJECT / "resources" / "studies"
PROFILES = PROJECT / "workflow" / "profiles"


def find_configs(names: Iterable[str]) -> list[str]:
    """Return the paths of configuration files.

    A name is a path from the working folder, a path in the project, or the name of a shipped study: that of
    a file in `resources/studies/` without its ending. A file without any keys is left out, which Snakemake
    takes for none. ValueError with suggestions where there is none, and for what is not UTF-8.
    """
    found = []
    for name in names:
        path = next(filter(Path.is_file, (Path(name), PROJECT / name, STUDIES / f"{name}.yaml")), None)
        if path is None:
            mine = [path.as_posix() for pattern in ("*.yaml", "*/*.yaml") for path in Path().glob(pattern)]
            raise _unknown("configuration file", name, [path.stem for path in STUDIES.glob("*.yaml")], mine)
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8, as Snakemake reads it ({error}); save it so") from None
        if read_keys(path):
            found.append(_from_here(path))
    return found


def find_profile(name: str) -> str:
    """Return the path of a profile that comes with the project; another path or name as it is.

    ValueError with suggestions for a name that Snakemake does not find.
    """
    from aftershock.launch import knows_profile

    if "/" not in name and (PROFILES / name).is_dir():
        return _from_here(PROFILES / name)
    if "/" not in name and not knows_profile(name):
        raise _unknown("profile", name, [folder.name for folder in PROFILES.iterdir()])
    return name


def _unknown(what: str, name: str, shipped: Sequence[str], others: Sequence[str] = ()) -> ValueError:
    """Return the error about a wrong name, with the known one that is most like it."""
    close = difflib.get_close_matches(name, [*others, *shipped], 1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    known = ", ".join(sorted(shipped))
    return ValueError(f"there is no {what} {name!r}. {hint}Give a path, or one that comes along: {known}")


def _from_here(path: Path) -> str:
    """Return a path, from here if it is below this folder: so a run can go on where the folder moves to."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def snakemake_arguments(
    configs: Sequence[str] = (),
    targets: Sequence[str] = (),
    cores: int | None = None,
    profile: str | None = None,
    dry_run: bool = False,
    passed: Sequence[str] = (),
) -> list[str]:
    """Return Snakemake's arguments for a run; ValueError where Snakemake is not installed.

    configs: configuration files, the last wins. targets: rules or files to make; none for all.
    cores: how many to use at a time; None leaves it to the profile, or takes all where there is none.
    profile: the name of a profile in `workflow/profiles/`, or a path or name as Snakemake takes it.
    dry_run: only list what would be done. passed: further arguments, as they are.
    """
    require_workflow()
    here = Path("Snakefile").exists() and os.path.samefile("Snakefile", SNAKEFILE)
    return [
        *targets,
        *(["--profile", find_profile(profile)] if profile else []),
        *(["--cores", str(cores or "all")] if cores or not profile else []),
        *(["--dry-run"] if dry_run else []),
        *([] if here else ["--snakefile", str(SNAKEFILE)]),
        *passed,
        *(["--configfile", *configs] if configs else []),
    ]


def require_workflow() -> None:
    """Raise ValueError where Snakemake is not installed, with how to install it."""
    if find_spec("snakemake") is None:
        raise ValueError(
            f"this needs Snakemake, which is not installed. Install it: {installation('workflow')}"
        )
