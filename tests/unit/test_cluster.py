"""The same graph on dask.distributed, two processes: the same bytes, the same failures."""

import json
from pathlib import Path

import pytest
from memory_slide import digest, noise, segment
from slideunet.errors import UserError
from test_segment_stage import INDEX, index, run, write_model, write_slide


@pytest.fixture(scope="module")
def scheduler() -> str:
    """Address of a cluster of two processes of two threads each."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


def archive_here(bad: bool = False) -> dict:
    """A slide, indexed, and a model, in the current folder; their paths are relative."""
    write_slide(Path("slide.tif"), bad)
    index(slide="slide.tif", tissue=[], manifest="slide.json", settings=INDEX, code={})
    return {"slide": "slide.json", "models": [write_model(Path("main"))]}


def test_the_bytes_are_those_of_one_process(tmp_path, scheduler):
    pixels = noise(150, 210)
    here = segment(tmp_path / "here", pixels)
    there = segment(tmp_path / "there", pixels, scheduler=scheduler)
    assert here == there
    assert digest(tmp_path / "there") == digest(tmp_path / "here")


def test_the_stage_with_paths_that_only_mean_something_here(tmp_path, scheduler, monkeypatch):
    """Workers run in other folders than the job."""
    monkeypatch.chdir(tmp_path)
    archive = archive_here()
    here = run(Path("here"), archive)
    there = run(Path("there"), archive, scheduler=scheduler)
    assert there == here
    assert digest(tmp_path / "there") == digest(tmp_path / "here")
    timing = json.loads((tmp_path / "there" / "segmentation.timing.json").read_text())
    assert timing["devices"] == 2 and timing["compute_s"] > 0


def test_a_tile_that_does_not_decode_in_a_worker_fails_the_slide(
    tmp_path, scheduler, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    content = run(Path("fail"), archive_here(bad=True), scheduler=scheduler)
    assert content["status"] == "failed"
    assert content["failure"]["reason"].endswith("a tile does not decode; the log tells where")
    assert "the tile at y=0 x=0 of level 0 does not decode" in caplog.text


def test_no_scheduler_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("slideunet.schedule.CONNECT_S", 0.2)
    with pytest.raises(UserError, match=r"segment\.scheduler: tcp://127\.0\.0\.1:9: no dask"):
        segment(tmp_path, noise(40, 40), scheduler="tcp://127.0.0.1:9")
