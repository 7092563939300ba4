"""Configuration files and profiles by the names that a user gives, and Snakemake's arguments for them."""

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from aftershock.command.errors import require_workflow
from aftershock.project import PROJECT, SNAKEFILE
from aftershock.text_files import read_keys

STUDIES = "resources/studies"
PROFILES = "workflow/profiles"


def find_configs(names: Iterable[str]) -> list[str]:
    """Return the paths of configuration files.

    A name is a path from the working folder, a path in the project, or the name of a shipped study: that of
    a file in `resources/studies/` without its ending. A file without any keys is left out, which Snakemake
    takes for none. ValueError with suggestions where there is none, and for what is not UTF-8.
    """
    return [path for path in map(_find_config, names) if _has_keys(path)]


def _has_keys(path: str) -> bool:
    try:
        Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8, as Snakemake reads it ({error}); save it as UTF-8") from None
    return bool(read_keys(path))


def _find_config(name: str) -> str:
    for path in (Path(name), PROJECT / name, PROJECT / STUDIES / f"{name}.yaml"):
        if path.is_file():
            return _short(path)
    studies = sorted(path.stem for path in (PROJECT / STUDIES).glob("*.yaml"))
    mine = sorted(path.as_posix() for pattern in ("*.yaml", "*/*.yaml") for path in Path().glob(pattern))
    hint = _hint(name, [*mine, *studies], 0.5) or _hint(Path(name).stem, studies)
    raise ValueError(
        f"there is no configuration file {name!r}. {hint}Give the path of a YAML file, or a study: "
        f"{', '.join(studies)}"
    )


def _hint(name: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """Return the known name that a wrong one is most like, in words; "" where none is like it."""
    close = difflib.get_close_matches(name, known, 1, cutoff)
    return f"Did you mean {close[0]!r}? " if close else ""


def _short(path: Path) -> str:
    """Return a path of the project from the working folder if that is the project's, else as it is."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_absolute() and path.is_relative_to(here) else str(path)


def snakemake_arguments(
    configs: Sequence[str] = (),
    targets: Sequence[str] = (),
    cores: int | None = None,
    profile: str | None = None,
    dry_run: bool = False,
    passed: Sequence[str] = (),
) -> list[str]:
    """Return Snakemake's arguments for a run.

    configs: configuration files, the last wins.
    targets: rules or files to make; none for all.
    cores: how many to use at a time; None leaves it to the profile, or takes all where there is none.
    profile: the name of a profile in `workflow/profiles/`, or a path or name as Snakemake takes it.
    dry_run: only list what would be done.
    passed: further arguments, as they are.

    ValueError where Snakemake is not installed.
    """
    require_workflow()
    found = list(targets)
    if profile:
        found += ["--profile", find_profile(profile)]
    if cores or not profile:
        found += ["--cores", str(cores or "all")]
    if dry_run:
        found.append("--dry-run")
    if not (Path.cwd() / "Snakefile").exists() or not os.path.samefile("Snakefile", SNAKEFILE):
        found += ["--snakefile", str(SNAKEFILE)]
    found += passed
    return [*found, "--configfile", *configs] if configs else found


def find_profile(name: str) -> str:
    """Return the path of a profile that comes with the project; another path or name as it is.

    ValueError with suggestions for a name that Snakemake does not find.
    """
    path = PROJECT / PROFILES / name
    if "/" in name:
        return name
    if path.is_dir():
        return _short(path)
    from aftershock.launch import knows_profile

    if not knows_profile(name):
        shipped = sorted(folder.name for folder in (PROJECT / PROFILES).iterdir())
        raise ValueError(
            f"there is no profile {name!r}. {_hint(name, shipped)}Give the path of a folder with a "
            f"config.yaml, or one that comes along: {', '.join(shipped)}"
        )
    return name
