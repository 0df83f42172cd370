"""The Slurm profile as shipped: the same results as on one machine, what was asked, who pays."""

import csv

import tifffile
from small_project import nuclei

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
        "rule_segment_segment",
        "rule_objects_compare_objects_overlay",
        "rule_morning",
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


def test_the_demo_has_the_same_bytes_as_on_one_machine(demo, demo_here):
    """`make demo` as a newcomer runs it, and by the profile as shipped."""
    demo.start(plain=True).wait(1500)
    assert demo.results() == demo_here
    assert {job["Partition"] for job in demo.cluster.jobs_of("train")} == {"gpu"}


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


def test_forty_slides_two_of_them_corrupt(finished):
    """Packed in few jobs: 38 done, two in the failure table, a status that is not 0."""
    folder = finished.folder / "raw" / "forty"
    folder.mkdir()
    for number in range(40):
        path = folder / f"slide{number:02}.tif"
        tifffile.imwrite(path, nuclei(128, 128, number)[0], tile=(64, 64), metadata=None)
    for number in (7, 23):
        path = folder / f"slide{number:02}.tif"
        path.write_bytes(path.read_bytes()[:100] + b"\x07" * 500)
    finished.configure(slides="raw/forty", segment={"averaging": "none"})
    finished.without_gpu()
    run = finished.start("--group-components", "index=20", "segment=20", "objects=20")
    printed = run.wait(600, status=1)
    assert "38 slides done, 2 failed" in printed
    assert "Traceback" not in printed
    results = finished.folder / "results"
    with open(results / "archive.tsv", newline="") as file:
        rows = {row["slide"]: row["status"] for row in csv.DictReader(file, delimiter="\t")}
    assert len(rows) == 40
    assert {name for name, status in rows.items() if status == "failed"} == {"slide07", "slide23"}
    with open(results / "failures.tsv", newline="") as file:
        failures = list(csv.DictReader(file, delimiter="\t"))
    assert [row["slide"] for row in failures] == ["slide07", "slide23"]
    assert all(row["reason"] for row in failures)
    report = finished.cluster.jobs_of("morning")
    assert len(report) == 1
    jobs = finished.cluster.jobs()
    assert len(jobs) == 6 + len(report), "two of each kind"
    assert {job["JobState"] for job in jobs} == {"COMPLETED"}
