"""Snakemake as its users start it, from a process that has imported it once: that is most of a short run."""

import atexit
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory


def snakemake(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m snakemake` in a folder, in a process of its own, with changes of the environment."""
    command = [sys.executable, "-m", "snakemake", *arguments]
    with TemporaryDirectory() as kept:
        files = [Path(kept, name) for name in ("stdout", "stderr")]
        asked = [str(folder), list(arguments), os.environ | environment, list(map(str, files))]
        process = _imported()
        print(json.dumps(asked), file=process.stdin, flush=True)
        status = int(process.stdout.readline())
        return subprocess.CompletedProcess(command, status, *(file.read_text() for file in files))


@cache
def _imported() -> subprocess.Popen:
    """A process that starts Snakemake for each line it is sent, and answers with the exit status."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(process.stdin.close)
    return process


def _start(folder: str, arguments: list[str], environment: dict[str, str], files: list[str]) -> None:
    """Be `python -m snakemake` from now on."""
    import runpy

    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in ((1, files[0]), (2, files[1])):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv[1:] = arguments
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)


def main() -> None:
    """Start what is asked for, one after the other."""
    import snakemake.cli

    snakemake.cli.get_argument_parser()  # which looks for plugins
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _start(*json.loads(line))
            return
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
