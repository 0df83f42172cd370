"""A throw-away Slurm cluster: real daemons, virtual nodes on this machine, one with a fake GPU.

Everything (munge key, sockets, slurm.conf, state, logs) lives in one folder; daemons listen on free
ports of the loopback device and are ended by pid. Up in about a second.

    python tests/slurm/slurm_cluster.py [COMMAND ...]    run it (a shell if none) on such a cluster

Needs slurmctld, slurmd, munged (Debian: slurm-wlm munge). As root each node is a pid namespace of
its own, so that killing it is a power loss; else a killed slurmd leaves its jobs running.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from slurm_conf import configuration

NEEDED = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "squeue")
SBIN = ("/usr/sbin", "/sbin")


def missing_programs() -> list[str]:
    """The programs of Slurm that are not installed here."""
    path = os.pathsep.join([os.environ["PATH"], *SBIN])
    return [name for name in NEEDED if shutil.which(name, path=path) is None]


def can_isolate() -> bool:
    """Whether pid namespaces can be made here: without them there is no power loss."""
    try:
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "true"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def wait_for(what: str, ready: Callable[[], object], seconds: float = 60, every: float = 0.1):
    """Wait until `ready()` is true and return what it returned; TimeoutError naming `what`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = ready()
        if result:
            return result
        time.sleep(every)
    raise TimeoutError(f"after {seconds:g} s still not: {what}")


@dataclass
class Cluster:
    """Nodes n1, n2, ...; the last one has the GPUs and is all that partition `gpu` holds."""

    root: Path
    nodes: int = 2
    cpus: int = 2  # that a node claims to have
    mem_mb: int = 8000  # that a node claims to have
    gpus: int = 1
    processes: dict[str, subprocess.Popen] = field(default_factory=dict)

    def up(self) -> "Cluster":
        """Start everything; returns when all nodes are idle."""
        self.isolated = can_isolate()
        for name in ("munge", "state", "spool", "log", "bin"):
            (self.root / name).mkdir(parents=True)
        self._configure()
        self._start_munge()
        self.start_controller(clean=True)
        for node in self.node_names:
            self.start_node(node)
        wait_for("all nodes idle", lambda: self.idle_nodes() == set(self.node_names))
        return self

    def down(self) -> None:
        """End every job and every daemon, by pid; the folder stays."""
        if self.answers():
            # (an empty list of job ids would be refused)
            jobs = [
                job["JobId"] for job in self.jobs() if job["JobState"] in ("RUNNING", "PENDING")
            ]
            if jobs:
                self.run("scancel", "--signal=KILL", *jobs, check=False)
                self.run("scancel", *jobs, check=False)
        for name, process in reversed(self.processes.items()):
            if name in self.node_names and self.isolated:
                self._kill(name)
            elif process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        self.processes.clear()

    @property
    def node_names(self) -> list[str]:
        """n1, n2, ..."""
        return [f"n{i + 1}" for i in range(self.nodes)]

    @property
    def env(self) -> dict[str, str]:
        """The environment in which sbatch, squeue, snakemake find this cluster."""
        path = [str(self.root / "bin"), os.environ["PATH"], *SBIN]
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("SLURM_")},
            "SLURM_CONF": str(self.root / "slurm.conf"),
            "PATH": os.pathsep.join(path),
        }

    def run(self, *command: str, check: bool = True) -> str:
        """The output of a command on this cluster."""
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, check=False, timeout=60
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def answers(self) -> bool:
        """Whether the controller is there."""
        return "is UP" in self.run("scontrol", "ping", check=False)

    def idle_nodes(self) -> set[str]:
        """Names of the nodes that wait for jobs."""
        return set(self.run("sinfo", "-h", "-N", "-t", "idle", "-o", "%N", check=False).split())

    def jobs(self) -> list[dict[str, str]]:
        """All jobs that the controller remembers, as `scontrol show job` has them."""
        text = self.run("scontrol", "--oneliner", "show", "job", check=False)
        lines = [line for line in text.splitlines() if line.startswith("JobId=")]
        return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]

    def jobs_of(self, rule: str) -> list[dict[str, str]]:
        """The jobs of one rule of a Snakemake workflow."""
        return [job for job in self.jobs() if f"rule_{rule}_" in job.get("Comment", "") + "_"]

    def start_now(self, job: str) -> None:
        """Let a requeued job start at once: Slurm makes it wait two minutes."""
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now", check=False)

    def start_controller(self, clean: bool = False) -> None:
        """Start slurmctld; `clean`: without what it knew before."""
        self._spawn("slurmctld", ["slurmctld", "-D", "-i", *(["-c"] if clean else [])])
        wait_for("slurmctld answers", self.answers)

    def stop_controller(self, kill: bool = False) -> None:
        """Orderly, or by kill -9, which loses what it has not saved in the last seconds."""
        process = self.processes["slurmctld"]
        process.kill() if kill else process.terminate()
        process.wait(20)

    def start_node(self, name: str) -> None:
        """Boot a node."""
        namespace = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]
        (self.root / "spool" / name).mkdir(exist_ok=True)
        self._spawn(name, [*(namespace if self.isolated else []), "slurmd", "-D", "-N", name])

    def kill_node(self, name: str) -> None:
        """Power loss: the node's jobs are gone with it. Slurm notices after SlurmdTimeout."""
        if not self.isolated:
            raise RuntimeError("no pid namespaces here: a killed node would go on computing")
        self._kill(name)

    def cut_off(self, name: str) -> None:
        """Slurm no longer reaches the node, and what runs there stands still until `wake`."""
        for pid in self._processes(name):
            os.kill(pid, signal.SIGSTOP)

    def wake(self, name: str) -> list[int]:
        """Let the jobs of a node that is cut off go on; returns their processes."""
        jobs = self._processes(name)[1:]
        for pid in jobs:
            os.kill(pid, signal.SIGCONT)
        return jobs

    def reconnect(self, name: str) -> None:
        """Let Slurm reach the node again."""
        for pid in self._processes(name):
            os.kill(pid, signal.SIGCONT)

    def _processes(self, name: str) -> list[int]:
        """The node's processes: slurmd first (the init of its pid namespace), then its jobs'."""
        process = self.processes[name]
        if process.poll() is not None:
            return []
        if not self.isolated:
            return [process.pid]
        return _descendants(process.pid)

    def _spawn(self, name: str, command: list[str]) -> None:
        with open(self.root / "log" / f"{name}.out", "ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def _kill(self, name: str) -> None:
        namespaced = name in self.node_names and self.isolated
        # with the init of a pid namespace all of its processes go
        for pid in self._processes(name)[:1] if namespaced else [self.processes[name].pid]:
            os.kill(pid, signal.SIGKILL)
        self.processes[name].wait(10)

    def _start_munge(self) -> None:
        folder = self.root / "munge"
        key = folder / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        files = {"key-file": key, "socket": folder / "socket", "pid-file": folder / "pid"}
        files |= {"log-file": folder / "log", "seed-file": folder / "seed"}
        options = [f"--{name}={path}" for name, path in files.items()]
        # --force: it would refuse a socket in a folder that other users can't enter
        self._spawn("munged", ["munged", "--foreground", "--force", *options])
        wait_for("munged answers", (folder / "socket").exists)

    def _configure(self) -> None:
        for name, text in configuration(
            self.root, self.node_names, cpus=self.cpus, mem_mb=self.mem_mb, gpus=self.gpus
        ).items():
            (self.root / name).write_text(text)
        # Of the commands that run inside a job only srun may be called without SLURM_CONF (the
        # plugin's own way of running jobs takes all SLURM_ variables away).
        srun = self.root / "bin" / "srun"
        real = shutil.which("srun")
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.root}/slurm.conf exec {real} "$@"\n')
        srun.chmod(0o755)


def _descendants(pid: int) -> list[int]:
    """Processes below `pid`, parents first."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *_descendants(child)]
    return found


def main() -> int:
    """Run the command given on a cluster of its own."""
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = Cluster(Path(folder) / "cluster")
        try:
            cluster.up()
            command = sys.argv[1:] or [os.environ.get("SHELL", "/bin/sh")]
            return subprocess.run(command, env=cluster.env, check=False).returncode
        finally:
            cluster.down()


if __name__ == "__main__":
    sys.exit(main())
