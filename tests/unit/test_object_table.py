"""The table of objects as Parquet, CSV and AnnData."""

import json

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from made_objects import label
from slideunet import object_table as table
from slideunet.columns import object_columns
from slideunet.labels import Rules
from slideunet.measure import measure_objects
from slideunet.signals import Sources

IMAGE = np.random.default_rng(0).integers(0, 256, (3, 60, 70), dtype=np.uint8)
CLASSES = (np.random.default_rng(1).random((60, 70)) > 0.75).astype(np.uint8)
COLUMNS = object_columns(["Red", "Green", "Blue"], stains=True, probabilities=True)


def batches(block_px: int, found: np.ndarray | None = None, mpp_um=(0.5, 0.25)):
    instances, labels = label(CLASSES if found is None else found, Rules(4))
    sources = Sources(IMAGE, ("Red", "Green", "Blue"), True, probabilities=IMAGE)
    return measure_objects(
        labels, instances.last_row, instances.class_of, sources=sources, block_px=block_px,
        mpp_um=mpp_um, class_names=["background", "=nucleus()"],
    )  # fmt: skip


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(table, "ROW_GROUP", 30)


def test_bytes_do_not_depend_on_block_size(tmp_path, small_groups):
    stored = []
    for block_px in (9, 1000):
        rows = table.write_table(
            batches(block_px), COLUMNS, tmp_path / "o.parquet", csv=tmp_path / "o.csv"
        )
        table.write_anndata(tmp_path / "o.parquet", tmp_path / "o.h5ad")
        stored.append([(tmp_path / name).read_bytes() for name in ("o.parquet", "o.csv", "o.h5ad")])
    assert rows > 60 and stored[0] == stored[1]
    file = pq.ParquetFile(tmp_path / "o.parquet")
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    assert sizes[:-1] == [30] * (len(sizes) - 1) and sum(sizes) == rows


def test_no_more_than_a_group_is_held(small_groups):
    groups = [len(group["id"]) for group in table._row_groups(batches(9), COLUMNS)]
    assert groups[:-1] == [30] * (len(groups) - 1) and 0 < groups[-1] <= 30


def test_parquet_by_pyarrow_and_pandas(tmp_path):
    path = tmp_path / "o.parquet"
    rows = table.write_table(batches(16), COLUMNS, path, facts={"mpp_um": [0.5, 0.25]})
    schema = pq.read_schema(path)
    assert schema.names == [column.name for column in COLUMNS]
    for column in COLUMNS:
        about = schema.field(column.name).metadata
        assert about[b"unit"].decode() == column.unit
        assert about[b"description"].decode() == column.description
    assert json.loads(schema.metadata[b"unet-slides"]) == {"mpp_um": [0.5, 0.25]}
    frame = pd.read_parquet(path)
    (whole,) = batches(1000)
    assert len(frame) == rows == len(whole["id"])
    for name, values in whole.items():
        np.testing.assert_array_equal(frame[name].to_numpy(), values)
    assert frame["id"].dtype == np.uint32 and frame["touches_edge"].dtype == bool


def test_csv_says_the_same_and_runs_no_formula(tmp_path):
    table.write_table(batches(16), COLUMNS, tmp_path / "o.parquet", csv=tmp_path / "o.csv")
    frame = pd.read_parquet(tmp_path / "o.parquet")
    text = pd.read_csv(tmp_path / "o.csv", float_precision="round_trip")
    assert list(text.columns) == list(frame.columns)
    assert (frame["class_name"] == "=nucleus()").all()
    assert (text["class_name"] == "'=nucleus()").all()
    for name in ("id", "area_px", "orientation_rad", "haematoxylin_od_mean"):
        np.testing.assert_array_equal(text[name], frame[name])
    assert (frame["orientation_rad"] < 0).any()


def test_anndata_opens(tmp_path):
    for mpp_um, unit in (((0.5, 0.25), "um"), (None, "px")):
        table.write_table(batches(16, mpp_um=mpp_um), COLUMNS, tmp_path / "o.parquet")
        table.write_anndata(tmp_path / "o.parquet", tmp_path / "o.h5ad")
        data = anndata.read_h5ad(tmp_path / "o.h5ad")
        frame = pd.read_parquet(tmp_path / "o.parquet")
        assert data.uns["spatial_unit"] == unit
        x, y = data.obsm["spatial"].T
        np.testing.assert_array_equal(x, frame[f"centroid_x_{unit}"])
        np.testing.assert_array_equal(y, frame[f"centroid_y_{unit}"])
        assert data.obs_names.tolist() == frame["id"].astype(str).tolist()
        np.testing.assert_array_equal(data[:, "area_px"].X[:, 0], frame["area_px"])
        assert data.var.loc["area_um2", "unit"] == "um2"


def test_anndata_made_in_memory_has_the_bytes_of_the_librarys_own(tmp_path, monkeypatch):
    seen = []
    hdf5 = table._hdf5
    monkeypatch.setattr(table, "_hdf5", lambda data: seen.append(data) or hdf5(data))
    table.write_table(batches(16), COLUMNS, tmp_path / "o.parquet")
    table.write_anndata(tmp_path / "o.parquet", tmp_path / "o.h5ad")
    seen[0].write_h5ad(tmp_path / "own.h5ad", compression="gzip")
    assert (tmp_path / "o.h5ad").read_bytes() == (tmp_path / "own.h5ad").read_bytes()


def test_empty_slide_gives_valid_files(tmp_path):
    names = [tmp_path / f"e.{kind}" for kind in ("parquet", "csv", "h5ad")]
    none = batches(16, np.zeros((60, 70), np.uint8))
    assert table.write_table(none, COLUMNS, names[0], csv=names[1]) == 0
    table.write_anndata(names[0], names[2])
    wanted = [column.name for column in COLUMNS]
    for frame in (pd.read_parquet(names[0]), pd.read_csv(names[1])):
        assert len(frame) == 0 and list(frame.columns) == wanted
    assert pq.read_table(names[0]).schema.field("id").type == "uint32"
    assert anndata.read_h5ad(names[2]).n_obs == 0
