"""Run Snakemake as the only run in this folder: `python -m aftershock.launch [snakemake arguments]`.

    --resume                 the last run's arguments again, and those given here
    --orphans wait|cancel    with --resume: what to do about its SLURM jobs that are still running

The lock is held by the process, so it goes with it, however it ends. What a killed run left behind (SLURM
jobs, Snakemake's own lock, half-written files) is cleared away before the next one starts. What would stop
the run later is said first, see `jobs.folder` and `jobs.slurm`.
"""

import argparse
import io
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

from aftershock.config import check_config, check_fetched
from aftershock.jobs import orphans, slurm
from aftershock.jobs.folder import SPECIAL, PreflightError, check_names, check_writable, find_places
from aftershock.jobs.patches import adopt_finished, ask_slurm_again, without_slurm
from aftershock.jobs.run import RunRecord, read_run
from aftershock.lock import LOCK, hold, others_at_work
from aftershock.process import ancestors_up_to_make, name_run, watch
from aftershock.project import PROJECT, SNAKEFILE, command, escape_unwritable, installation
from aftershock.text_files import read_keys

SNAKEMAKE = Path(".snakemake")
SNAKEMAKE_LOCKS = SNAKEMAKE / "locks"
ALWAYS = ("--quiet", "host", "reason", "--rerun-incomplete")
READ_ONLY = (
    *("dryrun", "lint", "list_rules", "list_target_rules", "dag", "rulegraph", "filegraph", "summary"),
    *("detailed_summary", "report", "list_code_changes", "list_input_changes", "list_params_changes"),
    *("list_untracked", "print_compilation", "containerize", "export_cwl"),
)
"""Options of Snakemake with which it makes no output: they may be used beside a run."""
NO_JOBS = (
    *("unlock", "touch", "cleanup_metadata", "cleanup_shadow", "delete_all_output", "delete_temp_output"),
    *(
        "conda_create_envs_only",
        "conda_cleanup_envs",
        "container_cleanup_images",
        "list_conda_envs",
        "archive",
    ),
)
"""Options with which it changes the folder, but runs no job."""
OTHER_KEYS = ("unlock", "replace_workflow_config")
"""Options with which the configuration is not read, or is not the one that is put together here."""


def main(arguments: Sequence[str]) -> None:
    """Run Snakemake with these arguments, or end with what prevents that."""
    escape_unwritable()
    try:
        launch(arguments)
    except (PreflightError, slurm.SlurmError) as error:
        sys.exit(str(error))


def launch(arguments: Sequence[str]) -> None:
    """Take the lock, clear up after a killed run, then run Snakemake in this process.

    Raises PreflightError or SlurmError with what would stop the run.
    """
    watch(ancestors_up_to_make())
    try:
        _launch(*_own(arguments))
    except KeyboardInterrupt:
        sys.exit(130)


def _own(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The launcher's options, and all other arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--orphans", choices=("wait", "cancel"), default="wait")
    return parser.parse_known_args(arguments)


def _launch(own: argparse.Namespace, arguments: list[str]) -> NoReturn:
    check_names(PROJECT, Path())
    try:
        find_places()
    except OSError as error:
        raise PreflightError(f"{error.filename} cannot be written ({error.strerror})") from None
    if own.resume:
        _take_folder()
        arguments = [*_last_arguments(), *arguments]
    fault = slurm.fault()
    options = _options(arguments, fault is None)
    if options is None:
        _be_snakemake(arguments)
    submits = options.executor == "slurm"
    if submits:
        check_names(Path(), PROJECT, sys.executable, special=SPECIAL)
        if fault and not options.dryrun:
            raise fault
    _check_configuration(options)
    if _any(options, READ_ONLY):
        check_writable(SNAKEMAKE)  # where Snakemake notes what it looked at
        _be_snakemake(arguments)
    if not own.resume:
        _take_folder()
    if _any(options, NO_JOBS):
        _be_snakemake(arguments)
    prefix = orphans.job_prefix(LOCK.parent)
    plugin_arguments = _preflight(options, prefix) if submits else []
    refuse_others()
    left = orphans.find_orphans(prefix, required=submits)
    if not own.resume:
        orphans.refuse_orphans(left)
    record = RunRecord(arguments, prefix if submits or left else None)
    orphans.settle_orphans(prefix, left, cancel=own.orphans == "cancel")
    try:
        clear_up(arguments)
        name_run()
        adopt_finished()
        _be_snakemake(_before_targets(arguments, plugin_arguments))
    except SystemExit as end:
        code = (end.code or 0) if isinstance(end.code, int | None) else 1
        record.end(code, end.code if isinstance(end.code, str) else "")
        if code:
            print(
                f"Why jobs failed, and what to change: {command('why')}. To go on: {command('resume')}.",
                file=sys.stderr,
            )
        raise
    except Exception as error:
        record.end(1, f"{type(error).__name__}: {error}")
        raise


def knows_profile(name: str) -> bool:
    """True if Snakemake finds a profile of this name, of the user or the site."""
    from snakemake.cli import get_profile_dir

    return get_profile_dir(name) is not None


def _take_folder() -> None:
    """Lock this folder, which must be writable."""
    check_writable(LOCK.parent)
    check_writable(SNAKEMAKE)
    hold(LOCK)


def _last_arguments() -> list[str]:
    """The arguments of the last run. Raises PreflightError where they are unknown."""
    last = read_run()
    if last is None:
        raise PreflightError(
            "no run was started in this folder yet, so there is nothing to resume. Start one: aftershock run"
        )
    if last.arguments is None:
        raise PreflightError("the last run's arguments hold a secret and were not kept. Start it as before")
    return last.arguments


def _options(arguments: list[str], slurm_answers: bool) -> argparse.Namespace | None:
    """Snakemake's parsed arguments, profiles included; None when it prints help or an error.

    Its executor plugin asks SLURM while it is loaded, and would wait for one that is silent.
    """
    said = io.StringIO()
    with nullcontext() if slurm_answers else without_slurm():
        from snakemake.cli import parse_args
        from snakemake.exceptions import WorkflowError

        try:
            with redirect_stdout(io.StringIO()), redirect_stderr(said):
                return parse_args(arguments)[1]
        except (SystemExit, WorkflowError):
            if "invalid choice: 'slurm'" in said.getvalue():
                raise PreflightError(
                    f"Snakemake's slurm executor is not installed. Install it: {installation('slurm')}"
                ) from None
            return None


def _check_configuration(options: argparse.Namespace) -> None:
    """Check the configuration as a whole, and its files: Snakemake would drop a key that stands twice.

    Raises PreflightError with what is wrong with them. A workflow of somebody else's has keys of its own.
    """
    try:
        for file in options.configfile or ():
            read_keys(file)
        if Path(options.snakefile or "Snakefile").resolve() == SNAKEFILE and not _any(options, OTHER_KEYS):
            config = configuration_of(options)
            check_fetched(config, check_config(config, PROJECT))
    except (ValueError, OSError) as error:
        raise PreflightError(str(error)) from None


def configuration_of(options: argparse.Namespace) -> dict[str, Any]:
    """The configuration as Snakemake merges it: the project's file, the given files, the given values."""
    from snakemake.cli import parse_config
    from snakemake.common.configfile import load_configfile
    from snakemake.utils import update_config

    config: dict[str, Any] = {}
    for path in (Path(options.snakefile or "Snakefile").parent / "config.yaml", *(options.configfile or ())):
        if Path(path).exists():
            update_config(config, load_configfile(path))
    update_config(config, parse_config(options.config))
    return config


def _any(options: argparse.Namespace, names: Sequence[str]) -> bool:
    return any(getattr(options, name, None) not in (None, False) for name in names)


def _preflight(options: argparse.Namespace, prefix: str) -> list[str]:
    """Arguments of the executor plugin for this cluster; PreflightError when that cannot take the run."""
    import snakemake_executor_plugin_slurm as plugin

    program = slurm.check_cluster(options, configuration_of(options).get("gpus") or ())
    ask_slurm_again(plugin, program)
    return [f"--slurm-jobname-prefix={prefix}", f"--slurm-status-command={program}"]


def _before_targets(arguments: list[str], more: list[str]) -> list[str]:
    """`more` after all other options, so that it counts, and before a "--" that ends them."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return [*arguments[:end], *more, *arguments[end:]]


def _be_snakemake(arguments: Sequence[str]) -> NoReturn:
    from snakemake.cli import main as snakemake

    sys.argv = ["snakemake", *ALWAYS, *arguments]
    snakemake(sys.argv[1:])
    sys.exit()


def _is_locked() -> bool:
    """True if Snakemake's own lock is there: a run is at work, or was killed."""
    return SNAKEMAKE_LOCKS.is_dir() and any(SNAKEMAKE_LOCKS.iterdir())


def refuse_others() -> None:
    """Raise PreflightError when a Snakemake that was started without this launcher is at work here.

    What a killed run was doing at that moment, such as submitting a job, is over afterwards.
    """
    working = others_at_work() if _is_locked() else []
    if working:
        numbers = ", ".join(str(process.pid) for process in working)
        raise PreflightError(
            f"a Snakemake run is working in this folder (process {numbers}); wait until it has finished"
        )


def clear_up(arguments: Sequence[str]) -> None:
    """Remove what a killed run left."""
    if _is_locked():
        print("Clearing up after a run that was killed.", file=sys.stderr)
        unlock = [
            sys.executable,
            "-m",
            "snakemake",
            *_before_targets(list(arguments), ["--quiet", "all", "--unlock"]),
        ]
        subprocess.run(unlock, check=True)
    for part in list(LOCK.parent.rglob(".*.part")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1:])
