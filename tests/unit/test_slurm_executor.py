"""States of jobs, put into the words that Snakemake's Slurm plugin understands."""

import importlib
from types import SimpleNamespace

import pytest
from slideunet import slurm_executor
from slideunet.slurm_executor import GONE, JobStates


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ("RUNNING", "RUNNING"),
        ("COMPLETED", "COMPLETED"),
        ("TIMEOUT", "TIMEOUT"),
        ("CANCELLED by 0", "CANCELLED"),
        ("CANCELLED+", "CANCELLED"),
        ("REVOKED", "FAILED"),
        ("LAUNCH_FAILED", "FAILED"),
    ],
)
def test_words(said, understood):
    assert JobStates().translate({"1": said}) == {"1": understood}


@pytest.mark.parametrize("state", ["NODE_FAIL", "PREEMPTED"])
def test_a_state_that_may_pass_counts_once_it_lasts(state):
    states = JobStates()
    seen = [states.translate({"1": said})["1"] for said in (state, state, "PENDING")]
    assert seen == ["PENDING"] * 3, "it went back into the queue"
    seen = [states.translate({"1": state})["1"] for _ in range(3)]
    assert seen == ["PENDING", "PENDING", "FAILED"]


def test_a_job_that_nobody_knows_is_judged_by_its_outputs():
    states = JobStates()
    states.expected = {"1", "2"}
    seen = [states.translate({"2": "RUNNING"}) for _ in range(3)]
    assert seen == [{"2": "RUNNING"}] * 2 + [{"2": "RUNNING", "1": GONE}]


def test_a_job_that_comes_back_is_not_gone():
    states = JobStates()
    states.expected = {"1"}
    for said in ({}, {}, {"1": "RUNNING"}, {}, {}):
        assert states.translate(said) == said


def test_a_job_that_can_t_start_is_stuck_once_that_lasts():
    states = JobStates()
    unknown = "Job's account not known, so it can't use this partition (paid allows proj)"
    reasons = {"1": unknown, "2": "Priority", "3": "Resources", "4": "PartitionTimeLimit"}
    assert [list(states.stuck(reasons)) for _ in range(3)] == [[], [], ["1", "4"]]


@pytest.mark.parametrize(
    ("command", "limits", "within"),
    [
        ("sbatch -p gpu -t 90 --mem 9000", (8000, 60, 8), "sbatch -p gpu -t 60 --mem 8000"),
        ("sbatch -p gpu -t 30 --mem 700", (8000, 60, 8), None),
        ("sbatch -t 90 --mem 9000", (None, None, None), None),
        ("sbatch -p gpu -t 90 --mem-per-cpu 9000", (8000, None, None), None),
        ("sbatch --mem 9 --cpus-per-task=4 x", (8, 9, 2), "sbatch --mem 8 --cpus-per-task=2 x"),
    ],
)
def test_a_request_stays_within_its_partition(command, limits, within):
    asked = []
    found = slurm_executor.within_limits(command, lambda name: asked.append(name) or limits)
    assert found == (within or command)
    assert asked == ["gpu" if " -p " in command else None]


@pytest.mark.parametrize(
    ("printed", "limits"),
    [
        ("8000 1-00:00:00 4\n16000+ 1-00:00:00 8+\n", (16000, 1440, 8)),
        ("1 infinite 2\n", (None, None, 2)),
        ("", (None, None, None)),
    ],
)
def test_limits_as_sinfo_prints_them(tmp_path, monkeypatch, printed, limits):
    (tmp_path / "sinfo").write_text(f"#!/bin/sh\nprintf '{printed}'\n")
    (tmp_path / "sinfo").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    slurm_executor.partition_limits.cache_clear()
    assert slurm_executor.partition_limits("main") == limits


def test_a_job_s_snakemake_takes_no_more_cpus_than_the_job_has(monkeypatch):
    monkeypatch.setattr(slurm_executor, "partition_limits", lambda partition: (None, None, 2))
    assert slurm_executor.own_cores("--cores all -x", 1, "") == "--cores 1 -x"
    assert slurm_executor.own_cores("--cores 'all' -x", 4, "main") == "--cores 2 -x"


def test_the_plugin_still_has_what_is_replaced():
    """A new version of the plugin must be looked at before it is taken."""
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm")
    source = importlib.util.find_spec("snakemake_executor_plugin_slurm").loader.get_source(
        "snakemake_executor_plugin_slurm"
    )
    for name in ("query_job_status", "get_min_job_age", "get_submit_command"):
        assert callable(getattr(plugin, name))
    names = ("check_active_jobs", "run_job", "get_job_args", "additional_general_args")
    for name in (*names, "report_job_error"):
        assert callable(getattr(plugin.Executor, name))
    assert "_fallback_account_arg" in source
    assert f'status == "{GONE}"' in source
    assert {"NODE_FAIL", "PREEMPTED"} == slurm_executor.PASSING


@pytest.mark.parametrize(
    ("arguments", "packed"),
    [
        (["--target-jobs", "segment:slide=a", "segment:slide=b", "--force"], True),
        (["--target-jobs", "objects:slide=a", "overlay:slide=a"], True),
        (["--target-jobs", "segment:slide=a", "--force", "--cores", "1"], False),
        (["--cores", "1", "a", "b"], False),
    ],
)
def test_packed_jobs_are_told_by_their_targets(arguments, packed):
    assert slurm_executor.is_packed(arguments) == packed


def test_what_a_packed_job_kept_goes_once_it_has_succeeded(tmp_path):
    """And not before: of a job of one rule nothing is kept, what it left is not touched."""
    kept = tmp_path / ".slide.work-1"
    manifest = tmp_path / "slide.json"
    reported = []
    executor = SimpleNamespace(report_job_success=reported.append)
    slurm_executor.forget_work_of_packed_jobs(executor)
    member = SimpleNamespace(output=SimpleNamespace(manifest=str(manifest)))
    for group in (False, True):
        kept.mkdir(exist_ok=True)
        job = SimpleNamespace(is_group=lambda group=group: group, jobs=[member])
        executor.report_job_success(SimpleNamespace(job=job))
        assert kept.exists() != group
    assert len(reported) == 2
