"""Objects and pictures read slides in child processes: a decoder that crashes costs pixels."""

import numpy as np
import slidefiles
from slideunet.readers.open import open_slide
from slideunet.slide_array import open_array


def test_the_pixels_are_those_of_the_slide(tmp_path):
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, slidefiles.picture(300, 400), tile=64)
    with open_array({"path": str(path)}, (1.0, 1.0), children=2) as image:
        assert image.shape == (3, 300, 400)
        found = image[1:, 20:120, 50:300]
    with open_slide(path) as reader:
        np.testing.assert_array_equal(found, reader.read(0, 20, 50, 100, 250)[1:])


def test_a_decoder_that_crashes_takes_no_job_along(tmp_path, monkeypatch):
    """Every reader crashes at rows from 100 on, the one in this process too."""
    path = tmp_path / "a.svs"
    slidefiles.write_svs(path, slidefiles.picture(300, 400), tile=64)
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nimport slideunet.readers.base as base\nread = base.SlideReader.read\n"
        "def hook(self, level, y, *rest):\n"
        "    if y >= 100:\n        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return read(self, level, y, *rest)\nbase.SlideReader.read = hook\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with open_array({"path": str(path)}, (1.0, 1.0)) as image:
        assert (image[:, 120:150, 0:64] == 255).all(), "masked"
        assert image[:, 0:50, 0:64].min() < 255
