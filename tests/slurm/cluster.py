"""A one-node SLURM of one's own, without root, systemd or a place in /etc.

    python tests/slurm/cluster.py up FOLDER [--accounting]
    . FOLDER/env                                              after which sinfo, sbatch and so on speak to it
    python tests/slurm/cluster.py down FOLDER

It has two fake GPUs, of which SLURM tells its jobs in CUDA_VISIBLE_DEVICES. Nothing outside FOLDER is
written; ports follow from its name, so that several clusters live side by side. Debian's packages: slurmctld
slurmd slurm-client munge, and for accounting slurmdbd and mariadb-server.
"""

import argparse
import getpass
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

DAEMONS = ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged")  # in the order in which they are stopped
SBIN = "/usr/sbin:/sbin"
ALIVE = ("idle", "mixed", "allocated")


@dataclass
class Cluster:
    """The cluster whose files are in `folder`, an absolute path."""

    folder: Path
    cpus: int = 2
    mem_mb: int = 16_000
    gpus: int = 2
    accounting: bool = False

    def __enter__(self) -> "Cluster":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def port(self) -> int:
        """The first of four ports in a row."""
        return 20_000 + zlib.crc32(str(self.folder).encode()) % 2_500 * 4

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables under which SLURM's programs speak to this cluster."""
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}:{SBIN}"
        return {"SLURM_CONF": str(self.folder / "etc" / "slurm.conf"), "PATH": path}

    def start(self) -> None:
        """Write the configuration and start what does not run; RuntimeError when the node stays away."""
        for name in ("bin", "etc", "log", "run", "spool/slurmd", "spool/ctld"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
            (self.folder / name).chmod(0o755)
        self._write_configuration()
        self._munged()
        if self.accounting:
            self._slurmdbd()
        for name in ("slurmctld", "slurmd"):
            self.start_daemon(name)
        self.wait_until(self.node_is_up, 30, "the node did not come up")

    def start_daemon(self, name: str) -> None:
        """Start slurmctld or slurmd, unless it runs."""
        if not self.process(name):
            self.run(name)

    def stop(self) -> None:
        """Cancel all jobs and end the daemons that were started here, and no others."""
        if self.process("slurmctld"):
            self.run("scancel", "--user", getpass.getuser(), check=False)
            with suppress(RuntimeError):  # a node that is down keeps its jobs
                self.wait_until(lambda: not self.run("squeue", "--noheader", check=False), 10, "jobs stay")
        for name in DAEMONS:
            self.stop_daemon(name)

    def stop_daemon(self, name: str, number: int = signal.SIGTERM) -> None:
        """End one daemon."""
        if process := self.process(name):
            process.send_signal(number)
            try:
                process.wait(10)
            except psutil.TimeoutExpired:
                process.kill()
        (self.folder / "run" / f"{name}.pid").unlink(missing_ok=True)

    def process(self, name: str) -> psutil.Process | None:
        """A daemon's process, when it is alive."""
        file = self.folder / "run" / f"{name}.pid"
        try:
            process = psutil.Process(int(file.read_text()))
            return process if process.name() == name and process.status() != psutil.STATUS_ZOMBIE else None
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None

    def run(self, *command: str, check: bool = True) -> str:
        """Return the output of one of SLURM's programs."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30
        )
        if check and done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {done.stderr or done.stdout}")
        return done.stdout

    def node_is_up(self) -> bool:
        """Return True if the node takes jobs. One that an earlier cluster left down is asked back."""
        states = self.run("sinfo", "--noheader", "--format", "%T", check=False).split()
        if any(state.startswith(("down", "drain")) for state in states):
            self.run("scontrol", "update", f"nodename={_host()}", "state=resume", check=False)
        return bool(states) and all(state in ALIVE for state in states)

    def wait_until(self, happened: Callable[[], bool], seconds: float, otherwise: str) -> None:
        """Return once it has happened; RuntimeError with SLURM's last words after so many seconds."""
        deadline = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > deadline:
                logs = (self.folder / "log").glob("slurm*.log")
                last = [log.read_text(errors="replace")[-1500:] for log in logs]
                raise RuntimeError("\n".join([otherwise, *last]))
            time.sleep(0.1)

    def _munged(self) -> None:
        key = self.folder / "etc" / "munge.key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_bytes(os.urandom(1024))
        if not self.process("munged"):
            run, log = self.folder / "run", self.folder / "log"
            files = {"socket": run / "munge.sock", "pid-file": run / "munged.pid", "seed-file": run / "seed"}
            files |= {"key-file": key, "log-file": log / "munged.log"}
            self.run("munged", "--force", *(f"--{name}={path}" for name, path in files.items()))

    def _slurmdbd(self) -> None:
        """The accounting daemon, its database, and an account `lab` that this user may charge."""
        socket_file, data = self.folder / "run" / "db.sock", self.folder / "db"
        user = getpass.getuser()
        if not data.exists():
            how = ("--auth-root-authentication-method=normal", "--skip-test-db", f"--tmpdir={self.folder}")
            self.run("mariadb-install-db", "--no-defaults", f"--user={user}", f"--datadir={data}", *how)
        if not self.process("mariadbd"):
            options = {"datadir": data, "socket": socket_file, "port": self.port + 3, "user": user}
            options |= {"pid-file": self.folder / "run" / "mariadbd.pid", "bind-address": "127.0.0.1"}
            options |= {"innodb-buffer-pool-size": "32M", "performance-schema": "OFF"}
            with open(self.folder / "log" / "mariadbd.log", "w") as log:
                command = [
                    "mariadbd",
                    "--no-defaults",
                    *(f"--{key}={value}" for key, value in options.items()),
                ]
                subprocess.Popen(command, env={**os.environ, **self.environment}, stdout=log, stderr=log)
        client = ["mariadb", "--no-defaults", "-uroot", f"--socket={socket_file}", "-e"]
        self.wait_until(lambda: bool(self.run(*client, "select 1", check=False)), 60, "no database")
        grants = "".join(
            f"create user if not exists 'slurm'@'{host}' identified by 'x'; "
            f"grant all on slurm_acct.* to 'slurm'@'{host}'; "
            for host in ("127.0.0.1", "localhost")
        )
        self.run(*client, "create database if not exists slurm_acct; " + grants)
        if not self.process("slurmdbd"):
            self.run("slurmdbd")
        self.wait_until(
            lambda: "Cluster" in self.run("sacctmgr", "list", "cluster", check=False), 60, "no slurmdbd"
        )
        for what in (("cluster", "aftershock"), ("account", "lab"), ("user", user, "account=lab")):
            self.run("sacctmgr", "--immediate", "add", *what, check=False)  # it may be there already

    def _write_configuration(self) -> None:
        folder, host, user = self.folder, _host(), getpass.getuser()
        for number in range(self.gpus):
            _device(folder / "etc" / f"gpu{number}")
        gpus = f"{folder}/etc/gpu[0-{self.gpus - 1}]"
        self._write("gres.conf", {f"NodeName={host} Name=gpu Type=fake File": f"{gpus} Flags=nvidia_gpu_env"})
        node = f"{host} NodeAddr=127.0.0.1 CPUs={self.cpus} RealMemory={self.mem_mb}"
        node += f" Gres=gpu:fake:{self.gpus}"
        daemons = {"AuthInfo": f"socket={folder}/run/munge.sock", "SlurmUser": user, "SlurmdUser": user}
        daemons |= {"SlurmctldHost": f"{host}(127.0.0.1)", "SlurmctldPort": self.port}
        daemons |= {"SlurmdPort": self.port + 1, "StateSaveLocation": folder / "spool" / "ctld"}
        daemons |= {"SlurmdSpoolDir": folder / "spool" / "slurmd"}
        for name in ("Slurmctld", "Slurmd"):
            daemons |= {f"{name}PidFile": folder / "run" / f"{name.lower()}.pid"}
            daemons |= {f"{name}LogFile": folder / "log" / f"{name.lower()}.log"}
        self._write("slurm.conf", {**daemons, **SETTINGS, **self._accounting(), "NodeName": node})
        with open(folder / "etc" / "slurm.conf", "a", encoding="utf-8") as file:
            for name, default in (("cpu", "YES"), ("gpu", "NO")):
                file.write(f"PartitionName={name} Nodes={host} Default={default} MaxTime=60 DefaultTime=10\n")
        self._write_environment()

    def _write_environment(self) -> None:
        """The file to source, and an srun that finds this cluster.

        snakemake-executor-plugin-slurm-jobstep takes SLURM_CONF away from the srun that it starts.
        """
        srun = self.folder / "bin" / "srun"
        if real := shutil.which("srun"):
            configuration = shlex.quote(self.environment["SLURM_CONF"])
            srun.write_text(f'#!/bin/sh\nSLURM_CONF={configuration} exec {real} "$@"\n')
            srun.chmod(0o755)
        lines = [f"export SLURM_CONF={shlex.quote(self.environment['SLURM_CONF'])}"]
        lines += [f"export PATH={shlex.quote(str(self.folder / 'bin'))}:$PATH:{SBIN}"]
        (self.folder / "env").write_text("\n".join([*lines, ""]))

    def _accounting(self) -> Mapping[str, object]:
        if not self.accounting:
            return {"AccountingStorageType": "accounting_storage/none"}
        munge = self.folder / "run" / "munge.sock"
        database = {"AuthType": "auth/munge", "AuthInfo": f"socket={munge}", "SlurmUser": getpass.getuser()}
        database |= {"DbdHost": _host(), "DbdAddr": "127.0.0.1", "DbdPort": self.port + 2}
        database |= {"PidFile": self.folder / "run" / "slurmdbd.pid"}
        database |= {"LogFile": self.folder / "log" / "slurmdbd.log", "StorageHost": "127.0.0.1"}
        database |= {"StorageType": "accounting_storage/mysql", "StoragePort": self.port + 3}
        database |= {"StorageUser": "slurm", "StoragePass": "x", "StorageLoc": "slurm_acct"}
        self._write("slurmdbd.conf", database, mode=0o600)
        return {
            "AccountingStorageType": "accounting_storage/slurmdbd",
            "AccountingStorageHost": "127.0.0.1",
            "AccountingStoragePass": munge,
            "AccountingStoragePort": self.port + 2,
            "AccountingStoreFlags": "job_comment",
            "AccountingStorageTRES": "gres/gpu",
        }

    def _write(self, name: str, lines: Mapping[str, object], mode: int = 0o644) -> None:
        file = self.folder / "etc" / name
        file.write_text("".join(f"{key}={value}\n" for key, value in lines.items()), encoding="utf-8")
        file.chmod(mode)


SETTINGS = {
    "ClusterName": "aftershock",
    "AuthType": "auth/munge",
    "CredType": "cred/munge",
    "ProctrackType": "proctrack/linuxproc",
    "TaskPlugin": "task/none",
    "JobAcctGatherType": "jobacct_gather/linux",
    "JobAcctGatherFrequency": "task=2",
    "JobAcctGatherParams": "OverMemoryKill",
    "SelectType": "select/cons_tres",
    "SelectTypeParameters": "CR_CPU_Memory",
    "SlurmdParameters": "config_overrides",  # the node's size is what is written here
    "SchedulerType": "sched/backfill",
    "SchedulerParameters": "sched_interval=2,bf_interval=2,batch_sched_delay=0",
    "GresTypes": "gpu",
    "MpiDefault": "none",
    "ReturnToService": 2,  # a node that comes back takes jobs again
    "MinJobAge": 300,
    "KillWait": 5,
    "SlurmdTimeout": 20,
    "SlurmctldTimeout": 20,
    "MaxArraySize": 1001,
    "OverTimeLimit": 0,
    "MailProg": "/bin/true",
}


def _device(path: Path) -> None:
    """A fake GPU: a device like /dev/null where that is allowed, else a file, of which jobs are not told."""
    if not path.exists():
        try:
            os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        except PermissionError:
            path.touch()


def _host() -> str:
    return socket.gethostname().partition(".")[0]


def main() -> None:
    """Start or end a cluster from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["up", "down"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accounting", action="store_true")
    args = parser.parse_args()
    cluster = Cluster(args.folder.resolve(), accounting=args.accounting)
    if args.what == "up":
        cluster.start()
        print(f"up: . {cluster.folder}/env")
    else:
        cluster.stop()


if __name__ == "__main__":
    main()
