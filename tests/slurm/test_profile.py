"""The Slurm profile as shipped: the same results as on one machine, what was asked, who pays."""

GPU_RULES = {"train", "evaluate", "segment"}


def minutes(text: str) -> int:
    """Of Slurm's `[days-]hours:minutes:seconds`."""
    days, _, clock = text.rpartition("-")
    hours, minute, _ = clock.split(":")
    return int(days or 0) * 1440 + int(hours) * 60 + int(minute)


def test_same_bytes_as_on_one_machine(fresh, expected):
    """The command that a user types, with the profile as it is."""
    run = fresh.start(plain=True)
    printed = run.wait(600)
    assert fresh.results() == expected
    assert "Traceback" not in printed

    jobs = {job["Comment"]: job for job in fresh.cluster.jobs() if "Comment" in job}
    assert {job["JobState"] for job in jobs.values()} == {"COMPLETED"}
    assert set(jobs) == {
        "rule_ingest_wildcards_a",
        "rule_ingest_wildcards_b",
        "rule_weights_wildcards_a",
        "rule_weights_wildcards_b",
        "rule_train_wildcards_main",
        "rule_evaluate_wildcards_main",
        "rule_index_index",
        "rule_segment_wildcards_one",
        "rule_objects_compare_objects_overlay",
    }
    for comment, job in jobs.items():
        on_gpu = comment.split("_")[1] in GPU_RULES
        assert job.get("TresPerJob") == ("gres:gpu:1" if on_gpu else None), comment
        assert job["Partition"] == ("gpu" if on_gpu else "main"), comment
        assert not on_gpu or job["NodeList"] == "n2", comment
    train, packed = jobs["rule_train_wildcards_main"], jobs["rule_objects_compare_objects_overlay"]
    assert (train["MinMemoryNode"], minutes(train["TimeLimit"])) == ("6000M", 480)
    # compare and overlay side by side, after objects
    assert (packed["MinMemoryNode"], minutes(packed["TimeLimit"])) == ("6000M", 51)
    assert packed["CPUs/Task"] == "2"
    assert not list((fresh.folder / ".snakemake" / "slurm_logs").rglob("*.log")), "all succeeded"


def test_slurm_s_refusal_is_one_line_before_the_first_job(fresh):
    fresh.change_profile(set_resources={"segment": {"slurm_partition": "nowhere"}})
    printed = fresh.start().wait(120, status=1)
    line = next(line for line in printed.splitlines() if "nowhere" in line)
    assert "rule segment" in line
    assert "invalid partition" in line.lower()
    assert "profiles/slurm/config.yaml" in line
    assert "Traceback" not in printed
    assert fresh.cluster.jobs() == []


def test_a_missing_account_is_said_and_a_right_one_is_taken(fresh):
    """Here Slurm takes the job and never starts it; where accounts are enforced sbatch says no."""
    target = "results/images/a.json"
    fresh.fill_in(slurm_partition="paid")
    printed = fresh.start(target, "--retries", "0").wait(120, status=1)
    assert "paid allows proj" in printed
    assert "account, partition and limits in the profile" in printed
    assert "trying to guess" not in printed
    assert [job["JobState"] for job in fresh.cluster.jobs_of("ingest")] == ["CANCELLED"]

    # (without an accounting database Slurm takes no account there, proj neither)
    profile = fresh.folder / "profiles" / "slurm" / "config.yaml"
    profile.write_text(profile.read_text().replace('n: "paid"', 'n: ""'))
    fresh.fill_in(slurm_account="proj")
    fresh.start(target).wait(120)
    assert fresh.cluster.jobs_of("ingest")[-1]["Account"] == "proj"
