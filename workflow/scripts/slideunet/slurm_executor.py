"""Snakemake's Slurm executor, made to outlast a controller that is away and jobs that vanish.

What snakemake-executor-plugin-slurm 2.8.0 does of itself (measured; tests/slurm keep it so):

* A status query that fails `slurm-status-attempts` times makes it forget its jobs and wait for
  ever. So does a job that ended in a way it has no word for ("CANCELLED by 0", PREEMPTED,
  REVOKED), or that the controller no longer remembers. Here queries wait for the controller, states
  are put into the plugin's words, and a job that nobody knows is judged by its outputs.
* A submission while the controller is away uses up the job's retries in no time. Here it waits.
* Each attempt asks for more memory and time, and once that is more than any node has Slurm refuses
  the rest of the attempts, as it does a packed job with more lanes than a node has CPUs. Here a
  request stays within what its partition has. Why Slurm refuses a packed job is not printed.
* Inside each Slurm job a Snakemake starts another by srun for each rule's job, one after the other:
  a packed job of 4 slides took 31 s and 9.6 CPU-seconds for nothing. Here the one Snakemake in the
  Slurm job runs the scripts itself, as many at a time as the job has CPUs: 7 s and 3.4.
* If one slide of a packed job fails the outputs of all are removed, and all are made again. Here
  what is needed to know them again stays (store.py) until the packed job has succeeded.

Imported by the Snakefile side.
"""

import asyncio
import re
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache
from itertools import takewhile

from slideunet import store
from slideunet.slurm_job import seconds_of

# Nodes whose memory is not told to Slurm appear with 1 MB.
KNOWN_MEMORY_MB = 500
# How often an absent controller is asked again, seconds.
AGAIN_SECONDS = 10
# Queries in a row after which a state counts that may be a passing one: Slurm shows NODE_FAIL and
# PREEMPTED for a moment before it puts the job back into the queue.
PASSING_QUERIES = 3
PASSING = {"NODE_FAIL", "PREEMPTED"}
# Ends that the plugin would take for "still running".
FAILED = {"REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL", "SPECIAL_EXIT", "STOPPED"}
# Reasons for waiting that no time cures: such a job would keep the run from ending.
NEVER = re.compile(
    "account not known|can't use this partition|not permitted|Account ?NotAllowed|QOS ?NotAllowed|"
    "InvalidAccount|InvalidQOS|BadConstraints|NeverSatisfied|PartitionTimeLimit|PartitionNodeLimit|"
    "launch.failed.requeued.held"  # the node could not start it: as a new job it can go elsewhere
)
PENDING_REASONS = "squeue --noheader --states=PENDING --format=%i|%r --name={}"
# What the Snakemake in a job is told to make.
TARGETS = "--target-jobs"
# The plugin's word for a job that is gone: Snakemake then looks whether its outputs are there.
GONE = "UNKNOWN"


class JobStates:
    """Turns what Slurm says about the jobs into what the plugin understands."""

    def __init__(self):
        self.expected: set[str] = set()
        self._odd: Counter = Counter()

    def translate(self, states: dict[str, str]) -> dict[str, str]:
        """`states`: job id -> state as squeue or sacct print it, for the jobs they know."""
        result = {}
        for job, state in states.items():
            word = state.split()[0].rstrip("+") if state else state
            if word in FAILED or (word in PASSING and self._lasts(job, word)):
                word = "FAILED"
            elif word in PASSING:
                word = "PENDING"
            else:
                self._forget(job)
            result[job] = word
        for job in self.expected - result.keys():
            if self._lasts(job, GONE):
                result[job] = GONE
        return result

    def stuck(self, reasons: dict[str, str]) -> dict[str, str]:
        """Those of the waiting jobs that will never start. `reasons`: job id -> why it waits."""
        return {
            job: why for job, why in reasons.items() if NEVER.search(why) and self._lasts(job, why)
        }

    def _lasts(self, job: str, state: str) -> bool:
        self._odd[job, state] += 1
        return self._odd[job, state] >= PASSING_QUERIES

    def _forget(self, job: str) -> None:
        for state in (*PASSING, GONE):
            self._odd.pop((job, state), None)


def install(executor: object) -> None:
    """Put patience into this executor (and into its plugin's module, which belongs to it alone)."""
    import snakemake_executor_plugin_slurm as plugin

    states = JobStates()
    query, age, check = plugin.query_job_status, plugin.get_min_job_age, executor.check_active_jobs
    submit_command = plugin.get_submit_command
    submit, arguments, known_ages = executor.run_job, executor.get_job_args, []

    async def check_active_jobs(active_jobs: list) -> AsyncIterator:
        states.expected = {job.external_jobid for job in active_jobs}
        async for job in check(active_jobs):
            yield job

    async def query_job_status(command: str, logger: object) -> tuple[dict, float]:
        told = False
        while executor.wait:
            answer, seconds = await query(command, logger)
            if answer is not None:
                if told:
                    logger.info("Slurm answers again.")
                if "PENDING" in answer.values():
                    ask = PENDING_REASONS.format(executor.run_uuid)
                    cancel_stuck(states.stuck((await query(ask, logger))[0] or {}), logger)
                return states.translate(answer), seconds
            if not told:
                logger.warning("Slurm does not answer: waiting for it, jobs go on meanwhile.")
                told = True
            await asyncio.sleep(AGAIN_SECONDS)
        return {}, 0.0  # Snakemake is being stopped

    def get_min_job_age() -> int | None:
        # Asked before each query: a controller that is away must not make the plugin turn from
        # squeue to sacct, which may not be there at all.
        value = age()
        if value is not None:
            known_ages[:] = [value]
        return known_ages[0] if known_ages else None

    def run_job(job: object) -> None:
        wait_for_controller(lambda: executor.wait)
        submit(job)

    def get_job_args(job: object) -> str:
        return own_cores(arguments(job), job.threads, job.resources.get("slurm_partition"))

    def get_submit_command(*given: object, **named: object) -> str:
        return within_limits(submit_command(*given, **named), partition_limits)

    get_min_job_age()
    plugin.get_submit_command = get_submit_command
    plugin.query_job_status = query_job_status
    plugin.get_min_job_age = get_min_job_age
    executor.check_active_jobs = check_active_jobs
    executor.run_job = run_job
    say_why_groups_are_refused(executor)
    forget_work_of_packed_jobs(executor)
    executor.get_job_args = get_job_args
    executor.additional_general_args = lambda: "--executor local"


def say_why_groups_are_refused(executor: object) -> None:
    """Of a packed job Snakemake prints which rules it has, not why Slurm did not take it."""
    report = executor.report_job_error

    def report_job_error(job_info: object, msg: str | None = None, **more: object) -> None:
        if msg and job_info.job.is_group():
            executor.logger.error(f"Job of group {job_info.job.name}: {msg}")
        report(job_info, msg=msg, **more)

    executor.report_job_error = report_job_error


def forget_work_of_packed_jobs(executor: object) -> None:
    """Once a packed job has succeeded nothing of it will be made again."""
    report = executor.report_job_success

    def report_job_success(job_info: object) -> None:
        if job_info.job.is_group():
            for job in job_info.job.jobs:
                store.forget_work(job.output.manifest)
        report(job_info)

    executor.report_job_success = report_job_success


def is_packed(arguments: Sequence[str]) -> bool:
    """Whether these are arguments of the Snakemake in a job of several rules' jobs."""
    after = list(arguments)[list(arguments).index(TARGETS) + 1 :] if TARGETS in arguments else []
    return len(list(takewhile(lambda word: not word.startswith("-"), after))) > 1


def own_cores(arguments: str, threads: int, partition: str | None) -> str:
    """Arguments of the Snakemake in a job: not all CPUs of the node, of which it may have a few."""
    most = partition_limits(partition or None)[2] or threads
    return re.sub(r"--cores '?all'?", f"--cores {max(1, min(threads, most))}", arguments)


def cancel_stuck(reasons: dict[str, str], logger: object) -> None:
    """Cancel jobs that will never start, and say why. `reasons`: job id -> why it waits."""
    for job, why in reasons.items():
        logger.warning(
            f"Slurm would never start job {job} ({why}): cancelled, and tried again. "
            "If that repeats look at account, partition and limits in the profile."
        )
        subprocess.run(["scancel", job], check=False)


def wait_for_controller(wanted: Callable[[], bool]) -> None:
    """Return when a controller answers, or when it is no longer wanted."""
    while wanted():
        ping = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, check=False)
        if "is UP" in ping.stdout:
            return
        time.sleep(AGAIN_SECONDS)


def within_limits(command: str, limits_of: Callable) -> str:
    """The sbatch command with what its partition can give: memory (MB), time (minutes), CPUs."""
    partition = re.search(r" -p (\S+)", command)
    limits = limits_of(partition[1] if partition else None)
    for option, limit in zip((" --mem ", " -t ", " --cpus-per-task="), limits, strict=True):
        asked = re.search(rf"{option}(\d+)\b", command)
        if asked and limit is not None and int(asked[1]) > limit:
            command = command.replace(asked[0], f"{option}{limit}", 1)
    return command


@cache
def partition_limits(partition: str | None) -> tuple[int | None, int | None, int | None]:
    """(memory of the largest node in MB, longest time in minutes, most CPUs of a node).

    None where there is no limit.
    """
    command = ["sinfo", "--noheader", "--exact", "--format=%m %l %c"]
    command += [f"--partition={partition}"] if partition else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split() for line in done.stdout.splitlines()]
    memory = max((int(row[0].rstrip("+")) for row in rows), default=0)
    times = [seconds_of(row[1]) for row in rows]
    time_min = None if None in times or not times else int(max(times) // 60)
    cpus = max((int(row[2].rstrip("+")) for row in rows), default=None)
    return (memory if memory > KNOWN_MEMORY_MB else None), time_min, cpus
