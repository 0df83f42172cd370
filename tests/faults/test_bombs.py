"""Slides that are small on the disk and endless to decode: what the limits are for."""

import io
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image
from slideunet.manifest import read_manifest
from slideunet.stages.index import index
from test_bad_slides import MEMORY_MB, SECONDS
from test_segment_stage import INDEX

SIDE_PX, INFLATED_MB = 4096, 1500
# CPU time that the bomb of time takes where nothing stops it; one scan takes 11 ms or far less.
BOMB_S = 2.5 * SECONDS
TRIED_SCANS = 50
AXES = [{"name": name, "type": "space"} for name in "yx"]


def write_bomb_of_memory(path: Path) -> None:
    """An OME-Zarr image, one chunk of which inflates to 1,500 MB of zeros."""
    group = zarr.open_group(str(path), mode="w", zarr_format=3)
    group.create_array("0", data=np.full((512, 512), 90, np.uint8), chunks=(256, 256))
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    dataset = {"path": "0", "coordinateTransformations": scale}
    group.attrs["ome"] = {
        "version": "0.5", "multiscales": [{"axes": AXES, "datasets": [dataset]}]
    }  # fmt: skip
    chunk = path / "0" / "c" / "0" / "0"
    assert chunk.exists()
    chunk.write_bytes(imagecodecs.zstd_encode(bytes(INFLATED_MB << 20)))


def progressive(scans: int) -> bytes:
    """A progressive JPEG whose last scan comes so many times more."""
    stream = io.BytesIO()
    Image.new("L", (SIDE_PX, SIDE_PX), 90).save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * scans + data[end:]


def decode_s(scans: int) -> float:
    """CPU time of decoding it, at this machine's best: others may use its cores meanwhile."""
    data, times = progressive(scans), []
    for _ in range(3):
        begin = time.process_time()
        imagecodecs.jpeg8_decode(data)
        times.append(time.process_time() - begin)
    return min(times)


def write_bomb_of_time(path: Path) -> None:
    """A TIFF file of one JPEG tile with as many scans as this machine decodes in BOMB_S."""
    scan_s = (decode_s(TRIED_SCANS) - decode_s(0)) / TRIED_SCANS
    scans = round(BOMB_S / scan_s)
    print(f"{scans} scans of {1000 * scan_s:.2f} ms")
    tifffile.imwrite(
        path, iter([progressive(scans)]), shape=(SIDE_PX, SIDE_PX), dtype=np.uint8,
        tile=(SIDE_PX, SIDE_PX), compression="jpeg",
    )  # fmt: skip
    assert path.stat().st_size < 3e6  # a scan has 33 bytes


def indexed(path: Path, write, mem_mb: int, seconds: int) -> tuple[dict, float, float]:
    """The manifest of a bomb, CPU seconds and peak MB; to be called in a fresh process."""
    write(path)
    manifest = path.parent / "slide.json"
    settings = {**INDEX, "index": {**INDEX["index"], "mem_mb": mem_mb, "seconds": seconds}}
    index(slide=str(path), tissue=[], manifest=str(manifest), settings=settings, code={})
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return read_manifest(manifest), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def in_fresh_process(*arguments) -> tuple[dict, float, float]:
    """`indexed`, so that its children are all that is measured."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(indexed, *arguments).result()


def test_a_slide_that_takes_much_memory_is_one_line(tmp_path):
    path = tmp_path / "slide.ome.zarr"
    content, cpu_s, peak_mb = in_fresh_process(path, write_bomb_of_memory, MEMORY_MB, 100)
    reason = f"{path}: needs more than {MEMORY_MB} MB to be indexed (index.mem_mb)"
    assert content["failure"]["reason"] == reason
    assert cpu_s < SECONDS and peak_mb < MEMORY_MB


def test_without_the_limit_it_takes_more(tmp_path):
    """The mutation check."""
    path = tmp_path / "slide.ome.zarr"
    _, _, peak_mb = in_fresh_process(path, write_bomb_of_memory, 64_000, 100)
    assert peak_mb > MEMORY_MB


def test_a_slide_that_takes_long_is_one_line(tmp_path):
    path = tmp_path / "slide.tif"
    content, cpu_s, peak_mb = in_fresh_process(path, write_bomb_of_time, MEMORY_MB, 2)
    assert content["failure"]["reason"].startswith(f"{path}: ")
    assert "index.seconds" in content["failure"]["reason"]
    assert cpu_s < SECONDS and peak_mb < MEMORY_MB


@pytest.mark.faults
def test_without_the_limit_it_takes_longer(tmp_path):
    """The mutation check."""
    _, cpu_s, _ = in_fresh_process(tmp_path / "slide.tif", write_bomb_of_time, MEMORY_MB, 600)
    assert cpu_s > SECONDS
