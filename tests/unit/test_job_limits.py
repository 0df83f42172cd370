"""What a slide's job asks for grows with its pixels and with each attempt."""

import json

import pytest
from slideunet.job_limits import index_minutes, minutes, objects_mb, pixels_of


def test_pixels_of_a_manifest(tmp_path):
    path = tmp_path / "slide.json"
    with pytest.raises(FileNotFoundError):
        pixels_of(str(path))
    path.write_text(json.dumps({"status": "done", "facts": {"height": 30, "width": 20}}))
    assert pixels_of(str(path)) == 600
    failed = tmp_path / "failed.json"
    failed.write_text(json.dumps({"status": "failed", "failure": {}}))
    assert pixels_of(str(failed)) == 0


def test_time_and_memory_grow_with_pixels_and_attempt():
    assert minutes(0, 1e6, 30, 1) == 30
    assert minutes(600_000_000, 1e6, 30, 1) == 40
    assert minutes(600_000_000, 1e6, 30, 2) == 80
    assert objects_mb(0, 1) == 2000
    assert objects_mb(10_000_000_000, 1) == 6000
    assert objects_mb(10_000_000_000, 2) == 12000


def test_the_time_to_index_grows_with_the_file():
    """A terabyte is read in 14 hours at 20 MB/s; a copy takes twice as long again."""
    assert index_minutes(100_000_000, copy=False) == 30
    assert index_minutes(10**12, copy=False) == 30 + 833
    assert index_minutes(10**12, copy=True) == 30 + 2500
