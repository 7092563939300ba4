"""The subcommands of `aftershock` and their options.

Nothing is imported before a subcommand needs it, so that `--help` answers at once.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Context, Exit, Option, Typer

from aftershock.command.files import find_configs, require_workflow, snakemake_arguments
from aftershock.project import escape_unwritable, version

EXPECTED = ("PreflightError", "SlurmError")
"""Errors of modules that a command imports when it runs, beside ValueError and OSError."""

app = Typer(
    help="Measure what else moves when a fact in a language model is edited.",
    epilog="What comes after -- goes to Snakemake: aftershock run laptop -- --keep-going",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


CONFIG = Argument(
    metavar="CONFIG", help="YAML files over config.yaml, or names of shipped studies; the last wins."
)
TO = Option(metavar="FOLDER", help="The folder to write to.")
Configs = Annotated[list[str], CONFIG]
MaybeConfigs = Annotated[list[str] | None, CONFIG]
Cores = Annotated[int | None, Option(min=1, help="Processor cores to use; by default all.")]
Profile = Annotated[
    str | None, Option(help="Where jobs run: workstation, slurm, or the path of a profile of yours.")
]
DryRun = Annotated[bool, Option("--dry-run", "-n", help="Only list what would be done.")]
To = Annotated[Path, TO]
Seed = Annotated[int, Option(help="Of everything that is drawn at random.")]
Form = Literal["lora", "model", "patch"]
Known = Literal["methods", "families", "datasets", "tasks", "metrics"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command with `arguments`, by default those of the process.

    Its exit status is 1 where it found something wrong, and 2, after one message, where it was called in a
    way that cannot work.
    """
    escape_unwritable()
    given = list(sys.argv[1:] if arguments is None else arguments)
    end = given.index("--") if "--" in given else len(given)
    try:
        app(given[:end], prog_name="aftershock", obj=given[end + 1 :])
    except Exception as error:
        if not isinstance(error, (ValueError, OSError)) and type(error).__name__ not in EXPECTED:
            raise
        said = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:
            why = error.strerror[:1].lower() + error.strerror[1:]
            said = f"{error.filename} cannot be used: {why}; check the path, and its permissions"
        print(f"aftershock {given[0]}: {said}", file=sys.stderr)
        sys.exit(2)


@app.callback(invoke_without_command=True)
def _of_all(show: Annotated[bool, Option("--version", help="Show the version.")] = False) -> None:
    """Take the options that stand before a subcommand."""
    if show:
        print(version())
        raise Exit


def _run(arguments: Sequence[str]) -> None:
    """Be Snakemake with these arguments, as the only run of this folder."""
    from aftershock.launch import launch

    launch(arguments)


@app.command()
def demo(
    ctx: Context,
    targets: Annotated[
        list[str] | None, Argument(metavar="TARGET", help="Files or rules to make; all by default.")
    ] = None,
    cores: Cores = None,
    profile: Profile = None,
    dry_run: DryRun = False,
) -> None:
    """Run the offline demo and write its report."""
    _run(snakemake_arguments((), targets or (), cores, profile, dry_run, ctx.obj))


@app.command()
def run(
    ctx: Context, configs: Configs, cores: Cores = None, profile: Profile = None, dry_run: DryRun = False
) -> None:
    """Run a study, such as: aftershock run laptop."""
    _run(snakemake_arguments(find_configs(configs), (), cores, profile, dry_run, ctx.obj))


@app.command()
def resume(
    ctx: Context,
    cores: Cores = None,
    dry_run: DryRun = False,
    orphans: Annotated[
        Literal["wait", "cancel"], Option(help="What to do about SLURM jobs of the last run that still run.")
    ] = "wait",
) -> None:
    """Go on with the last run of this folder."""
    require_workflow()
    more = [*(["--cores", str(cores)] if cores else []), *(["--dry-run"] if dry_run else [])]
    _run(["--resume", "--orphans", orphans, *more, *ctx.obj])


@app.command()
def status() -> None:
    """Show how far the run of this folder is."""
    from aftershock.jobs.status import show

    show()


@app.command()
def why(
    as_json: Annotated[bool, Option("--json", help="Print one JSON object a job.")] = False,
) -> None:
    """Tell why jobs failed and what to change."""
    from aftershock.jobs.why import report

    if not report(as_json):
        raise Exit(1)


@app.command()
def plan(
    configs: MaybeConfigs = None,
    gpu: Annotated[str | None, Option(help="A device of resources/devices.yaml.")] = None,
    gpus: Annotated[int, Option(min=1, help="How many of them.")] = 1,
) -> None:
    """Tell jobs, hours, memory and disk of a study."""
    require_workflow()
    from aftershock.budget.plan import print_plan

    print_plan(find_configs(configs or ()), gpu, gpus)


@app.command()
def queries(configs: Configs, to: Annotated[Path | None, TO] = None) -> None:
    """Show the queries of a study and send none."""
    from aftershock.kg.plan import print_queries

    print_queries(find_configs(configs), to)


@app.command()
def datasets(
    ctx: Context,
    configs: Configs,
    facts: Annotated[bool, Option("--facts", help="Only the facts, which need no model.")] = False,
    cores: Cores = None,
    profile: Profile = None,
    dry_run: DryRun = False,
) -> None:
    """Make the facts and cases of a study, without edits."""
    targets = ["facts" if facts else "datasets", "--keep-going"]
    _run(snakemake_arguments(find_configs(configs), targets, cores, profile, dry_run, ctx.obj))


@app.command()
def validate(folder: Annotated[Path, Argument(help="Published or exported case files.")]) -> None:
    """List what is odd in a folder of case files."""
    from aftershock.datasets.validate import print_findings

    print_findings(folder)


@app.command()
def convert(
    folder: Annotated[Path, Argument(help="Published case files, or tables made of them.")], to: To
) -> None:
    """Convert case files to parquet tables, or back."""
    from aftershock.datasets.convert import convert

    convert(folder, to)


@app.command()
def manifest(configs: MaybeConfigs = None) -> None:
    """List what a run made in results/manifest.json."""
    from aftershock.provenance.manifest import renew

    renew(find_configs(configs or ()))


@app.command()
def verify(
    ctx: Context,
    sample: Annotated[int, Option(min=0, help="Tables to make again; 0 only reads files.")] = 3,
    seed: Seed = 0,
    cores: Cores = None,
    profile: Profile = None,
) -> None:
    """Compare results with their manifest."""
    from aftershock.provenance.verify import verify

    place = snakemake_arguments(cores=cores, profile=profile, passed=ctx.obj)
    if not verify(sample, seed, place):
        raise Exit(1)


@app.command()
def export(
    model: Annotated[Path, Argument(help="A model in a folder, as transformers saves it.")],
    edits: Annotated[Path, Argument(help="A file of edits, JSON or JSON Lines.")],
    to: To,
    method: Annotated[str, Option(help="An editing method, see aftershock list methods.")] = "ft",
    form: Annotated[
        Form, Option(help="A LoRA adapter for PEFT, a whole model, or the change alone.")
    ] = "model",
    settings: Annotated[
        list[str] | None, Option("--set", metavar="NAME=VALUE", help="A setting of the method.")
    ] = None,
    artifacts: Annotated[
        list[str] | None,
        Option("--artifact", metavar="NAME=FILE", help="A file that it needs, such as moments."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Edit a model and save it for other programs."""
    from aftershock.command.save_edit import save_edit

    save_edit(model, edits, to, method, form, settings or (), artifacts or (), seed)


@app.command("list")
def list_known(what: Annotated[Known, Argument(help="What to list, a line each.")]) -> None:
    """List methods, families, datasets, tasks or metrics."""
    from aftershock.command.listing import lines_of

    print("\n".join(lines_of(what)))


@app.command("add-model")
def add_model(
    source: Annotated[str, Argument(help="A folder with config.json, a GGUF file, or owner/name.")],
    name: Annotated[str | None, Option(help="Of the file; by default that of the source.")] = None,
    revision: Annotated[str, Option(help="A commit, tag or branch on the Hub.")] = "main",
    to: To = Path("resources/models"),
) -> None:
    """Write the file of a model by its configuration."""
    from aftershock.command.add_model import write_model_file

    print("\n".join(write_model_file(source, name, revision, to)))
