"""Before the first job of a run on Slurm: what would go wrong later, in one line now.

Every kind of job is shown to sbatch, so that a missing account or a wrong partition is said in
Slurm's own words at once; jobs of a killed Snakemake are cancelled, so that the same command goes
on; the executor is made to wait for a controller that is away (slurm_executor).

Imported by the Snakefile side.
"""

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from slideunet import slurm_executor
from slideunet.errors import UserError

PROFILE = "profiles/slurm/config.yaml"
# Refusals that pass: the nodes are down at this moment, or enough jobs are queued already.
PASSING = re.compile(
    r"not available \(|inactive|job submit limit|AssocMax|QOSMax|MaxSubmit|timed out|temporarily",
    re.IGNORECASE,
)
ABSENT = re.compile(r"contact slurm controller|connection refused", re.IGNORECASE)
# sbatch's option for each resource that shapes where a job may run.
OPTIONS = {
    "slurm_account": "--account",
    "slurm_partition": "--partition",
    "qos": "--qos",
    "constraint": "--constraint",
    "runtime": "--time",
    "mem_mb": "--mem",
    "gpu": "--gpus",
}
# Cancelled jobs get SIGTERM, and SIGKILL after Slurm's KillWait (30 s as shipped).
ORPHANS_END_SECONDS = 90


def prepare(workflow: object, folder: str = ".snakemake/slurm_runs") -> None:
    """Check the requests of all rules, cancel orphans, harden the executor.

    Called from `onstart`, which has Snakemake's workflow object; does nothing for executors other
    than slurm. Raises UserError where Slurm would refuse a job.
    """
    executor = workflow.scheduler._executor
    if type(executor).__module__ != "snakemake_executor_plugin_slurm":
        return
    jobs = {job.rule.name: job for job in workflow.dag.needrun_jobs() if not job.is_local}
    check_requests(_requests(jobs))
    for line in cancel_orphans(Path(folder)):
        executor.logger.warning(line)
    record_run(Path(folder), executor.run_uuid)
    if not any(request.get("slurm_account") for request in _requests(jobs).values()):
        # Else the plugin takes the account of whatever the user's last job was.
        executor._fallback_account_arg = ""
    slurm_executor.install(executor)


def check_requests(requests: dict[str, dict], test: Callable | None = None) -> None:
    """Show one job of each rule to sbatch, without submitting it.

    `requests`: rule name -> its resources and `threads`. Raises UserError with sbatch's own words.
    """
    test = test or _test_only
    seen = set()
    for rule, request in requests.items():
        arguments = submit_arguments(request)
        if tuple(arguments) in seen:
            continue
        seen.add(tuple(arguments))
        refusal = test(arguments)
        if refusal and ABSENT.search(refusal):
            raise UserError(f"Slurm's controller does not answer: {refusal}: call again later")
        if refusal and not PASSING.search(refusal):
            raise UserError(
                f"Slurm refuses the jobs of rule {rule} ({' '.join(arguments)}): {refusal}: "
                f"fill in slurm_account and slurm_partition in {PROFILE}, or ask for less there"
            )


def submit_arguments(request: dict) -> list[str]:
    """sbatch's arguments for a job's resources; values that are not known yet are left out."""
    arguments = [f"--cpus-per-task={request.get('threads', 1)}"]
    for name, option in OPTIONS.items():
        value = request.get(name)
        if value and str(value) != "<TBD>":
            model = f"{request['gpu_model']}:" if name == "gpu" and "gpu_model" in request else ""
            arguments.append(f"{option}={model}{value}")
    return arguments


def record_run(folder: Path, run_id: str) -> None:
    """Note that this process submits jobs under the name `run_id`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}
    (folder / f"{run_id}.json").write_text(json.dumps(content))


def cancel_orphans(folder: Path) -> list[str]:
    """Cancel the jobs of Snakemakes that were killed, and wait until they are gone.

    All runs in this working directory left a note in `folder`. Returns lines for the user. Runs
    that may still be alive on another host are left alone.
    """
    lines = []
    for note in sorted(folder.glob("*.json")):
        jobs = _jobs_of(note.stem)
        state = _owner_state(note)
        if jobs and state == "elsewhere":
            lines.append(
                f"Run {note.stem} was started on another host and still has {len(jobs)} jobs. If "
                f"that Snakemake was killed, cancel them: scancel --name={note.stem}"
            )
        if not jobs and state != "alive":
            note.unlink(missing_ok=True)
        if jobs and state == "dead":
            subprocess.run(["scancel", f"--name={note.stem}"], check=False)
            lines.append(f"Cancelled {len(jobs)} jobs that a killed Snakemake had left behind.")
            _wait_until_gone(note.stem)
            note.unlink(missing_ok=True)
    return lines


def _requests(jobs: dict[str, object]) -> dict[str, dict]:
    wanted = (*OPTIONS, "gpu_model")
    return {
        rule: {
            "threads": job.threads,
            **{name: job.resources.get(name) for name in wanted if job.resources.get(name)},
        }
        for rule, job in jobs.items()
    }


def _test_only(arguments: Iterable[str]) -> str:
    """What sbatch has against such a job; empty if nothing."""
    command = ["sbatch", "--test-only", "--wrap=true", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    words = done.stderr.replace("sbatch: error:", " ").replace("allocation failure:", " ")
    return " ".join(words.split()) or f"sbatch ended with status {done.returncode}"


def _owner_state(note: Path) -> str:
    """alive, dead, or elsewhere (on a host whose processes can't be seen from here)."""
    try:
        owner = json.loads(note.read_text())
    except (OSError, ValueError):
        return "elsewhere"
    if owner["host"] != socket.gethostname():
        return "elsewhere"
    return "alive" if _started(owner["pid"]) == owner["started"] else "dead"


def _started(pid: int) -> str | None:
    """When a process of this host was started, in clock ticks since boot; None if it is gone."""
    try:
        # field 22; the name in field 2 may hold spaces, so count from its closing parenthesis
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _jobs_of(run_id: str) -> list[str]:
    """Ids of the run's jobs that still wait or run."""
    command = ["squeue", "--noheader", "--format=%i", f"--name={run_id}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def _wait_until_gone(run_id: str) -> None:
    end = time.monotonic() + ORPHANS_END_SECONDS
    while _jobs_of(run_id) and time.monotonic() < end:
        time.sleep(1)
