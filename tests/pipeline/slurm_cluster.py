"""A real Slurm of two workers on this machine, with accounting: `slurm_cluster.py COMMAND…`.

The command runs beside the cluster, which ends with it. All files of the cluster lie in one folder
of /tmp, and its ports are free ones, so that a Slurm that is here already is left alone. The
workers pretend to have cores, memory and a GPU: no job is slower for want of a grant.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

#: Snakemake's plugin and what it needs beside Snakemake. It is no part of the extra `dev`, because
#: every start of Snakemake takes half a second longer with it.
PLUGIN = "snakemake_executor_plugin_slurm"
PLUGIN_PACKAGES = (
    "snakemake-executor-plugin-slurm~=2.8.0",
    "snakemake-executor-plugin-slurm-jobstep~=0.6.1",
    "throttler~=1.2",
)
#: Packages of Debian and Ubuntu, and the programs that are looked for.
PACKAGES = ("slurm-wlm", "slurmdbd", "munge", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")
WORKERS = ("worker1", "worker2")
#: What each worker says it has. The largest jobs fit twice into the memory.
CPUS, MEMORY_MB = 8, 64_000
#: Seconds until a worker that is not heard counts as lost; a busy machine answers late.
LOST_S = 15

SLURM_CONF = """\
ClusterName=tenet
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={slurmctld}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SlurmdTimeout={lost}
BatchStartTimeout=5
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=5,bf_interval=5
GresTypes=gpu
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={slurmdbd}
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
{nodes}
PartitionName=main Nodes=ALL Default=YES DefMemPerCPU=100 MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port}"
    " CPUs={cpus} RealMemory={memory} Gres=gpu:1 State=UNKNOWN"
)
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={slurmdbd}
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mariadb}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm
"""
GRES_CONF = "NodeName=worker[1-2] Name=gpu File=/dev/null\n"
#: What the database runs when it starts. Nothing outside of this machine can reach it.
SQL = """\
CREATE USER slurm@127.0.0.1 IDENTIFIED BY 'slurm';
GRANT ALL ON slurm.* TO slurm@127.0.0.1;
"""
#: Starts a worker as the first process of a space of processes, all of which end with it. Commands
#: within jobs find the cluster at the usual place, because Snakemake's plugin hides `SLURM_CONF` of
#: them.
WORKER = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c")
WORKER_SCRIPT = 'mount --bind "$0" /etc/slurm && exec slurmd -D -N "$1"'


def missing() -> str:
    """Say why there can be no cluster, or nothing.

    Where root runs this with ``CI=true``, packages that are missing are installed first; elsewhere
    nothing is installed unasked.
    """
    if os.geteuid():
        return "a Slurm cluster is started by root alone"
    if _not_found() and os.environ.get("CI") == "true" and shutil.which("apt-get"):
        # One attempt, with an end to it: a machine may reach no mirror.
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        short = ("-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=10")
        for words in (
            ["update", "-qq", *short],
            ["install", "-y", "-qq", "--no-install-recommends", *short, *PACKAGES],
        ):
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(["apt-get", *words], env=quiet, capture_output=True, timeout=180)
    if absent := _not_found():
        return f"Slurm is not installed: no {', '.join(absent)} (of {' '.join(PACKAGES)})"
    if subprocess.run([*WORKER, "mount -t tmpfs tmpfs /mnt"], capture_output=True).returncode:
        return "workers cannot be kept apart: this root may not unshare and mount"
    return ""


def plugin(folder: Path) -> str:
    """Give the folder of Snakemake's plugin for `PYTHONPATH`; empty if it is installed.

    Raises
    ------
    LookupError
        If there is none. With ``CI=true`` it is installed into the folder first.
    """
    if find_spec(PLUGIN):
        return ""
    if os.environ.get("CI") == "true":
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        subprocess.run(
            [*command, "--disable-pip-version-check", "--target", folder, *PLUGIN_PACKAGES],
            capture_output=True,
            timeout=180,
        )
        if (folder / PLUGIN).is_dir():
            return str(folder)
    raise LookupError("Snakemake's plugin is not installed: pip install '.[slurm]'")


def _not_found() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _path() -> str:
    return os.environ["PATH"] + ":/usr/sbin:/usr/bin:/sbin"


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def wait_for(what: str, happened: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until something is true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := happened():
            return found
        time.sleep(0.2)
    raise TimeoutError(what)


class Cluster:
    """A controller, an accounting daemon with its database, and two workers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().split(".")[0]
        names = ("slurmctld", "slurmdbd", "mariadb", *WORKERS)
        self.ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.environment = {
            **os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "etc/slurm.conf"),
        }  # fmt: skip
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all daemons, and wait until both workers are idle."""
        values = {
            "folder": self.folder, "host": self.host, "lost": LOST_S,
            **self.ports,
        }  # fmt: skip
        nodes = [
            NODE.format(
                name=name, host=self.host, port=self.ports[name], cpus=CPUS, memory=MEMORY_MB
            )
            for name in WORKERS
        ]
        for name in ("etc", "state", "database", *(f"spool.{worker}" for worker in WORKERS)):
            (self.folder / name).mkdir()
        for name, text in {
            "slurm.conf": SLURM_CONF.format(nodes="\n".join(nodes), **values),
            "slurmdbd.conf": SLURMDBD_CONF.format(**values),
            "gres.conf": GRES_CONF,
            "users.sql": SQL,
        }.items():
            path = self.folder / "etc" / name
            path.write_text(text)
            path.chmod(0o600)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self._daemon("munged", "munged", "--foreground", "--force",
                     f"--socket={self.folder}/munge.socket", f"--key-file={key}",
                     f"--pid-file={self.folder}/munged.pid", f"--seed-file={self.folder}/seed",
                     f"--log-file={self.folder}/munged.log")  # fmt: skip
        database = ["--no-defaults", "--user=root", f"--datadir={self.folder}/database"]
        self.run("mariadb-install-db", *database, "--skip-test-db")
        self._daemon("mariadbd", "mariadbd", *database, "--bind-address=127.0.0.1",
                     "--skip-name-resolve",
                     f"--port={self.ports['mariadb']}", f"--socket={self.folder}/mariadb.socket",
                     f"--init-file={self.folder}/etc/users.sql")  # fmt: skip
        wait_for("munged", (self.folder / "munge.socket").exists)
        wait_for("mariadbd", lambda: self._listens("mariadb"))
        self._daemon("slurmdbd", "slurmdbd", "-D")
        wait_for("slurmdbd", lambda: self._listens("slurmdbd"))
        self._daemon("slurmctld", "slurmctld", "-D")
        for worker in WORKERS:
            self.start_worker(worker)
        wait_for("idle workers", lambda: self.states() == dict.fromkeys(WORKERS, "idle"))

    def _daemon(self, name: str, program: str, *options: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as log:
            path = shutil.which(program, path=_path()) or program
            self.daemons[name] = subprocess.Popen(
                [path, *options],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _listens(self, name: str) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.ports[name])) == 0

    def run(self, *words: str) -> str:
        """Run a program of Slurm; what it says."""
        done = subprocess.run(
            words, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stdout}{done.stderr}")
        return done.stdout

    def states(self) -> dict[str, str]:
        """Return the state of each worker, as `sinfo` says it."""
        try:
            said = self.run("sinfo", "--noheader", "--Node", "--format=%N %t")
        except RuntimeError:  # the controller does not answer yet
            return {}
        return dict(line.split() for line in said.splitlines())

    def start_worker(self, name: str) -> None:
        """Start the daemon of a worker, as the first process of a space of its own."""
        self._daemon(name, *WORKER, WORKER_SCRIPT, str(self.folder / "etc"), name)

    def kill_worker(self, name: str) -> None:
        """Kill the daemon of a worker and all that runs on it at once, as a power cut does.

        The kernel ends all processes of a space with the first one.
        """
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def jobs(self, *fields: str) -> list[dict[str, str]]:
        """Return a line of `sacct` for each job and each start of it, with these fields."""
        said = self.run("sacct", "--parsable2", "--allocations", "--duplicates", "--allusers",
                        "--starttime=now-1days", f"--format={','.join(fields)}")  # fmt: skip
        return [
            dict(zip(fields, line.split("|"), strict=True))
            for line in said.splitlines()[1:]
            if line
        ]

    def stop(self) -> None:
        """End all jobs and daemons."""
        for worker in WORKERS:
            if worker in self.daemons:
                self.kill_worker(worker)
        for name in reversed(self.daemons):
            daemon = self.daemons[name]
            daemon.terminate()
            try:
                daemon.wait(timeout=20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self.daemons.clear()


@contextmanager
def slurm() -> Iterator[Cluster]:
    """Run a cluster as long as the context lasts."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))  # paths of sockets must be short
    folder.chmod(0o755)
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder)


def main(command: list[str]) -> int:
    """Run a command beside a cluster, and print what `sacct` knows of its jobs."""
    if why := missing():
        sys.exit(why)
    with slurm() as cluster:
        done = subprocess.run(command, env=cluster.environment)
        fields = "JobID,State,Elapsed,ReqCPUS,ReqMem,Timelimit,ReqTRES%40,NodeList,Comment%60"
        print(cluster.run("sacct", "-X", "--duplicates", "-S", "now-9days", f"--format={fields}"))
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
