"""Programs as their users start them, from a process that has imported their libraries once.

To import Snakemake is most of a short run. What is imported are libraries only, none of the package: that may
be another copy than the one beside these tests.
"""

import atexit
import gc
import json
import os
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m snakemake` in a folder, in a process of its own, with changes of the environment."""
    return module("snakemake", folder, *arguments, **environment)


def module(name: str, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m NAME` in a folder, in a process of its own, with changes of the environment."""
    command = [sys.executable, "-m", name, *arguments]
    with TemporaryDirectory() as kept:
        files = [Path(kept, name) for name in ("stdout", "stderr")]
        asked = [name, str(folder), list(arguments), os.environ | environment, list(map(str, files))]
        process = _imported()
        print(json.dumps(asked), file=process.stdin, flush=True)
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(command, status, *(file.read_text() for file in files))


@cache
def _imported() -> subprocess.Popen:
    """A process that starts a module for each line it is sent, and answers with the exit status."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.stdin.close)
    return process


def _start(
    name: str, folder: str, arguments: list[str], environment: dict[str, str], files: list[str]
) -> None:
    """Be `python -m NAME` from now on."""
    import runpy

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in ((1, files[0]), (2, files[1])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def main() -> None:
    """Start what is asked for, one after the other."""
    import jsonschema  # noqa: F401
    import pandas  # noqa: F401
    import psutil  # noqa: F401
    import pyarrow.parquet  # noqa: F401
    import pydantic  # noqa: F401
    import snakemake.cli
    import yaml  # noqa: F401

    snakemake.cli.get_argument_parser()  # which looks for plugins
    for late in ("nbformat", "smart_open"):  # most of what a dry run takes
        import_module(late)
    gc.freeze()  # processes that start here search only what they make for garbage
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _start(*json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
