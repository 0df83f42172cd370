"""Objects and pictures read slides in child processes: what was segmented, or no answer."""

import numpy as np
import pytest
import slidefiles
from slideunet import slide_array
from slideunet.errors import SlideError
from slideunet.readers.open import open_slide
from slideunet.slide_array import open_array


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, slidefiles.picture(300, 400), tile=64)
    return {"path": str(path), "mpp_um": None, "index_mb": 2000}


def opened(slide, rows_segmented=300, masked_px=0, children=1):
    """open_array of a slide whose first rows were segmented."""
    probabilities = np.zeros((2, 300, 400), np.uint8)
    probabilities[:, :rows_segmented] = 127
    segmented = {"pixel_um": None, "masked_px": masked_px}
    return open_array(slide, segmented, probabilities, children)


@pytest.fixture
def crash(tmp_path, monkeypatch):
    """Every reader crashes at rows from 100 on, the one in this process too."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nimport slideunet.readers.base as base\nread = base.SlideReader.read\n"
        "def hook(self, level, y, *rest):\n"
        "    if y >= 100:\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return read(self, level, y, *rest)\nbase.SlideReader.read = hook\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def test_the_pixels_are_those_of_the_slide(slide):
    with opened(slide, children=2) as image:
        assert image.shape == (3, 300, 400)
        found = image[1:, 20:120, 50:300]
    with open_slide(slide["path"]) as reader:
        np.testing.assert_array_equal(found, reader.read(0, 20, 50, 100, 250)[1:])


def test_what_was_segmented_and_does_not_decode_is_no_answer(slide, crash):
    with opened(slide, rows_segmented=130) as image:
        assert image[:, 0:50, 0:64].min() < 255
        for rows in (slice(120, 150), slice(110, 140)):  # the same words wherever it is met first
            with pytest.raises(SlideError) as caught:
                image[:, rows, 0:64]
            assert str(caught.value) == (
                f"{slide['path']}: pixels that were segmented do not decode any more; the log "
                "tells where"
            )
            (note,) = caught.value.__notes__
            assert f"30 x 64 px at y={rows.start} x=0" in note and "SIGSEGV" in note


@pytest.mark.parametrize("masked_px", [0, 1])
def test_what_was_not_segmented_may_be_unreadable(slide, crash, caplog, masked_px):
    with opened(slide, rows_segmented=120, masked_px=masked_px) as image:
        assert (image[:, 120:150, 0:64] == 255).all()
    assert caplog.text == ""


def test_beside_masked_tiles_the_log_tells_what_is_lost(slide, crash, caplog):
    with opened(slide, masked_px=1) as image:
        assert (image[:, 120:150, 0:64] == 255).all()
        assert image[:, 0:50, 0:64].min() < 255
    assert "a.svs: the 30 x 64 px at y=120 x=0, which were segmented, do not decode" in caplog.text
    assert caplog.text.count("do not decode") == 1


@pytest.mark.parametrize(("index_mb", "mem_mb"), [(200, 2000), (3000, 3000)])
def test_memory_is_that_of_indexing_where_this_was_more(slide, monkeypatch, index_mb, mem_mb):
    given = []
    real = slide_array.RemoteReader
    monkeypatch.setattr(
        slide_array, "RemoteReader", lambda *a, **limits: given.append(limits) or real(*a, **limits)
    )
    with opened({**slide, "index_mb": index_mb}):
        assert given[0]["mem_mb"] == mem_mb
