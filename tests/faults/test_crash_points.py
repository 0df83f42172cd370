"""Death before each single step of the code that writes: store, checkpoints, shards, copies.

A step is each call that changes the file system (crash_point.c); a write is also torn. Another
run of the same call then gives the same bytes, and at no time does a manifest stand over data that
is not whole.
"""

import shutil
import signal
from functools import partial
from pathlib import Path

import pytest
import warm
from crash_cases import WriteInPlace, publish, replace_earlier, write_by, write_shards
from slideunet import store
from slideunet.errors import UserError
from small_archive import content, folder_of
from test_damage import NOT_CHECKED


def by_stage(archive, stage: str):
    """Call of a stage with its results in the folder that is given."""

    def of(out: Path):
        function, keywords = archive.call(stage, out)
        return partial(function, **keywords)

    return of


def cases(archive) -> dict:
    """Name -> (call for a folder, content that it must give)."""
    plain = {"publish": publish, "replace": replace_earlier, "shards": write_shards}
    return {
        **{name: (partial(partial, call), None) for name, call in plain.items()},
        **{stage: (by_stage(archive, stage), archive.calm(stage)) for stage in ("train", "copy")},
    }


def whole(out: Path) -> bool:
    """Whether each manifest that is there stands over whole data."""
    try:
        manifests = [path for path in out.glob("*.json") if path.name not in NOT_CHECKED]
        return all(not store.find_damage(path) for path in manifests)
    except UserError:  # a manifest that is no manifest
        return False


def die_everywhere(name, call_for, folder: Path, points: int, torn=False, prepare=()) -> tuple:
    """Die at `points` steps, all if 0, and call again: steps, deaths, those that ended well.

    torn : within the writes, instead of before each step
    """
    log = folder / "log"
    calm = folder_of(name, folder / "calm")
    count = folder / "count"
    counted = warm.DieAt(calm, 0, writes_only=torn, count=count)
    warm.finish(call_for(calm), log=log, prepare=[*prepare, counted])
    wanted, steps = content(calm), int(count.read_text())
    every = max(1, steps // points) if points else 1
    deaths = good = 0
    for step in range(1, steps + 1, every):
        out = folder_of(name, folder / str(step))
        armed = warm.DieAt(out, step, writes_only=torn)
        status = warm.call(call_for(out), log=log, prepare=[*prepare, armed])
        deaths += status == -signal.SIGKILL
        unhurt = whole(out)
        again = warm.call(call_for(out), log=log, prepare=list(prepare))
        good += unhurt and again == 0 and content(out) == wanted
        shutil.rmtree(out)
    return len(range(1, steps + 1, every)), deaths, good


@pytest.mark.parametrize("call", ["write", "pwrite", "writev"])
def test_a_torn_write_leaves_half_of_its_bytes(server, crash_points, tmp_path, call):
    """And is the first step where only writes are, though the file is opened before."""
    out = tmp_path / "file"
    armed = warm.DieAt(tmp_path, 1, writes_only=True)
    status = warm.call(write_by, call, out, log=tmp_path / "log", prepare=[armed])
    assert status == -signal.SIGKILL
    assert out.read_bytes() == b"01234"


NAMES = ("publish", "replace", "shards", "train", "copy")


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("points", [2, pytest.param(0, marks=pytest.mark.faults)])
def test_death_before_each_step(
    server, crash_points, archive, tmp_path, figure, name, points, torn
):
    call_for, calm = cases(archive)[name]
    if torn and points:
        pytest.skip("make test-faults tears writes too")
    steps, deaths, good = die_everywhere(name, call_for, tmp_path, points, torn)
    if calm is not None:
        assert content(tmp_path / "calm" / name) == calm
    assert deaths == steps, "each step is reached, the same ones in each run"
    figure(f"death {'within a write' if torn else 'before a step'} of {name}", steps, deaths, good)


def test_without_the_protocol_deaths_leave_damage(server, crash_points, tmp_path):
    """The same procedure on a store without its protection: it must find what that costs."""
    steps, deaths, good = die_everywhere(
        "publish", partial(partial, publish), tmp_path, 0, torn=True, prepare=[WriteInPlace()]
    )
    assert deaths == steps
    assert good < deaths, "manifests over half data were not noticed"
