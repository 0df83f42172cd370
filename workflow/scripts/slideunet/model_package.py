"""A network described in bioimage.io's words, packed, and run from the package by its own reader.

Needs: bioimageio.core (and with it bioimageio.spec), onnxruntime: envs/requirements-export.txt.
"""

import re
import warnings
import zipfile
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch
from bioimageio.core import create_prediction_pipeline, load_model_description, test_model
from bioimageio.core.digest_spec import create_sample_for_model
from bioimageio.spec import save_bioimageio_package_as_folder
from bioimageio.spec.model import v0_5 as spec
from pydantic import ValidationError

from slideunet import model, portable_network
from slideunet.errors import UserError
from slideunet.geometry import grid_px
from slideunet.portable_network import INPUT, OUTPUT

TOLERANCE = 1e-4
FORMATS = ("torchscript", "onnx")
# The smallest that the description may say; it keeps an even image from dividing by 0.
EPSILON = 1e-6
PAPER = spec.CiteEntry(
    text="Ronneberger, Fischer, Brox (2015) U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation. MICCAI.",
    doi="10.1007/978-3-319-24574-4_28",
)


@dataclass(frozen=True)
class Described:
    """What a package tells of its network.

    name : of the network in the configuration
    depth : that its tile arithmetic follows (of network.UNet or sliding_window.SlidingWindow)
    parameters : their number
    publication : config section: authors (names), license (SPDX identifier)
    measured : facts of stage evaluate
    tested_on : which images it was measured on, in words
    trained : when
    """

    name: str
    description: model.Description
    depth: int
    parameters: int
    publication: dict
    measured: dict
    tested_on: str
    trained: datetime


def as_described(pixels: np.ndarray, normalisation: dict) -> np.ndarray:
    """Grey values (C, Y, X) scaled as the package's description says, float32.

    That is normalise.py's scaling, but for percentiles of the image: the description's words mean
    those that are interpolated between two grey values, where normalise.py takes the upper one.
    """
    if normalisation["scope"] == "training":
        low, high = (np.float32(normalisation[key]) for key in ("low", "high"))
        span = np.where(high > low, high - low, 1)
    else:
        at = [normalisation["low_percentile"], normalisation["high_percentile"]]
        low, high = np.percentile(pixels, at, axis=(1, 2))
        span = high - low
    low, span = (np.asarray(each)[:, None, None] for each in (low, span))
    return ((pixels - low) / (span + EPSILON)).astype(np.float32)


def write(told: Described, files: Path, package: Path) -> None:
    """Pack the folder `files` (weights, tensors, pictures, card) as a zip with its rdf.yaml.

    Raises UserError where the configuration says what bioimage.io does not take, such as a licence
    that is none of SPDX's.
    """
    (files / "README.md").write_text(documentation(told), encoding="utf-8")
    try:
        described = describe(told, files)
    except ValidationError as error:
        raise UserError(_refusal(error, told.publication)) from None
    folder = save_bioimageio_package_as_folder(described, output_path=files.with_name("packed"))
    # Without times: equal networks give equal bytes.
    with zipfile.ZipFile(package, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)


def _refusal(error: ValidationError, publication: dict) -> str:
    """What bioimage.io has against a description, in one line."""
    for each in error.errors():
        if "license" in each["loc"] and each["type"] == "literal_error":
            known = re.findall("'([^']+)'", each["ctx"]["expected"])
            close = get_close_matches(publication["license"], known, 1)
            return (
                f"config: publication.license: {publication['license']!r} is no SPDX identifier: "
                f"{f'did you mean {close[0]!r}?' if close else 'give one such as CC-BY-4.0'}"
            )
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"bioimage.io does not take this description: {where}: {first['msg'][:200]}"


def describe(told: Described, files: Path) -> spec.ModelDescr:
    """The description; `files` holds what it names."""
    described = told.description

    def file(name: str) -> spec.FileDescr:
        return spec.FileDescr(source=files / name)

    torchscript = spec.TorchscriptWeightsDescr(
        source=files / "weights.pt",
        pytorch_version=spec.Version(torch.__version__.split("+")[0]),
        comment="the original: model.safetensors among the attachments",
    )
    onnx = spec.OnnxWeightsDescr(
        source=files / "weights.onnx", opset_version=portable_network.OPSET, parent="torchscript"
    )
    return spec.ModelDescr(
        name=f"U-Net {told.name}",
        description=f"Segments {', '.join(described.classes[1:])} in microscopy images: the "
        "unpadded U-Net, trained on annotated images.",
        authors=[spec.Author(name=name) for name in told.publication["authors"]],
        cite=[PAPER],
        license=told.publication["license"],
        tags=["segmentation", "unet", "pytorch", "2d", *described.classes[1:]],
        documentation=file("README.md"),
        covers=[file("cover.png")],
        attachments=[file("model.json"), file("model.safetensors")],
        timestamp=told.trained,
        version=spec.Version("1"),
        inputs=[_input(told, file("test_input.npy"), file("sample_input.tif"))],
        outputs=[_output(told, file("test_output.npy"), file("sample_output.tif"))],
        weights=spec.WeightsDescr(torchscript=torchscript, onnx=onnx),
        config=_config(told),
    )


def check(package: Path, files: Path) -> dict[str, float]:
    """Run the package by bioimageio.core; the largest difference to the test output, per format.

    Raises ValueError, with bioimageio's report, where it is not valid or differs by more than
    TOLERANCE.
    """
    wanted = np.load(files / "test_output.npy")
    pixels = np.load(files / "test_input.npy")
    found = {}
    for kind in FORMATS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own reader: it goes on by itself
            summary = test_model(package, weight_format=kind)
        if summary.status != "passed":
            raise ValueError(f"{package}: {kind}: {summary.status}\n{summary.format_md()}")
        found[kind] = difference(package, kind, pixels, wanted)
    return found


def difference(package: Path, kind: str, pixels: np.ndarray, wanted: np.ndarray) -> float:
    """The largest difference of bioimageio.core's answer to grey values (1, C, Y, X)."""
    described = load_model_description(package)
    with create_prediction_pipeline(described, weights_format=kind) as pipeline:
        sample = create_sample_for_model(described, inputs={INPUT: pixels})
        found = pipeline.predict_sample_without_blocking(
            sample, skip_input_padding=True, skip_output_cropping=True
        )
    return float(np.abs(found.members[OUTPUT].data.to_numpy() - wanted).max())


def documentation(told: Described) -> str:
    """The package's README.md: sizes, halo, grey values, and what was measured."""
    described, halo = told.description, portable_network.halo_px(told.depth)
    smallest, step = portable_network.smallest_px(told.depth), grid_px(told.depth)
    size = "unknown" if described.mpp_um is None else f"{described.mpp_um:g} um"
    measured = "".join(
        f"| {averaging} | {facts['pooled']['foreground_iou']:.3f} "
        f"| {facts['pooled']['object_f1']:.3f} |\n"
        for averaging, facts in told.measured["averaging"].items()
    )
    return f"""# U-Net {told.name}

The unpadded U-Net of Ronneberger, Fischer and Brox (2015), trained with unet-slides.

- Classes: {", ".join(described.classes)}. The answer is a probability for each.
- Pixel size of the training images: {size}. Scale other images to it.
- Tiles: sides are multiples of {step} px, at least {smallest} px.
- Halo: {halo} px on each side of the answer are zeros, since the network's convolutions are not
  padded: crop them. Mirror the image beyond its edge, the edge pixel not repeated.
- Grey values: {_words(described.normalisation)}

`model.json` and `model.safetensors` are the same network as unet-slides reads it (`model:` in its
configuration).

## Validation

On {told.tested_on}, by unet-slides. Measure on annotated images of your own before you rely on it.

| mean over views | IoU of the foreground | object F1 at IoU 0.5 |
|---|---|---|
{measured}"""


def _words(normalisation: dict) -> str:
    low, high = (normalisation[f"{key}_percentile"] for key in ("low", "high"))
    if normalisation["scope"] == "training":
        return f"scaled by constants, percentiles {low:g} and {high:g} of the training images."
    return f"percentiles {low:g} and {high:g} of each whole image become 0 and 1, per channel."


def _axes(told: Described, reference: bool) -> list:
    """y and x of the input, or of the output in terms of the input."""
    size = told.description.mpp_um
    scale = {} if size is None else {"unit": "micrometer", "scale": size}
    if not reference:
        sides = spec.ParameterizedSize(
            min=portable_network.smallest_px(told.depth), step=grid_px(told.depth)
        )
        return [spec.SpaceInputAxis(id=a, size=sides, concatenable=True, **scale) for a in "yx"]
    return [
        spec.SpaceOutputAxisWithHalo(
            id=a,
            size=spec.SizeReference(tensor_id=INPUT, axis_id=a),
            halo=portable_network.halo_px(told.depth),
            **scale,
        )
        for a in "yx"
    ]


def _input(told: Described, test: spec.FileDescr, sample: spec.FileDescr) -> spec.InputTensorDescr:
    channels = told.description.channels
    names = ["grey"] if channels == 1 else [f"channel_{i + 1}" for i in range(channels)]
    return spec.InputTensorDescr(
        id=INPUT,
        description="grey values as they are in the file",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=names),
            *_axes(told, reference=False),
        ],
        preprocessing=[_scaling(told.description.normalisation)],
        pad=spec.ReflectPadding(mode="reflect"),  # a default would be left out
        test_tensor=test,
        sample_tensor=sample,
    )


def _output(
    told: Described, test: spec.FileDescr, sample: spec.FileDescr
) -> spec.OutputTensorDescr:
    return spec.OutputTensorDescr(
        id=OUTPUT,
        description="probability of each class; zero in the halo",
        axes=[
            spec.BatchAxis(),
            spec.ChannelAxis(channel_names=told.description.classes),
            *_axes(told, reference=True),
        ],
        data=spec.IntervalOrRatioDataDescr(type="float32", range=(0, 1)),
        test_tensor=test,
        sample_tensor=sample,
    )


def _scaling(
    normalisation: dict,
) -> spec.ScaleRangeDescr | spec.FixedZeroMeanUnitVarianceDescr:
    """What `as_described` computes, in the words of the description."""
    if normalisation["scope"] == "image":
        return spec.ScaleRangeDescr(
            kwargs=spec.ScaleRangeKwargs(
                axes=["y", "x"],
                min_percentile=normalisation["low_percentile"],
                max_percentile=normalisation["high_percentile"],
                eps=EPSILON,
            )
        )
    pairs = list(zip(normalisation["low"], normalisation["high"], strict=True))
    return spec.FixedZeroMeanUnitVarianceDescr(
        kwargs=spec.FixedZeroMeanUnitVarianceAlongAxisKwargs(
            axis="channel",
            mean=[low for low, _ in pairs],
            std=[high - low if high > low else 1 for low, high in pairs],
        )
    )


def _config(told: Described) -> spec.Config:
    tolerance = spec.ReproducibilityTolerance(
        relative_tolerance=0, absolute_tolerance=TOLERANCE, mismatched_elements_per_million=0
    )
    return spec.Config(
        bioimageio=spec.BioimageioConfig(
            reproducibility_tolerance=[tolerance],
            architecture_type="2D U-Net",
            model_parameter_count=told.parameters,
            task="segmentation",
            target_structure=told.description.classes[1:],
        )
    )
