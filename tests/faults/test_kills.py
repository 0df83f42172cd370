"""SIGKILL at random moments of every stage: the same call goes on to the same bytes."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import warm
from kill_cases import BelieveShards, DieAfterCheckpoint, DieWithinShard, ForgetOptimiser
from small_archive import STAGES, content, folder_of

KILLS_IN_A_ROW = 3
SEED = 7
# The time to the kill is a random share of one that a hit lengthens and a miss shortens: by so much
# that about one in eight misses, however busy the machine is.
LONGER, SHORTER = 1.1, 0.5


def works(out: Path) -> set[str]:
    """The work folders; each owner gives a name of its own to the one that it takes over."""
    return {path.name for path in out.glob(".*.work-*")}


class Begun:
    """A run of the stage in the folder `out` whose own work folder is there."""

    def __init__(self, archive, stage: str, out: Path):
        function, keywords = archive.call(stage, out)
        self.out, self.manifest = out, Path(keywords["manifest"])
        before, log = works(out), out.with_suffix(".log")
        self.run = warm.Run(function, log=log, **keywords)
        while not (own := works(out) - before) and self.run.join(0) is None:
            time.sleep(0.0005)
        self.own, self.begin = own, time.monotonic()

    def kill(self, seconds: float) -> bool:
        """Kill it after so long; whether the kill landed in its midst."""
        time.sleep(seconds)
        status = self.run.kill()
        assert status in (0, -signal.SIGKILL), self.run.log.read_text()[-3000:]
        begun = bool(self.own) and self.own == works(self.out)
        return status == -signal.SIGKILL and begun and not self.manifest.exists()

    def lasts(self) -> float:
        """Let it end; the time from its work folder to its manifest."""
        while not self.manifest.exists() and self.run.join(0) is None:
            time.sleep(0.0005)
        seconds = time.monotonic() - self.begin
        assert self.run.join() == 0, self.run.log.read_text()[-3000:]
        return seconds


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kills", [2, pytest.param(28, marks=pytest.mark.faults)])
def test_a_killed_stage_goes_on_to_the_same_bytes(server, archive, tmp_path, figure, stage, kills):
    chance = random.Random(f"{SEED} {stage}")
    timed = folder_of(stage, tmp_path / "timed")
    lasts = within = Begun(archive, stage, timed).lasts()
    assert content(timed) == archive.calm(stage)
    landed = tries = kept = 0
    while landed < kills:
        out = folder_of(stage, tmp_path / f"{tries}")
        own = 0
        for _ in range(KILLS_IN_A_ROW):
            hit = Begun(archive, stage, out).kill(chance.uniform(0, within))
            within *= LONGER if hit else SHORTER
            own += hit
            tries += 1
            if any(out.glob("*.json")) or landed + own >= kills:
                break
        function, keywords = archive.call(stage, out)
        warm.finish(function, log=tmp_path / "log", **keywords)
        found, calm = content(out), archive.calm(stage)
        differ = sorted(name for name in {*found, *calm} if found.get(name) != calm.get(name))
        for name in differ:
            print(f"{stage}: {name} differs: {found.get(name, b'missing')[-1500:]!r}")
        kept += own * (not differ)
        landed += own
        shutil.rmtree(out)
        assert tries < 40 * kills, f"the kills miss the stage, which lasts {lasts:.2f} s"
    print(f"{stage}: seed {SEED}, {landed} kills of {tries}, {lasts:.3f} s from begin to manifest")
    figure(f"SIGKILL in the midst of {stage}, then the same bytes", kills, landed, kept)


def publish_at_once(work, content, names):
    """Work.publish without its protection: the manifest first, files in place."""
    from slideunet import store

    aside = work.folder / "manifest"  # the test waits for the manifest, and reads it whole
    aside.write_bytes(store.to_json({**content, "files": [], "names": []}))
    aside.replace(work.manifest)
    time.sleep(60)  # it is killed here
    for name in names:
        shutil.move(work.folder / name, work.manifest.parent / name)
    shutil.rmtree(work.folder)


class Unprotected:
    """Takes the order of publishing away, in the process that runs the stage."""

    def __call__(self) -> None:
        from slideunet.store import Work

        Work.publish = publish_at_once


def test_without_the_protocol_a_kill_leaves_a_manifest_over_nothing(server, archive, tmp_path):
    """What the test above would find: else it could not fail."""
    out = folder_of("weights", tmp_path)
    function, keywords = archive.call("weights", out)
    run = warm.Run(function, log=tmp_path / "log", prepare=[Unprotected()], **keywords)
    while not (out / "a.json").exists() and run.join(0) is None:
        time.sleep(0.005)
    assert run.kill() == -signal.SIGKILL
    assert json.loads((out / "a.json").read_bytes())["status"] == "done"
    assert not (out / "a.zarr").exists()
    assert content(out) != archive.calm("weights")


@pytest.mark.parametrize(
    ("stage", "death", "taken_away"),
    [
        ("segment", DieWithinShard("0.0.1"), BelieveShards()),
        ("train", DieAfterCheckpoint(4), ForgetOptimiser()),
    ],
    ids=["segment", "train"],
)
def test_without_what_it_goes_on_from_a_killed_stage_ends_in_other_bytes(
    server, archive, tmp_path, stage, death, taken_away
):
    """The same death with and without: only what is taken away makes the difference."""
    same = {}
    for name, prepare in {"with": [], "without": [taken_away]}.items():
        out = folder_of(stage, tmp_path / name)
        function, keywords = archive.call(stage, out)
        status = warm.call(function, log=tmp_path / "log", prepare=[death], **keywords)
        assert status == -signal.SIGKILL and len(works(out)) == 1
        warm.finish(function, log=tmp_path / "log", prepare=prepare, **keywords)
        same[name] = content(out) == archive.calm(stage)
    assert same == {"with": True, "without": False}
