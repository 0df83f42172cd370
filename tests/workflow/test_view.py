"""`make view`: tiles without seams, a server that keeps to itself, a page that shows the slide."""

import base64
import http.client
import io
import json
import subprocess
import sys
import time

import browser
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from skimage.segmentation import find_boundaries
from slideunet import viewer_tiles
from slideunet.errors import UserError
from slideunet.viewer_tiles import OUTLINE_RGB, SlideTiles


@pytest.fixture
def tiles(finished, monkeypatch):
    """Of 128 px, so that the slide of 300 x 421 px has several."""
    monkeypatch.chdir(finished)
    monkeypatch.setattr(viewer_tiles, "TILE_PX", 128)
    tiles = SlideTiles(finished / "results" / "slides" / "one")
    yield tiles
    tiles.close()


def whole(tiles, layer, level):
    """All tiles of a level side by side."""
    height, width = tiles.shapes[level]
    rows = []
    for row in range(-(-height // 128)):
        line = [tiles.tile(layer, level, row, column) for column in range(-(-width // 128))]
        rows.append(np.hstack([np.asarray(Image.open(io.BytesIO(tile))) for tile in line]))
    return np.vstack(rows)


def test_tiles_have_no_seams(finished, tiles):
    assert tiles.shapes == [(300, 421), (150, 211), (75, 106)]
    folder = finished / "results" / "slides" / "one"
    labels = zarr.open_array(folder / "objects.ome.zarr" / "0", mode="r")[...]
    for level in range(3):
        drawn = whole(tiles, "objects", level)
        step = 2**level
        outlines = find_boundaries(labels[::step, ::step], mode="inner")
        assert np.array_equal(drawn[..., 3] > 0, outlines)
        assert (drawn[outlines][:, :3] == OUTLINE_RGB).all()


def test_the_slide_lies_under_its_objects(finished, tiles):
    image = tifffile.imread(finished / "raw" / "one.ome.tif").astype(float)
    for level in range(3):
        step = 2**level
        grey = whole(tiles, "slide", level).astype(float).mean(axis=2)
        padded = np.pad(image, [(0, -size % step) for size in image.shape], mode="edge")
        shape = padded.shape[0] // step, step, padded.shape[1] // step, step
        shrunk = padded.reshape(shape).mean(axis=(1, 3))
        assert grey.shape == shrunk.shape
        assert np.corrcoef(grey.ravel(), shrunk.ravel())[0, 1] > 0.99


def test_the_probability_is_seen(finished, tiles):
    folder = finished / "results" / "slides" / "one" / "segmentation.ome.zarr"
    nucleus = zarr.open_array(folder / "0", mode="r")[1].astype(int)
    drawn = whole(tiles, "probability", 0)
    assert np.array_equal(drawn[..., 3], nucleus * viewer_tiles.PROBABILITY_ALPHA // 255)


@pytest.mark.parametrize("wanted", [("slide", 3, 0, 0), ("objects", 0, 3, 0), ("objects", 0, 0, 4)])
def test_there_are_no_other_tiles(tiles, wanted):
    with pytest.raises(KeyError):
        tiles.tile(*wanted)


def test_a_slide_that_failed_says_why(finished_project):
    (finished_project.folder / "raw" / "one.ome.tif").write_bytes(b"no slide")
    finished_project.snakemake("results/slides/one/slide.json", check=False)
    with pytest.raises(UserError, match="failed earlier: .*no format that is known here"):
        SlideTiles(finished_project.folder / "results" / "slides" / "one")


@pytest.fixture(scope="module")
def viewer(project):
    """The folder with OpenSeadragon in it, which `make test` fetches."""
    if not (project / "viewer" / "node_modules" / "openseadragon").is_dir():
        pytest.skip("OpenSeadragon is not in viewer/: `make view` fetches it by npm")
    return project / "viewer"


@pytest.fixture(scope="module")
def port(project, finished, viewer):
    """`make view SLIDE=one` runs; the port of its server."""
    command = [sys.executable, project / "workflow" / "view.py", "one", "--port", "0"]
    with subprocess.Popen(
        [*command, "--configfile", "small.yaml"], cwd=finished, stdout=subprocess.PIPE, text=True
    ) as server:
        address = server.stdout.readline().split()[0]
        yield int(address.rstrip("/").rpartition(":")[2])
        server.terminate()


def ask(port, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(
        method, path, headers={key.replace("_", "-"): headers[key] for key in headers}
    )
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer, content


def test_results_are_served_to_other_viewers(finished, port):
    path = "/results/slides/one/objects.ome.zarr/0/c/0/0"
    file = (finished / path[1:]).read_bytes()
    answer, content = ask(port, path, Range="bytes=-100", Origin="https://example.org")
    assert (answer.status, content) == (206, file[-100:])
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    answer, _ = ask(port, path, "OPTIONS", Origin="https://example.org")
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Headers"] == "Range"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/results/../small.yaml", {}, 403),
        ("/results/%2e%2e/small.yaml", {}, 403),
        ("/results/none", {}, 404),
        ("/package.json", {}, 404),
        ("/tiles/slide/9/0_0", {}, 404),
        ("/results/archive.tsv", {"Host": "example.org"}, 403),
        ("/slide.json", {"Host": "example.org"}, 403),
    ],
)
def test_nothing_else_is_served(port, path, headers, status):
    answer, content = ask(port, path, **headers)
    assert answer.status == status
    assert b"nucleus" not in content


@pytest.mark.skipif(browser.program() is None, reason="no Chromium on this machine")
def test_the_page_shows_the_slide(finished, port):
    with browser.Browser() as page:
        page.open(f"http://localhost:{port}/")
        loaded = "window.viewer?.world?.getItemCount() === 3 && [0, 2].every("
        loaded += "i => viewer.world.getItemAt(i).getFullyLoaded())"
        for _ in range(300):
            if page.value(loaded):
                break
            time.sleep(0.1)
        assert page.value("document.title") == "one"
        with_outlines = yellow(page)
        page.value("document.getElementById('objects').click()")
        for _ in range(100):
            without = yellow(page)
            if not without:
                break
            time.sleep(0.1)
        assert (with_outlines > 1000, without) == (True, 0)
        page.value("document.getElementById('probability').click()")
        for _ in range(100):
            nuclei, background = colours(page, finished)
            if nuclei[0] - nuclei[2] > 100:
                break
            time.sleep(0.1)
        # orange over white; the background, where the probability is low, stays black
        assert nuclei[0] - nuclei[2] > 100
        assert background[0] < 60
        assert page.complaints() == []
        assert all(address.startswith(f"http://localhost:{port}/") for address in page.requested())


def window(page):
    shot = page.tell("Page.captureScreenshot")["data"]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB")).astype(int)


def yellow(page):
    """Pixels of the outlines' colour in the window; the slide is grey."""
    return int((np.abs(window(page) - OUTLINE_RGB).max(axis=2) < 8).sum())


def colours(page, finished):
    """Median colour of the nuclei and of the background in the window."""
    corners = "[[0, 0], [421, 300]].map(([x, y]) => viewer.world.getItemAt(0)."
    corners += "imageToWindowCoordinates(new OpenSeadragon.Point(x, y))).map(p => [p.y, p.x])"
    (top, left), (bottom, right) = np.round(page.value(corners)).astype(int)
    shown = window(page)[top:bottom, left:right]
    label = tifffile.imread(finished / "raw" / "one_label.tif") > 0
    rows, columns = (
        np.arange(n) * size // n for n, size in zip(shown.shape, label.shape, strict=False)
    )
    label = label[np.ix_(rows, columns)]
    return np.median(shown[label], axis=0), np.median(shown[~label], axis=0)


def test_mistakes_are_one_line(project, finished, viewer):
    for arguments, line in [
        (["tow"], "results/slides: no slide 'tow': there are one"),
        (["on"], "results/slides: no slide 'on': did you mean 'one'?"),
        ([], "results/slides: no slide '': there are one"),
        (["one", "--configfile", "none.yaml"], "none.yaml: No such file or directory"),
    ]:
        command = [sys.executable, project / "workflow" / "view.py", *arguments]
        done = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(line)
        assert done.stderr.count("\n") == 1
    assert json.loads((viewer / "package-lock.json").read_text())["lockfileVersion"] == 3
