"""Viewers of others read the results: napari-ome-zarr and Viv (`make test-viewers` has both)."""

import base64
import io
import subprocess
import sys
import time

import browser
import numpy as np
import pytest
import zarr
from PIL import Image

MPP_UM = 0.5
ORANGE_RGB = [213, 94, 0]


@pytest.fixture
def slide(finished):
    return finished / "results" / "slides" / "one"


def layers(store):
    """What napari-ome-zarr makes of a store: type, name, levels (Y, X), what napari is told."""
    napari_ome_zarr = pytest.importorskip("napari_ome_zarr", reason="make test-viewers installs it")
    found = napari_ome_zarr.napari_get_reader(str(store))(str(store))
    return [(kind, told, [np.asarray(level) for level in data]) for data, told, kind in found]


def test_napari_shows_probabilities_and_classes(slide):
    image, classes = layers(slide / "segmentation.ome.zarr")
    stored = zarr.open_group(slide / "segmentation.ome.zarr", mode="r")
    for (kind, told, levels), wanted, group in (
        (image, "image", stored),
        (classes, "labels", stored["labels/classes"]),
    ):
        assert kind == wanted
        assert told["units"] == ("micrometer", "micrometer")
        assert told["scale"] == [MPP_UM, MPP_UM]
        assert len(levels) == len(group.attrs["ome"]["multiscales"][0]["datasets"])
        for number, level in enumerate(levels):
            assert np.array_equal(level, group[str(number)][...])
    assert image[1]["name"] == ["probabilities: background", "probabilities: nucleus"]
    assert image[1]["visible"] == [False, True]
    assert classes[1]["properties"]["class"][:2] == ["background", "nucleus"]


def test_napari_shows_objects_as_labels(slide):
    ((kind, told, levels),) = layers(slide / "objects.ome.zarr")
    assert kind == "labels"
    assert told["scale"] == [MPP_UM, MPP_UM]
    stored = zarr.open_array(slide / "objects.ome.zarr" / "0", mode="r")[...]
    assert stored.max() > 5
    assert np.array_equal(levels[0], stored)


@pytest.fixture(scope="module")
def page(project, tmp_path_factory):
    """Viv's page, bundled; read from its file, so that the store is of another origin."""
    source = project / "tests" / "viewers"
    if not (source / "node_modules" / "@vivjs").is_dir():
        pytest.skip("Viv is not in tests/viewers: make test-viewers fetches it by npm")
    folder = tmp_path_factory.mktemp("viv")
    command = [source / "node_modules" / ".bin" / "esbuild", source / "page.js", "--bundle"]
    subprocess.run([*command, f"--outfile={folder / 'page.js'}", "--log-level=error"], check=True)
    text = "<!doctype html><meta charset=utf-8><body style='background:black'><div id=root></div>"
    (folder / "index.html").write_text(text + "<script src=page.js></script>")
    return (folder / "index.html").as_uri()


@pytest.fixture(scope="module")
def served(project, finished):
    """The address of the results while `make view SLIDE=one` runs."""
    if not (project / "viewer" / "node_modules" / "openseadragon").is_dir():
        pytest.skip("OpenSeadragon is not in viewer/: `make view` fetches it by npm")
    command = [sys.executable, project / "workflow" / "view.py", "one", "--port", "0"]
    with subprocess.Popen(
        [*command, "--configfile", "small.yaml"], cwd=finished, stdout=subprocess.PIPE, text=True
    ) as server:
        yield server.stdout.readline().split()[0] + "results/slides/one/"
        server.terminate()


@pytest.mark.skipif(browser.program() is None, reason="no Chromium on this machine")
def test_viv_shows_the_probability_of_a_class(slide, page, served):
    stored = zarr.open_group(slide / "segmentation.ome.zarr", mode="r")
    levels = [stored[str(number)][1] for number in range(3)]
    with browser.Browser(webgl=True) as window:
        window.open(f"{page}?source={served}segmentation.ome.zarr&channel=1")
        told = None
        for _ in range(300):
            if told := window.value("window.told"):
                break
            time.sleep(0.1)
        assert told == {
            "axes": ["c", "y", "x"],
            "sums": [int(level.sum(dtype=int)) for level in levels],
            "shapes": [list(level.shape) for level in levels],
            "scales": [[1, MPP_UM * 2**number, MPP_UM * 2**number] for number in range(3)],
        }
        share = 0.0
        for _ in range(100):
            share = orange_share(window)
            if share > 0.01:
                break
            time.sleep(0.1)
        assert share > 0.01, "the nuclei are drawn"


def orange_share(window):
    """Of the window's pixels, those in the colour of the class."""
    shot = base64.b64decode(window.tell("Page.captureScreenshot")["data"])
    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    return float((np.abs(pixels - ORANGE_RGB).max(axis=2) < 16).mean())
