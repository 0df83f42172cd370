"""The experiments: configurations that are allowed, tables that are whole or can be made."""

import csv
import subprocess
import sys

import numpy as np
import pytest
import tifffile
import yaml
from slideunet import settings, tables
from slideunet.errors import UserError

EXPERIMENTS = "workflow/experiments"
NAMES = ["em", "ablations", "few_images", "recipes", "dic", "phc", "monuseg"]


def merged(default, change):
    """As Snakemake merges a --configfile."""
    if isinstance(default, dict) and isinstance(change, dict):
        return {k: merged(default.get(k), change.get(k, default.get(k))) for k in default | change}
    return change


def schema(project, name):
    return yaml.safe_load((project / f"workflow/schemas/{name}.schema.yaml").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_configuration_is_allowed(project, name):
    default = yaml.safe_load((project / "config.yaml").read_text())
    change = yaml.safe_load((project / EXPERIMENTS / f"{name}.yaml").read_text())
    config = merged(default, change)
    settings.check_config(config, schema(project, "config"))
    assert "main" not in config["models"] or name == "monuseg"


def test_unlabelled_sections_are_those_of_the_test_volume(project, monkeypatch, tmp_path):
    (tmp_path / "isbi2012").mkdir()
    (tmp_path / "isbi2012" / "test-volume.tif").touch()
    monkeypatch.setenv("UNET_SLIDES_DATA", str(tmp_path))
    rows = tables.read_training(
        str(project / EXPERIMENTS / "em_test.tsv"), schema(project, "unlabelled")
    )
    assert [row["page"] for row in rows.values()] == [str(page) for page in range(30)]


def test_nested_parts_hold_1_2_5_10_24_sections(project):
    with open(project / EXPERIMENTS / "em_few.tsv", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    parts = [row["split"] for row in rows]
    sizes = [sum(part in "abcde"[: n + 1] for part in parts) for n in range(5)]
    assert sizes == [1, 2, 5, 10, 24]
    assert [row["page"] for row in rows if row["split"] == "test"] == [
        "24",
        "25",
        "26",
        "27",
        "28",
        "29",
    ]


def run(project, *arguments):
    command = [sys.executable, str(project / EXPERIMENTS / "celltracking_table.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_table_of_a_cell_tracking_data_set(project, tmp_path):
    folder = tmp_path / "PhC-C2DH-U373"
    for sequence, frames in (("01", (4, 7)), ("02", (5,))):
        for name in (sequence, f"{sequence}_GT/SEG", f"{sequence}_ST/SEG"):
            (folder / name).mkdir(parents=True)
        for frame in range(9):
            tifffile.imwrite(folder / sequence / f"t{frame:03}.tif", np.zeros((9, 9), np.uint8))
        for frame in frames:
            gold = folder / f"{sequence}_GT/SEG" / f"man_seg{frame:03}.tif"
            tifffile.imwrite(gold, np.ones((9, 9), np.uint16))
    tifffile.imwrite(folder / "01_ST/SEG/man_seg004.tif", np.ones((9, 9), np.uint16))
    done = run(project, str(folder))
    table = tmp_path / "phc.tsv"
    table.write_text(done.stdout)
    rows = tables.read_training(str(table), schema(project, "training"), [])
    assert list(rows) == ["01-004", "01-007", "02-005"]
    assert rows["02-005"]["split"] == "02" and "silver" not in rows["02-005"]
    assert rows["01-004"]["silver"].endswith("01_ST/SEG/man_seg004.tif")
    (folder / "02" / "t005.tif").unlink()
    done = run(project, str(folder))
    assert done.returncode == 1 and "t005.tif is missing" in done.stderr
    done = run(project, str(tmp_path))
    assert done.returncode == 1 and "name the unpacked data set's folder" in done.stderr


def test_padded_networks_take_multiples_of_the_grid(project):
    config = yaml.safe_load((project / "config.yaml").read_text())
    model = config["models"]["main"]
    model["network"], model["train"] = {"padded": True}, {"input_px": 240}
    settings.check_sizes(config)
    model["train"] = {"input_px": 236}
    with pytest.raises(UserError, match="multiples of 8 px, not 236"):
        settings.check_sizes(config)
