"""Where a run stands, from its files alone."""

import json
import os
import signal
import subprocess
import sys

import pytest
from slideunet import standing


def manifest(results, slide, name, at, failed_in=None):
    path = results / "slides" / slide / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    failure = {"failure": {"stage": failed_in, "reason": "torn"}} if failed_in else {}
    path.write_text(json.dumps({"status": "failed" if failed_in else "done", **failure}))
    os.utime(path, (at, at))


@pytest.fixture
def results(tmp_path):
    """Ten slides: four through, one failed while segmenting and passed on, five waiting."""
    for number in range(4):
        for name in standing.MANIFESTS.values():
            manifest(tmp_path, f"s{number}", name, 1_000_000 + 360 * number)
    for name, stage in (("slide", None), ("segmentation", "segment"), ("objects", "segment")):
        manifest(tmp_path, "s4", name, 1_000_000, stage)
    manifest(tmp_path, "s5", "slide", 1_001_000)
    return tmp_path


SLIDES = [f"s{number}" for number in range(10)]


def test_each_stage_counts_what_is_done_failed_and_waiting(results):
    found = standing.stages(results, SLIDES)
    counts = {
        rule: (stage.done, stage.failed, stage.passed_on, stage.waiting)
        for rule, stage in found.items()
    }
    assert counts == {
        "index": (6, 0, 0, 4), "segment": (4, 1, 0, 5), "objects": (4, 0, 1, 5),
        "overlay": (4, 0, 0, 6),
    }  # fmt: skip


def test_the_rest_is_said_by_the_rate_so_far(results):
    now = 1_000_000 + 3 * 360 + 60
    lines = standing.report(results, SLIDES, [{"slide": "x"}], {"main": 1500}, now)
    assert "slides: 4 done, 1 failed, 5 to do, 1 skipped" in lines
    # a slide each 6 minutes: 5 of them
    assert "finished 60 s ago; at the rate of the last 4 the others take 30 min" in lines[-1]
    assert lines[0] == "network main: training has not begun, or has no checkpoint yet"
    assert ["segment", "4", "1", "5", "10"] in [line.split() for line in lines]


def test_old_slides_do_not_slow_the_rate():
    new = [1_000_000 + 36 * n for n in range(standing.LAST)]
    assert standing.slides_an_hour([10, 20, *new]) == pytest.approx(100)
    assert standing.slides_an_hour([5]) is None


def test_a_training_is_as_far_as_its_last_checkpoint(tmp_path):
    work = tmp_path / "models" / "main" / ".train.work-1234"
    work.mkdir(parents=True)
    for step in (900, 1000):
        (work / f"checkpoint-{step:09d}.safetensors").touch()
    lines = standing.report(tmp_path, [], [], {"main": 1500})
    assert lines == ["network main: 1000 of 1500 steps at its last checkpoint", "no slides"]


def test_a_half_written_manifest_is_waiting(tmp_path):
    manifest(tmp_path, "s0", "slide", 1)
    (tmp_path / "slides" / "s0" / "slide.json").write_text('{"status": "do')
    assert standing.stages(tmp_path, ["s0"])["index"].waiting == 1


def status(project, tmp_path, *arguments):
    return subprocess.run(
        [sys.executable, project / "workflow" / "status.py", *arguments],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_command_reads_the_runs_configuration(project, results):
    (results / "slides.tsv").write_text("id\timage\n" + "".join(f"{s}\t{s}.svs\n" for s in SLIDES))
    (results / "mine.yaml").write_text("results: .\nslides: slides.tsv\n")
    before = sorted(results.rglob("*"))
    done = status(project, results, "--profile", "profiles/local", "--configfile", "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert "slides: 4 done, 1 failed, 5 to do" in done.stdout
    assert sorted(results.rglob("*")) == before, "it writes nothing"


def test_the_command_takes_overrides(project, results):
    (results / "slides.tsv").write_text("id\timage\ns0\ts0.svs\n")
    (results / "mine.yaml").write_text("results: none\nslides: slides.tsv\n")
    over = ("results=.", "models={second: {train_on: [train], test_on: [test]}}")
    done = status(project, results, "--configfile", "mine.yaml", "--config", *over)
    assert done.returncode == 0, done.stderr
    assert "network second: training has not begun" in done.stdout
    assert "slides: 1 done" in done.stdout


def test_it_goes_on_in_short_lines_until_it_is_stopped(project, results):
    (results / "slides.tsv").write_text("id\timage\n" + "".join(f"{s}\t{s}.svs\n" for s in SLIDES))
    (results / "mine.yaml").write_text("results: .\nslides: slides.tsv\n")
    command = [sys.executable, project / "workflow" / "status.py", "--configfile", "mine.yaml"]
    with subprocess.Popen(
        # a shell's job in the background ignores SIGINT, and so do its children
        ["env", "--default-signal=INT", *command, "--every", "0.1"],
        cwd=results,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        said = [running.stdout.readline() for _ in range(2)]
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    for line in said:
        assert line.startswith("network main: training has not begun")
        assert "; slides: 4 done, 1 failed, 5 to do, 0 skipped; last one finished" in line


def test_it_ends_quietly_where_nobody_reads_on(project, results):
    (results / "slides.tsv").write_text("id\timage\n" + "".join(f"{s}\t{s}.svs\n" for s in SLIDES))
    (results / "mine.yaml").write_text("results: .\nslides: slides.tsv\n")
    command = [sys.executable, project / "workflow" / "status.py", "--configfile", "mine.yaml"]
    with subprocess.Popen(
        [*command, "--every", "0.1"], cwd=results, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        running.stdout.readline()
        running.stdout.close()
        assert running.wait(30) == 0
        assert running.stderr.read() == b""


def test_on_a_terminal_each_stage_has_a_bar(results):
    work = results / "models" / "main" / ".train.work-1"
    work.mkdir(parents=True)
    (work / "checkpoint-000000500.safetensors").touch()
    lines = standing.report(results, SLIDES, [], {"main": 1000}, bars=True)
    assert lines[0].endswith(f"{'█' * 15}{' ' * 15}  50 %")
    (segment,) = [line for line in lines if line.startswith("segment")]
    assert segment.endswith(f"{'█' * 15}{' ' * 15}  50 %")  # the failed one is through as well
    (index,) = [line for line in lines if line.startswith("index")]
    assert index.endswith(f"{'█' * 18}{' ' * 12}  60 %")


def test_a_wrong_override_is_one_line(project, tmp_path):
    done = status(project, tmp_path, "--config", "train.steps=3")
    assert done.returncode == 1
    assert done.stderr == "--config train.steps=3: write 'train={steps: 3}', in quotes\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "mine.yaml: No such file or directory: give the path of a configuration"),
        ("a: [", "mine.yaml: line 2: not YAML"),
        ("- a", "mine.yaml: no configuration: lines KEY: VALUE are wanted"),
        ("trian: {}", "config: unknown key 'trian': did you mean 'train'?"),
    ],
)
def test_a_mistake_is_one_line(project, tmp_path, content, message):
    if content is not None:
        (tmp_path / "mine.yaml").write_text(content)
    done = status(project, tmp_path, "--configfile", "mine.yaml")
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
