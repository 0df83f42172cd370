"""Model packages: valid, run by bioimage.io's own reader to the network's output, whole."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from slideunet import model, store
from slideunet.arrays import create_group, write_array
from slideunet.errors import UserError
from slideunet.manifest import sealed
from slideunet.stages import export as stage
from slideunet.whole_image import predict_image
from stored_model import write_model

CONSTANTS = {"scope": "training", "low": [200.0, 20.0], "high": [900.0, 20.0]}


@pytest.fixture(scope="module", autouse=True)
def packages():
    for name in stage.NEEDED:
        pytest.importorskip(name, reason="needs envs/requirements-export.txt")


def inputs(folder, channels=1, **changed):
    """A network, its evaluation and an image, as the stages before leave them."""
    manifest = write_model(folder / "model", channels=channels, **changed)
    _, description = model.load(manifest)
    model.write_card(folder / "model" / "model.json", description, "")
    random = np.random.default_rng(1)
    pixels = random.integers(0, 1000, (channels, 150, 260), dtype=np.uint16)

    def image(work):
        write_array(create_group(work.folder / "a.zarr"), "image", pixels, "CYX")
        return ["a.zarr"], {}

    def evaluation(work):
        (work.folder / "nothing").touch()
        pooled = {"foreground_iou": 0.5, "object_f1": 0.25}
        return ["nothing"], {"averaging": {"none": {"pooled": pooled}}}

    kinds = {"a": image, "evaluation": evaluation}
    for name, build in kinds.items():
        path = folder / f"{name}.json"
        store.make(path, build, kind=name, settings={}, code={}, inputs={})
    return manifest, pixels


def run(folder, model_manifest, to="export", **publication):
    """Export; returns the manifest and the package's path."""
    manifest = folder / to / "main.json"
    stage.export(
        model=model_manifest,
        image=str(folder / "a.json"),
        evaluation=str(folder / "evaluation.json"),
        manifest=str(manifest),
        settings={"publication": {"authors": ["Ada Lovelace"], "license": "MIT"} | publication},
        code={},
    )
    return json.loads(manifest.read_bytes()), manifest.with_suffix(".zip")


def whole_image_by_core(package, kind, pixels):
    """bioimageio.core's own tiles over a whole image (C, Y, X)."""
    from bioimageio.core import create_prediction_pipeline, load_model_description
    from bioimageio.core.digest_spec import create_sample_for_model

    described = load_model_description(package)
    with create_prediction_pipeline(described, weights_format=kind) as pipeline:
        sample = create_sample_for_model(described, inputs={"image": pixels[None]})
        found = pipeline.predict_sample_with_blocking(sample, ns=8)
    return found.members["probability"].data.to_numpy()[0]


@pytest.mark.parametrize("scope", ["image", "training"])
def test_a_package_is_valid_and_answers_as_the_network(tmp_path, scope):
    torch.set_num_threads(1)
    changed = {}
    if scope == "training":
        percentiles = {"low_percentile": 1, "high_percentile": 99.8}
        changed = {"channels": 2, "normalisation": CONSTANTS | percentiles}
    manifest, pixels = inputs(tmp_path, **changed)
    content, package = run(tmp_path, manifest)
    # depth 2: 20 px of context, poolings on a grid of 4 px
    facts = content["facts"]
    assert (facts["halo_px"], facts["smallest_px"], facts["step_px"]) == (20, 44, 4)
    assert set(facts["largest_difference"]) == {"torchscript", "onnx"}
    assert max(facts["largest_difference"].values()) <= 1e-4

    from slideunet import model_package

    network, description = model.load(manifest)
    image = pixels[:, :148].astype(np.float32)
    scaled = model_package.as_described(image, description.normalisation)
    own = predict_image(network, scaled).numpy()
    assert own.std() > 0.01
    for kind in model_package.FORMATS:
        found = whole_image_by_core(package, kind, image)
        assert np.abs(found - own).max() <= 1e-4, kind


def test_a_package_holds_what_it_promises(tmp_path):
    from bioimageio.spec import load_model_description

    manifest, _ = inputs(tmp_path)
    told = json.loads(Path(manifest).read_bytes())
    told["inputs"] = {"images": ["ab"], "validation_images": ["ab"]}
    Path(manifest).write_bytes(sealed(told))
    _, package = run(tmp_path, manifest)
    described = load_model_description(package)
    assert described.license == "MIT" and described.authors[0].name == "Ada Lovelace"
    assert described.cite[0].doi == "10.1007/978-3-319-24574-4_28"
    assert [str(axis.id) for axis in described.inputs[0].axes] == ["batch", "channel", "y", "x"]
    y = described.inputs[0].axes[2]
    assert (y.unit, y.scale, y.size.min, y.size.step) == ("micrometer", 1.0, 44, 4)
    assert described.inputs[0].pad.mode == "reflect"
    assert described.outputs[0].axes[2].halo == 20
    with zipfile.ZipFile(package) as archive:
        assert b"| none | 0.500 | 0.250 |" in archive.read("README.md")
        assert b"On images that it was TRAINED on, by" in archive.read("README.md")
        # what this workflow itself reads goes along
        for name in ("model.json", "model.safetensors"):
            assert archive.read(name) == Path(manifest).with_name(name).read_bytes()
        tensor = np.load(io.BytesIO(archive.read("test_output.npy")))
    np.testing.assert_allclose(tensor[..., 20:-20, 20:-20].sum(1), 1, atol=1e-5)


def test_equal_networks_give_equal_bytes(tmp_path):
    """But for TorchScript, where PyTorch counts the traces of a process; each job is a process."""
    manifest, _ = inputs(tmp_path)
    packed = []
    for folder in ("one", "two"):
        _, package = run(tmp_path, manifest, to=folder)
        with zipfile.ZipFile(package) as archive:
            packed.append({i.filename: (i.date_time, i.CRC) for i in archive.infolist()})
    for each in packed:
        assert each.pop("weights.pt") and each.pop("rdf.yaml")
    assert packed[0] == packed[1]


def test_a_package_that_answers_otherwise_is_not_published(tmp_path, monkeypatch):
    manifest, _ = inputs(tmp_path)
    monkeypatch.setattr(stage, "answer", lambda *told: answer(*told) + np.float32(2e-4))
    with pytest.raises(ValueError, match="torchscript: "):
        run(tmp_path, manifest)
    assert not list((tmp_path / "export").glob("main*"))
    # the next try takes over what that one left
    monkeypatch.undo()
    _, package = run(tmp_path, manifest)
    assert package.exists() and not list((tmp_path / "export").glob(".main*"))


answer = stage.answer


def test_a_licence_that_is_none_is_one_line(tmp_path):
    manifest, _ = inputs(tmp_path)
    said = "^config: publication.license: 'MTI' is no SPDX identifier: did you mean 'MIT'.$"
    with pytest.raises(UserError, match=said):
        run(tmp_path, manifest, license="MTI")


def test_what_else_is_not_taken_is_one_short_line(tmp_path):
    manifest, _ = inputs(tmp_path, classes=["background", *(f"{n}" * 200 for n in range(9))])
    with pytest.raises(UserError, match="does not take this description: description: ") as error:
        run(tmp_path, manifest)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_missing_packages_are_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "NEEDED", ("onnx", "no_such.package"))
    with pytest.raises(UserError, match="^export needs no_such.package, not installed here: call"):
        run(tmp_path, "none")
