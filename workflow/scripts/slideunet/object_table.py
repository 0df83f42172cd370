"""The table of objects on disk: Parquet (streamed), CSV (streamed) and AnnData."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from slideunet.cells import harmless
from slideunet.columns import Column, empty_values

# Rows of a row group, whatever the batches' sizes: the file's bytes don't depend on block size.
# 32,768 rows of 40 columns are 10 MB.
ROW_GROUP = 32768


def write_table(
    batches: Iterable[dict[str, np.ndarray]],
    columns: list[Column],
    parquet,
    *,
    csv=None,
    facts: dict | None = None,
) -> int:
    """Write batches (as `measure_objects` yields them) to `parquet` and, if given, to `csv`.

    Each field's metadata hold its unit and description; `facts` (JSON values) go to the file's
    metadata under "unet-slides". No batches: a valid empty table. Returns the number of rows.
    """
    from pyarrow.csv import CSVWriter
    from pyarrow.parquet import ParquetWriter

    groups = _row_groups(batches, columns)
    first = next(groups, {column.name: empty_values(column) for column in columns})
    schema = _schema(columns, first["id"].dtype, facts or {})
    rows = 0
    texts = CSVWriter(csv, schema) if csv is not None else None
    with ParquetWriter(parquet, schema, compression="zstd") as tables:
        for group in chain([first], groups):
            tables.write_batch(_record_batch(group, schema), row_group_size=ROW_GROUP)
            if texts is not None:
                texts.write_batch(_record_batch(_harmless(group, columns), schema))
            rows += len(group["id"])
    if texts is not None:
        texts.close()
    return rows


def _row_groups(batches, columns: list[Column]) -> Iterator[dict[str, np.ndarray]]:
    """The same rows in groups of ROW_GROUP."""
    held: list[dict] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch["id"])
        while count >= ROW_GROUP:
            joined = {c.name: np.concatenate([part[c.name] for part in held]) for c in columns}
            yield {name: values[:ROW_GROUP] for name, values in joined.items()}
            held = [{name: values[ROW_GROUP:] for name, values in joined.items()}]
            count -= ROW_GROUP
    if count:
        yield {c.name: np.concatenate([part[c.name] for part in held]) for c in columns}


def _schema(columns: list[Column], id_type: np.dtype, facts: dict):
    import pyarrow as pa

    fields = []
    for column in columns:
        kind = {"id": str(id_type)}.get(column.kind, column.kind)
        about = {"unit": column.unit, "description": column.description}
        fields.append(pa.field(column.name, pa.type_for_alias(kind), False, about))
    return pa.schema(fields, {"unet-slides": json.dumps(facts, sort_keys=True, allow_nan=False)})


def _record_batch(group: dict[str, np.ndarray], schema):
    import pyarrow as pa

    arrays = [pa.array(group[field.name], field.type) for field in schema]
    return pa.record_batch(arrays, schema=schema)


def _harmless(group: dict, columns: list[Column]) -> dict:
    """Text that a spreadsheet would run as a formula, with an apostrophe before it."""
    texts = {
        column.name: np.array([harmless(text) for text in group[column.name]], object)
        for column in columns
        if column.kind == "string"
    }
    return {**group, **texts}


def write_anndata(parquet, h5ad) -> None:
    """Turn a table of `write_table` into AnnData: objects x measurements.

    X: all measured numbers (float64), `var` their units and meanings, `obs` id and class, positions
    (x, y) in obsm["spatial"], in um where the pixel size is known, else in px (uns
    ["spatial_unit"]). AnnData is held in memory as a whole, unlike the other formats.
    """
    import pandas as pd
    from anndata import AnnData
    from pyarrow.parquet import read_table

    table = read_table(parquet)
    about = {field.name: field.metadata for field in table.schema}
    frame = table.to_pandas()
    in_obs = ["id", "class", "class_name", "touches_edge"]
    measured = [name for name in frame.columns if name not in in_obs]
    obs = frame[in_obs].astype({"class_name": "category"})
    obs.index = pd.Index(frame["id"].astype(str).to_numpy())
    var = pd.DataFrame(
        {key: [about[name][key.encode()].decode() for name in measured]
         for key in ("unit", "description")},
        index=pd.Index(measured),
    )  # fmt: skip
    unit = "px" if frame["centroid_x_um"].isna().any() else "um"
    spatial = frame[[f"centroid_x_{unit}", f"centroid_y_{unit}"]].to_numpy()
    data = AnnData(
        frame[measured].to_numpy(np.float64), obs, var, uns={"spatial_unit": unit},
        obsm={"spatial": spatial},
    )  # fmt: skip
    data.strings_to_categoricals()
    Path(h5ad).write_bytes(_hdf5(data))


def _hdf5(data) -> bytes:
    """The bytes that AnnData.write_h5ad writes, made in memory.

    HDF5 that runs out of room leaves objects that can't be closed, each with a traceback.
    """
    import h5py
    from anndata.io import write_elem

    options = {"compression": "gzip"}
    with h5py.File("memory", "w", driver="core", backing_store=False) as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        for name in ("X", "obs", "var"):
            write_elem(file, name, getattr(data, name), dataset_kwargs=options)
        for name in ("obsm", "varm", "obsp", "varp", "layers", "uns"):
            write_elem(file, name, dict(getattr(data, name)), dataset_kwargs=options)
        file.flush()
        return file.id.get_file_image()
