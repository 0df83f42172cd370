"""Models on disk: weights as safetensors, described by a model card (or the manifest's facts).

Anyone's model may be opened: nothing in the files is executed, and the description, the tensors'
names, shapes and offsets are judged before anything of their size is allocated.
"""

import json
import math
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from slideunet import network, store
from slideunet.errors import UserError
from slideunet.network import UNet
from slideunet.tensorfile import read_header, read_tensors, write_tensors

FORMAT = "unet-slides model 1"
WEIGHTS = "model.safetensors"
# Far above any U-Net in print; with them the largest network still takes an honest 34 GB file.
LIMITS = {"depth": (1, 7), "base_channels": (1, 512), "channels": (1, 256), "classes": (2, 255)}
MAX_CARD_BYTES = 2**20
MAX_WEIGHTS_HEADER_BYTES = 2**20


@dataclass(frozen=True)
class Description:
    """What has to be known to use a model.

    architecture : the config section `network`
    channels : number of image channels
    classes : names, the background first
    normalisation : see normalise.py
    mpp_um : pixel size of the training images in um, None where it is unknown
    """

    architecture: dict
    channels: int
    classes: list[str]
    normalisation: dict
    mpp_um: float | None

    def as_json(self) -> dict:
        """The same as a mapping for a card or a manifest's facts."""
        return asdict(self)


def build(description: Description) -> UNet:
    """The described network, with torch's own random weights."""
    return network.build(description.architecture, description.channels, len(description.classes))


def save_weights(path: Path, weights: dict[str, torch.Tensor]) -> str:
    """Write the weights as float32 safetensors; returns the file's sha256."""
    return write_tensors(
        path, {name: tensor.float() for name, tensor in weights.items()}, {"format": "pt"}
    )


def write_card(path: Path, description: Description, weights_sha256: str, **more: object) -> None:
    """Write the model card; `more` says how the model came about (training, data, code)."""
    card = {
        **more,
        **description.as_json(),
        "format": FORMAT,
        "weights": WEIGHTS,
        "weights_sha256": weights_sha256,
    }
    store.write_file(path, store.to_json({**card, "checksum": _checksum(card)}))


def load(path: str | Path) -> tuple[UNet, Description]:
    """The network, float32 on the CPU and evaluating, and its description.

    `path` is the manifest of rule `train`, or a model card: a JSON file beside model.safetensors.
    Raises UserError, one line, for a file that is missing, damaged or not sound.
    """
    path = Path(path)
    content = _read_json(path)
    if {"kind", "status", "files"} <= content.keys():
        content = store.load(path)
        description = describe(path, content["facts"])
        digest = next((e["sha256"] for e in content["files"] if e["path"] == WEIGHTS), None)
    else:
        description, digest = _describe_card(path, content)
    return load_weights(path.with_name(WEIGHTS), description, digest), description


def load_weights(path: Path, description: Description, sha256: str | None = None) -> UNet:
    """The described network with the weights of a safetensors file; see `load`."""
    expected = _shapes(description)
    entries, _ = read_header(path, max_bytes=MAX_WEIGHTS_HEADER_BYTES)
    for name in sorted(expected.keys() | entries.keys()):
        if name not in entries or name not in expected:
            which = "lacks" if name not in entries else "has, unlike the described network,"
            raise UserError(f"{path}: {which} a tensor {name[:80]!r}")
        found = entries[name]
        if found.dtype != "F32" or found.shape != expected[name]:
            raise UserError(
                f"{path}: tensor {name!r} is {found.dtype} {list(found.shape)}, "
                f"the described network has F32 {list(expected[name])}"
            )
    if sha256 is not None and store.sha256_of_file(path) != sha256:
        raise UserError(f"{path}: not the weights that its description names (checksum differs)")
    weights = read_tensors(path, entries)
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: tensor {name!r} holds NaN or infinity")
    with torch.device("meta"):
        loaded = build(description)
    loaded.load_state_dict(weights, assign=True)
    return loaded.eval()


def describe(path: Path, content: dict) -> Description:
    """The description in a card or in facts, each value checked. UserError names what is wrong."""
    wanted = {
        "architecture": dict, "channels": int, "classes": list, "normalisation": dict
    }  # fmt: skip
    for key, kind in wanted.items():
        if type(content.get(key)) is not kind:
            raise UserError(f"{path}: {key}: missing or of another type than {kind.__name__}")
    architecture, classes = content["architecture"], content["classes"]
    _whole(path, "architecture.depth", architecture.get("depth"), *LIMITS["depth"])
    _whole(
        path, "architecture.base_channels", architecture.get("base_channels"),
        *LIMITS["base_channels"],
    )  # fmt: skip
    _number(path, "architecture.dropout", architecture.get("dropout"), 0, 1)
    _whole(path, "channels", content["channels"], *LIMITS["channels"])
    _whole(path, "number of classes", len(classes), *LIMITS["classes"])
    if not all(type(name) is str and 0 < len(name) <= 200 for name in classes):
        raise UserError(f"{path}: classes: not a list of names")
    for key in ("padded", "narrow_expansion", "sliding_window"):
        if type(architecture.get(key, False)) is not bool:
            raise UserError(f"{path}: architecture.{key}: neither true nor false")
    if content.get("mpp_um") is not None:
        _number(path, "mpp_um", content["mpp_um"], 1e-4, 1e4)
    _check_normalisation(path, content["normalisation"], content["channels"])
    return Description(
        architecture,
        content["channels"],
        classes,
        content["normalisation"],
        content.get("mpp_um"),
    )


def _check_normalisation(path: Path, normalisation: dict, channels: int) -> None:
    if normalisation.get("scope") not in ("training", "image"):
        raise UserError(f"{path}: normalisation.scope: neither training nor image")
    for key in ("low_percentile", "high_percentile"):
        _number(path, f"normalisation.{key}", normalisation.get(key), 0, 100)
    if normalisation["scope"] == "training":
        for key in ("low", "high"):
            values = normalisation.get(key)
            if type(values) is not list or len(values) != channels:
                raise UserError(f"{path}: normalisation.{key}: not {channels} numbers")
            for value in values:
                _number(path, f"normalisation.{key}", value, -1e38, 1e38)


def _describe_card(path: Path, card: dict) -> tuple[Description, str | None]:
    if card.get("format") != FORMAT:
        raise UserError(f"{path}: not a model card of this workflow (format {FORMAT!r})")
    checksum = card.pop("checksum", None)
    if checksum is not None and checksum != _checksum(card):
        raise UserError(
            f"{path}: the card is not as it was written (checksum differs); "
            "if you edited it on purpose, remove its line `checksum`"
        )
    return describe(path, card), card.get("weights_sha256")


def _checksum(card: dict) -> str:
    return store.sha256_of(store.to_json(card))


def _shapes(description: Description) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the network's tensors; nothing is allocated."""
    with torch.device("meta"):
        empty = build(description)
    return {name: tuple(tensor.shape) for name, tensor in empty.state_dict().items()}


def _read_json(path: Path) -> dict:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_CARD_BYTES:
            raise UserError(f"{path}: not a model card: no regular file of at most 1 MiB")
        content = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except OSError as error:
        raise UserError(f"{path}: no model card: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a model card: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a model card: no mapping")
    return content


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _whole(path: Path, key: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise UserError(f"{path}: {key}: {str(value)[:40]} is no whole number from {low} to {high}")


def _number(path: Path, key: str, value: object, low: float, high: float) -> None:
    if type(value) not in (int, float) or not low <= value <= high or not math.isfinite(value):
        raise UserError(f"{path}: {key}: {str(value)[:40]} is no number from {low} to {high}")
