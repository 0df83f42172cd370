"""SIGKILL at random moments of every stage: the same call goes on to the same bytes."""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import warm
from small_archive import STAGES, content, folder_of

KILLS_IN_A_ROW = 3
SEED = 7


def killed(archive, stage: str, out: Path, seconds: float) -> bool:
    """Start the stage and kill it; whether the kill landed in its midst."""
    function, keywords = archive.call(stage, out)
    run = warm.Run(function, log=out.with_suffix(".log"), **keywords)
    time.sleep(seconds)
    status = run.kill()
    begun = any(out.glob(".*.work-*"))
    return status == -signal.SIGKILL and begun and not Path(keywords["manifest"]).exists()


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kills", [2, pytest.param(28, marks=pytest.mark.faults)])
def test_a_killed_stage_goes_on_to_the_same_bytes(server, archive, tmp_path, figure, stage, kills):
    chance = random.Random(f"{SEED} {stage}")
    timed = folder_of(stage, tmp_path / "timed")
    function, keywords = archive.call(stage, timed)
    begin = time.monotonic()
    warm.finish(function, log=tmp_path / "log", **keywords)
    lasts = time.monotonic() - begin
    assert content(timed) == archive.calm(stage)
    landed = tries = kept = 0
    while landed < kills:
        out = folder_of(stage, tmp_path / f"{tries}")
        own = 0
        for _ in range(KILLS_IN_A_ROW):
            own += killed(archive, stage, out, chance.uniform(0, lasts))
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
    print(f"{stage}: seed {SEED}, {landed} kills, a stage of {lasts:.2f} s")
    figure(f"SIGKILL in the midst of {stage}, then the same bytes", kills, landed, kept)


def publish_at_once(work, content, names):
    """Work.publish without its protection: the manifest first, files in place."""
    from slideunet import store

    work.manifest.write_bytes(store.to_json({**content, "files": [], "names": []}))
    time.sleep(0.3)
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
