"""Programs of SLURM that say what a test has them say."""

import shlex
from pathlib import Path

PROGRAMS = ("sinfo", "squeue", "scontrol", "sacct", "sacctmgr", "sbatch", "scancel")
SETTINGS = """\
Configuration data as of 2026-11-21T14:52:30
AccountingStorageEnforce = none
AccountingStorageType   = accounting_storage/none
MinJobAge               = 300 sec
"""
PARTITIONS = """\
cpu|(null)
gpu|gpu:a100:4(S:0-1)
gpu|gpu:v100:2,gpu:1g.5gb:7
old|gpu:2
"""


class FakeSlurm:
    """A folder of programs, all of which answer with nothing until told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir()
        for program in PROGRAMS:
            self.says(program)
        self.says("scontrol", SETTINGS)
        self.says("sinfo", PARTITIONS)

    def says(self, program: str, text: str = "", error: str = "", code: int = 0, seconds: float = 0) -> None:
        """From now on `program` notes its arguments, waits, prints and ends."""
        lines = ["#!/bin/sh", f'echo "$@" >> {shlex.quote(str(self.folder / program))}.asked']
        lines += [f"sleep {seconds}"] if seconds else []
        lines += [f"printf %s {shlex.quote(text)}", f"printf %s {shlex.quote(error)} >&2", f"exit {code}"]
        path = self.folder / program
        path.unlink(missing_ok=True)
        path.write_text("\n".join(lines))
        path.chmod(0o755)

    def asked(self, program: str) -> list[str]:
        """The arguments of each call so far."""
        file = self.folder / f"{program}.asked"
        return file.read_text().splitlines() if file.exists() else []
