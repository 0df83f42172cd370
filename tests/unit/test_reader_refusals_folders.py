"""OME-Zarr, MIRAX and DICOM that are no slide, or hostile ones: refused in one line."""

import json

import pytest
import slidefiles
import slideformats
from slidefiles import refusal

RGB = slidefiles.picture(200, 300)


def zarr_store(tmp_path, version="0.5"):
    path = tmp_path / "store"
    slideformats.write_omezarr(path, slidefiles.channels_first(RGB), version=version)
    return path


def change(file, function):
    content = json.loads(file.read_text())
    function(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("where", ["../outside", "/etc", "0/../../x", "", "a//b"])
def test_zarr_levels_outside_the_store(tmp_path, where):
    path = zarr_store(tmp_path)

    def move(content):
        content["attributes"]["ome"]["multiscales"][0]["datasets"][0]["path"] = where

    change(path / "zarr.json", move)
    assert "store" in refusal(path)


def test_zarr_with_codecs_that_run_code(tmp_path):
    path = zarr_store(tmp_path, "0.4")
    change(path / "0/.zarray", lambda c: c.update(filters=[{"id": "pickle"}]))
    assert "are not for pictures" in refusal(path)
    change(path / "0/.zarray", lambda c: c.update(filters=None, dtype="|O"))
    assert "not numbers" in refusal(path)
    path = zarr_store(tmp_path / "new")
    change(path / "0/zarr.json", lambda c: c.update(codecs=[{"name": "numcodecs.pickle"}]))
    assert "are not for pictures" in refusal(path)


def test_zarr_with_absurd_shapes(tmp_path):
    path = zarr_store(tmp_path, "0.4")
    change(path / "0/.zarray", lambda c: c.update(chunks=[3, 10**6, 10**6]))
    assert "too large" in refusal(path)
    change(
        path / "0/.zarray", lambda c: c.update(chunks=[1, 64, 64], shape=[3, 2 * 10**6, 3 * 10**6])
    )
    assert "claims" in refusal(path)
    change(path / "0/.zarray", lambda c: c.update(shape=[3, -5, 300]))
    assert "shape" in refusal(path)


def test_zarr_that_is_linked_elsewhere(tmp_path):
    path = zarr_store(tmp_path, "0.4")
    (path / "1").rename(tmp_path / "elsewhere")
    (path / "1").symlink_to(tmp_path / "elsewhere")
    assert "outside" in refusal(path)


def test_zarr_that_is_no_slide(tmp_path):
    path = zarr_store(tmp_path, "0.4")
    change(path / ".zattrs", lambda c: c.update({"image-label": {}}))
    assert "label image" in refusal(path)
    change(path / ".zattrs", lambda c: (c.pop("image-label"), c.pop("multiscales")))
    assert "metadata" in refusal(path)


def test_zarr_with_a_damaged_chunk(tmp_path):
    path = zarr_store(tmp_path)
    chunk = next(file for file in sorted((path / "0/c").rglob("*")) if file.is_file())
    data = bytearray(chunk.read_bytes())
    data[40] ^= 255
    chunk.write_bytes(data)
    assert "does not decode" in refusal(path)


def test_mirax_index_that_names_files_elsewhere(tmp_path):
    slideformats.write_mrxs(tmp_path / "a.mrxs", slidefiles.picture(256, 256))
    index = tmp_path / "a/Slidedat.ini"
    index.write_text(index.read_text().replace("=Data0000.dat", "=../../etc/passwd"))
    assert "elsewhere" in refusal(tmp_path / "a.mrxs")
    index.unlink()
    assert "missing" in refusal(tmp_path / "a.mrxs")


def test_dicom_that_is_damaged_or_no_slide(tmp_path):
    slideformats.write_dicom(tmp_path / "a.dcm", RGB)
    data = (tmp_path / "a.dcm").read_bytes()
    (tmp_path / "a.dcm").write_bytes(data[: len(data) // 2])
    refusal(tmp_path / "a.dcm")
    (tmp_path / "a.dcm").write_bytes(data.replace(b".77.1.6", b".77.1.4"))
    assert "not of a whole slide" in refusal(tmp_path / "a.dcm")
