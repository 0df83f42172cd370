"""What happens in a night: memory, cancelled jobs, power, preemption, Slurm or Snakemake gone."""

import contextlib
import os
import re
import signal
import time

import pytest
from slurm_cluster import wait_for

TRAIN = "results/models/main/train.json"
SEGMENT = "results/slides/one/segmentation.json"
CHECKPOINTS = "results/models/main/.train.work-*/checkpoint-*.safetensors"
SHARDS = "results/slides/one/.segmentation.work-*/markers/*"

# rule: what it makes, what to remove first, what shows that it is under way, the log's words when
# it goes on from there
STAGES = {
    "train": (TRAIN, "models/main", CHECKPOINTS, r"going on from step [1-9]"),
    "segment": (SEGMENT, "slides/one/segmentation*", SHARDS, r"[1-9]\d* shards are there already"),
}


def same(project, expected, part):
    """Whether all results below `part` are those of the local run."""
    found = {path: data for path, data in project.results().items() if path.startswith(part)}
    wanted = {path: data for path, data in expected.items() if path.startswith(part)}
    assert wanted
    return found == wanted


def rule_log(project, rule):
    """The log of the last attempt of a rule."""
    text = ""
    for path in project.folder.glob(f"results/logs/{rule}/*.log"):
        with contextlib.suppress(FileNotFoundError):  # Snakemake removes it before each attempt
            text += path.read_text()
    return text


def interrupted(project, rule):
    """Start a run that makes one thing; returns it once the job is in the middle of its work."""
    target, remove, sign, _ = STAGES[rule]
    project.without_gpu()
    project.remove(remove)
    run = project.start(target)
    job = project.running(rule)
    project.wait_for_file(sign)
    return run, job


def finished_after(project, expected, run, rule):
    """The run ends well, having gone on where it was, with the bytes of the local run."""
    run.wait()
    _, remove, _, words = STAGES[rule]
    assert re.search(words, rule_log(project, rule)), rule_log(project, rule)
    assert same(project, expected, remove.rstrip("*"))
    work = [path for path in project.folder.rglob("*.work-*") if path.exists()]
    assert work == [], "work folders are swept"


def requeued(project, rule):
    """Wait until Slurm has put the rule's job back, and let it start at once."""

    def look():
        for job in project.cluster.jobs_of(rule):
            if job["Restarts"] != "0" and job["JobState"] == "PENDING":
                return job
        return None

    job = wait_for(f"{rule} back in the queue", look, 90)
    time.sleep(5)  # in which Slurm tidies up: it would take what starts at once for what has ended
    project.cluster.start_now(job["JobId"])


def test_out_of_memory_then_more(finished, expected):
    finished.without_gpu()
    finished.change_profile(set_resources={"segment": {"mem_mb": "250 if attempt == 1 else 3000"}})
    finished.remove("slides/one/segmentation*")
    finished.start(SEGMENT).wait()
    jobs = finished.cluster.jobs_of("segment")
    assert [(job["JobState"], job["MinMemoryNode"]) for job in jobs] == [
        ("FAILED", "250M"),
        ("COMPLETED", "3000M"),
    ]
    assert same(finished, expected, "slides/one/segmentation")


def test_cancelled_job_is_tried_again(finished, expected):
    run, job = interrupted(finished, "train")
    finished.cluster.run("scancel", job["JobId"])
    finished_after(finished, expected, run, "train")
    states = [job["JobState"] for job in finished.cluster.jobs_of("train")]
    assert states == ["CANCELLED", "COMPLETED"]


def test_a_packed_job_goes_on_with_what_is_not_done(finished, expected):
    """Two slides share a job that is cancelled after the first: that one is not computed again."""
    finished.without_gpu()
    finished.write_table("slides", "id image", "one raw/one.ome.tif", "two raw/two.ome.tif")
    finished.remove("slides/one/segmentation*")
    both = [f"results/slides/{slide}/segmentation.json" for slide in ("one", "two")]
    run = finished.start(*both, "--group-components", "segment=2")
    done = finished.wait_for_file("results/slides/*/segmentation.json", 400)
    job = finished.running("segment")
    shards = lambda: {  # noqa: E731
        path: path.stat().st_mtime_ns
        for path in (done.parent / "segmentation.ome.zarr").rglob("*")
        if path.is_file()
    }
    before = shards()
    other = {"one": "two", "two": "one"}[done.parent.name]
    finished.wait_for_file(f"results/slides/{other}/.segmentation.work-*/markers/*")
    finished.cluster.run("scancel", job["JobId"])
    run.wait()
    states = [job["JobState"] for job in finished.cluster.jobs_of("segment")]
    assert states == ["CANCELLED", "COMPLETED"]
    assert shards() == before
    assert same(finished, expected, "slides/one/segmentation")
    work = [path for path in finished.folder.rglob("*.work-*") if path.exists()]
    assert work == [], "work folders are swept"


def test_time_limit_is_seen_coming(finished):
    """A minute's limit: the job saves, goes back by itself under its id, and goes on."""
    finished.configure(train={"steps": 1_000_000})
    finished.change_profile(set_resources={"train": {"runtime": 1}})
    run, job = interrupted(finished, "train")
    requeued(finished, "train")
    again = finished.running("train")
    assert again["JobId"] == job["JobId"]
    wait_for("the training goes on", lambda: "going on from step" in rule_log(finished, "train"))
    run.end()


@pytest.mark.parametrize("rule", ["train", "segment"])
def test_power_loss(isolated, finished, expected, rule):
    run, job = interrupted(finished, rule)
    lost = job["NodeList"]
    isolated.kill_node(lost)
    requeued(finished, rule)
    finished_after(finished, expected, run, rule)
    assert finished.cluster.jobs_of(rule)[-1]["NodeList"] != lost


def test_a_node_cut_off_never_writes_beside_its_successor(isolated, finished, expected):
    """Its job stands still, another node finishes the work, then the job wakes up."""
    run, job = interrupted(finished, "segment")
    lost = job["NodeList"]
    isolated.cut_off(lost)
    requeued(finished, "segment")
    finished_after(finished, expected, run, "segment")

    processes = isolated.wake(lost)
    assert processes, "the old job is still there"
    wait_for("the old job has ended", lambda: not any(map(alive, processes)), 30)
    isolated.reconnect(lost)
    wait_for("the node is back", lambda: lost in isolated.idle_nodes(), 60)
    assert same(finished, expected, "slides/one/segmentation")
    assert not list(finished.folder.glob("results/slides/one/.segmentation.work-*"))


def alive(pid):
    """Whether a process still runs."""
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_preempted_job_goes_on(finished, expected):
    run, job = interrupted(finished, "train")
    finished.cluster.run(
        "sbatch", "--partition=urgent", f"--nodelist={job['NodeList']}", "--exclusive",
        "--output=/dev/null", "--wrap=sleep 1",
    )  # fmt: skip
    requeued(finished, "train")
    finished_after(finished, expected, run, "train")


def controller_away(project, kill):
    """Jobs end while nobody can be asked, others are to be submitted; then it is back."""
    project.without_gpu()
    project.remove("weights", "models/main")
    run = project.start(TRAIN)
    project.running("weights")
    project.cluster.stop_controller(kill)
    project.wait_for_file("results/weights/a.json")
    project.wait_for_file("results/weights/b.json")
    wait_for("Snakemake notices", lambda: "Slurm does not answer" in run.text, 60)
    project.cluster.start_controller()
    return run


def test_controller_away(finished, expected):
    printed = controller_away(finished, kill=False).wait()
    assert "Slurm answers again" in printed
    assert "Trying to restart" not in printed
    assert same(finished, expected, "models/main")


@pytest.mark.faults
def test_controller_that_lost_its_state(finished, expected):
    """Jobs are unknown to it, or held, since their node says that they run already."""
    controller_away(finished, kill=True).wait()
    assert same(finished, expected, "models/main")


@pytest.mark.parametrize("rule", ["train"])
def test_snakemake_killed_then_the_same_command(finished, expected, rule):
    run, job = interrupted(finished, rule)
    run.kill()
    # else it may be done before the next Snakemake is up
    finished.cluster.run("scontrol", "suspend", job["JobId"])
    again = finished.start(STAGES[rule][0])
    finished_after(finished, expected, again, rule)
    assert "Cancelled 1 jobs that a killed Snakemake had left behind" in again.text
    states = [job["JobState"] for job in finished.cluster.jobs_of(rule)]
    assert states == ["CANCELLED", "COMPLETED"]


def test_interrupted_snakemake_takes_its_jobs_with_it(finished):
    run, _ = interrupted(finished, "train")
    run.process.send_signal(signal.SIGINT)
    run.process.wait(60)
    wait_for(
        "the job is gone",
        lambda: finished.cluster.jobs_of("train")[0]["JobState"] == "CANCELLED",
        30,
    )
