"""The OME-Zarr that inference writes: valid, readable by others, checksummed, its pyramid right."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml
import zarr
from memory_slide import noise, segment
from slideunet import ngff
from slideunet.geometry import level_shapes
from slideunet.shard_store import METADATA, NAME, ShardStore

SIZE = 150, 211


@pytest.fixture(scope="module", params=ngff.VERSIONS)
def written(request, tmp_path_factory) -> tuple[Path, str]:
    """A segmentation of each version of NGFF."""
    folder = tmp_path_factory.mktemp("ngff")
    segment(folder, noise(*SIZE), classes=3, settings={"ngff": request.param})
    return folder / NAME, request.param


def test_the_metadata_is_valid(written):
    import ome_zarr_models

    path, version = written
    image = ome_zarr_models.open_ome_zarr(zarr.open_group(str(path), mode="r"))
    label = ome_zarr_models.open_ome_zarr(zarr.open_group(str(path / "labels/classes"), mode="r"))
    assert (type(image).__name__, type(label).__name__) == ("Image", "ImageLabel")
    assert type(image).__module__.split(".")[1] == "v" + version.replace(".", "")


def test_another_reader_opens_it(written):
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    path, _ = written
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = list(Reader(parse_url(str(path)))())
    image = nodes[0]
    assert image.data[0].shape == (3, *SIZE)
    assert image.metadata["channel_names"] == ["background", "nucleus", "mitosis"]
    assert np.array_equal(image.data[0].compute(), zarr.open(str(path), mode="r")["0"][...])
    labels = [node for node in nodes if node.zarr.basename() == "classes"]
    assert labels and labels[0].data[0].shape == SIZE


def test_sizes_are_physical(written):
    path, _ = written
    attributes = zarr.open_group(str(path), mode="r").attrs.asdict()
    (scales,) = attributes.get("ome", attributes)["multiscales"]
    assert [axis.get("unit") for axis in scales["axes"]] == [None, "micrometer", "micrometer"]
    for level, dataset in enumerate(scales["datasets"]):
        scale, shift = dataset["coordinateTransformations"]
        assert scale["scale"] == [1, 0.5 * 2**level, 0.25 * 2**level]
        # the first pixel's centre: the mean of the centres of the pixels it covers
        covered = np.arange(2**level).mean()
        assert shift["translation"] == [0, 0.5 * covered, 0.25 * covered]


def test_an_unknown_pixel_size_has_no_unit(tmp_path):
    segment(tmp_path, noise(20, 20), pixel_um=None)
    attributes = json.loads((tmp_path / NAME / "zarr.json").read_text())["attributes"]["ome"]
    assert not any("unit" in axis for axis in attributes["multiscales"][0]["axes"])
    transforms = attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert transforms[0]["scale"] == [1, 1, 1]


def test_the_pyramid_is_made_from_level_0(written):
    group = zarr.open_group(str(written[0]), mode="r")
    shapes = level_shapes(*SIZE, 32)
    probabilities, classes = group["0"][...], group["labels/classes/0"][...]
    for level, shape in enumerate(shapes[1:], 1):
        probabilities = brute_force(probabilities, mean_of)
        classes = brute_force(classes[None], mode_of)[0]
        assert classes.shape == shape
        assert np.array_equal(group[str(level)][...], probabilities)
        assert np.array_equal(group[f"labels/classes/{level}"][...], classes)
    assert str(len(shapes)) not in group


def brute_force(values: np.ndarray, of) -> np.ndarray:
    channels, height, width = values.shape
    made = np.zeros((channels, (height + 1) // 2, (width + 1) // 2), np.uint8)
    for c, y, x in np.ndindex(made.shape):
        made[c, y, x] = of(values[c, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist())
    return made


def mean_of(values: list[int]) -> int:
    return int(sum(values) / len(values) + 0.5)


def mode_of(values: list[int]) -> int:
    return max(values, key=lambda value: (values.count(value), value))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 1), (6, 9), (33, 20)])
@pytest.mark.parametrize("values", [2, 3, 5])
def test_halves_at_odd_edges(shape, values):
    rng = np.random.default_rng(values)
    probabilities = rng.integers(0, 256, (2, *shape), dtype=np.uint8)
    assert np.array_equal(ngff.halve_mean(probabilities), brute_force(probabilities, mean_of))
    classes = rng.integers(0, values, shape, dtype=np.uint8)
    assert np.array_equal(ngff.halve_mode(classes), brute_force(classes[None], mode_of)[0])


def test_every_flipped_byte_of_a_chunk_is_noticed(written):
    path, version = written
    for name in ("0", "labels/classes/0", "1"):
        chunks = path / name / "c" if version == "0.5" else path / name
        file = next(p for p in sorted(chunks.rglob("*")) if p.is_file() and p.name.isdigit())
        content = file.read_bytes()
        rng = np.random.default_rng(0)
        for place in rng.integers(0, len(content), 40):
            damaged = bytearray(content)
            damaged[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            try:
                found = zarr.open(str(path), mode="r")[name][...]
            except Exception:
                continue
            finally:
                file.write_bytes(content)
            # What can be read after a flip must be right: zstd ignores a few bits of its header.
            assert np.array_equal(found, zarr.open(str(path), mode="r")[name][...]), (name, place)


@pytest.mark.parametrize("version", ngff.VERSIONS)
def test_ten_gigapixels_take_fewer_than_2000_files(project, tmp_path, version):
    """All arrays and levels together, with the shards of the default configuration."""
    sizes = yaml.safe_load((project / "config.yaml").read_text())["segment"]
    store = ShardStore(tmp_path, sizes["shard_px"], version)
    ngff.create_segmentation(
        store.path, classes=["background", "nucleus"], image_yx=(100_000, 100_000), pixel_um=None,
        shard_px=sizes["shard_px"], chunk_px=sizes["chunk_px"], version=version,
    )  # fmt: skip
    files = sum(path.is_file() for path in store.path.rglob("*"))
    assert files > 20, "metadata"
    for level in range(len(store.arrays)):
        files += sum(len(store.files(shard)) for shard in store.shards(level))
    assert 1600 < files < 2000


def test_each_shard_is_the_files_that_the_store_counts(written):
    path, version = written
    store = ShardStore(path.parent, 64, version)
    expected = {
        name
        for level in range(len(store.arrays))
        for shard in store.shards(level)
        for name in store.files(shard)
    }
    found = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()}
    assert {name for name in found if Path(name).name not in METADATA} == expected


def test_colours_and_names_of_classes():
    classes = ["background", *(f"class {n}" for n in range(1, 12))]
    label = ngff.image_label(classes)
    assert label["properties"][3] == {"label-value": 3, "class": "class 3"}
    assert label["properties"][-1] == {"label-value": 255, "class": "unreadable"}
    assert label["colors"][0]["rgba"][3] == 0
    assert len({tuple(c["rgba"]) for c in label["colors"][1:8]}) == 7
    channels = ngff.omero_channels(classes)
    assert [c["label"] for c in channels] == classes
    assert [c["active"] for c in channels] == [False] + [True] * 11
