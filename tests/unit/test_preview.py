"""Pictures of images without truth: the mean of the networks, each named image once."""

import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from slideunet import model
from slideunet.ensemble import predict, predict_mean
from slideunet.errors import UserError
from slideunet.stages.preview import preview
from stored_model import write_model


@pytest.fixture
def stack(tmp_path):
    pages = np.random.default_rng(0).integers(0, 256, (3, 40, 52), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", pages, photometric="minisblack")
    return str(tmp_path / "stack.tif")


@pytest.fixture
def models(tmp_path):
    return [write_model(tmp_path / name, seed) for seed, name in enumerate("ab")]


def run(tmp_path, models, stack, rows):
    manifest = tmp_path / "evaluation" / "unlabelled.json"
    settings = {"rows": rows, "averaging": "none"}
    preview(
        models=models, images=[stack], manifest=str(manifest), settings=settings, code={}, gpus=0
    )
    return json.loads(manifest.read_bytes())


def test_page_has_a_row_for_each_image(tmp_path, models, stack):
    torch.set_num_threads(1)
    rows = {f"s{k}": {"image": stack, "page": str(k)} for k in range(3)}
    done = run(tmp_path, models, stack, rows)
    assert list(done["facts"]["objects"]) == ["s0", "s1", "s2"]
    with Image.open(tmp_path / "evaluation" / "unlabelled.png") as picture:
        width, height = picture.size
    one = run(tmp_path / "one", models, stack, {"s1": rows["s1"]})
    assert one["facts"]["objects"]["s1"] == done["facts"]["objects"]["s1"]
    with Image.open(tmp_path / "one" / "evaluation" / "unlabelled.png") as picture:
        assert picture.size[0] == width and picture.size[1] == pytest.approx(height / 3, abs=2)


def test_mean_of_the_networks_is_the_mean_of_their_answers(models):
    members = [model.load(path) for path in models]
    pixels = np.random.default_rng(1).integers(0, 256, (1, 40, 44), dtype=np.uint8)
    alone = [predict(*member, pixels, "none") for member in members]
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(
        predict_mean(members, pixels, "none"), np.mean(alone, axis=0), atol=1e-6
    )


def test_networks_of_other_classes_are_refused(tmp_path, models, stack):
    other = write_model(tmp_path / "c", classes=["background", "vessel"])
    with pytest.raises(UserError, match="only alike models can be averaged"):
        run(tmp_path, [*models, other], stack, {"s": {"image": stack, "page": "0"}})
    assert not (tmp_path / "evaluation" / "unlabelled.json").exists()


def test_page_that_the_stack_lacks_is_one_line(tmp_path, models, stack):
    with pytest.raises(UserError, match=r"stack\.tif"):
        run(tmp_path, models, stack, {"s": {"image": stack, "page": "7"}})
