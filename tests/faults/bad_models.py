"""Forty models that nobody should load, and what says that one of them ran."""

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from slideunet import model
from slideunet.network import initialise

DESCRIPTION = model.Description(
    architecture={"depth": 1, "base_channels": 2, "dropout": 0.5},
    channels=1,
    classes=["background", "cell"],
    normalisation={"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
    mpp_um=None,
)


class Payload:
    """Unpickled, it makes a folder: the canary."""

    def __init__(self, canary: Path):
        self.canary = str(canary)

    def __reduce__(self):
        return os.mkdir, (self.canary,)


def _zipped(canary: Path, name: str) -> bytes:
    """As torch.save writes: a zip with a pickle in it."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(name, pickle.dumps(Payload(canary)))
    return made.getvalue()


def raw(header: object, data: bytes = b"") -> bytes:
    """A file of the safetensors format with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def weights_files(good: bytes, canary: Path) -> dict[str, bytes | Callable[[Path], None]]:
    """What stands where model.safetensors should: its bytes, or a function that makes it."""
    size = int.from_bytes(good[:8], "little")
    header, data = json.loads(good[8 : 8 + size]), good[8 + size :]
    first = next(name for name in header if name != "__metadata__")
    same = json.dumps(header[first])

    def changed(**fields) -> bytes:
        return raw({**header, first: {**header[first], **fields}}, data)

    def sparse(path: Path) -> None:
        path.write_bytes(struct.pack("<Q", 2**40) + b"{")
        os.truncate(path, 2**33)

    return {
        "pickle": pickle.dumps(Payload(canary)),
        "pickle, protocol 0": pickle.dumps(Payload(canary), protocol=0),
        "torch zip": _zipped(canary, "archive/data.pkl"),
        "numpy with objects": b"\x93NUMPY\x01\x00" + pickle.dumps(Payload(canary)),
        "pickle behind a header": raw({}, pickle.dumps(Payload(canary))),
        "pickle as the header": raw(pickle.dumps(Payload(canary)), data),
        "python": f"import os; os.mkdir({str(canary)!r})".encode(),
        "yaml": f"!!python/object/apply:os.mkdir ['{canary}']".encode(),
        "empty": b"",
        "seven bytes": b"1234567",
        "truncated header": good[: 8 + size // 2],
        "truncated tensors": good[:-5],
        "one byte more": good + b"\0",
        "header of 2^63": struct.pack("<Q", 2**63) + good[8:],
        "header of a terabyte, sparse": sparse,
        "header larger than allowed": raw(b" " * (2**20 + 8), data),
        "deep header": raw(b"[" * 200_000, data),
        "header is a list": raw([], data),
        "header is no UTF-8": raw(b'{"\xff": 1}', data),
        "duplicate name": raw(f'{{"{first}": {same}, "{first}": {same}}}'.encode(), data),
        "shape of 2^62": changed(shape=[2**62]),
        "shape whose product wraps": changed(shape=[2**33, 2**33, 4]),
        "negative shape": changed(shape=[-1]),
        "shape of floats": changed(shape=[1.5]),
        "two hundred axes": changed(shape=[1] * 200),
        "offsets beyond the end": changed(data_offsets=[0, 2**50]),
        "offsets that overlap": changed(data_offsets=[4, 8]),
        "offsets that are negative": changed(data_offsets=[-8, 0]),
        "dtype of objects": changed(dtype="O"),
        "dtype of the wrong width": changed(dtype="F64"),
        "a name that leads out": raw(
            {("../../x" if k == first else k): v for k, v in header.items()}, data
        ),
        "NaN": good[: 8 + size] + struct.pack("<f", float("nan")) * (len(data) // 4),
        "infinity": good[: 8 + size] + struct.pack("<f", float("inf")) * (len(data) // 4),
        "a pipe": os.mkfifo,
        "a folder": os.mkdir,
        "a device": lambda path: path.symlink_to("/dev/zero"),
    }


def cards(good: dict) -> dict[str, bytes]:
    """What stands where the card should, beside sound weights."""

    def changed(**fields) -> bytes:
        card = {key: value for key, value in good.items() if key != "checksum"}
        return json.dumps({**card, **fields}).encode()

    huge = {"depth": 7, "base_channels": 512, "dropout": 0.5}
    return {
        "card of a terabyte's network": changed(architecture=huge),
        "card with a depth of 10^9": changed(architecture={**huge, "depth": 10**9}),
        "card with code for a class": changed(classes=[{"__reduce__": "os.system"}, "b"]),
        "card with other weights": changed(weights_sha256="0" * 64),
        "card that nests": b"[" * 200_000,
        "card with NaN": changed(mpp_um=float("nan")),
    }


def write_all(folder: Path, canary: Path) -> dict[str, Path]:
    """Name -> card of each of the models, each in a folder of its own."""
    network = model.build(DESCRIPTION)
    initialise(network, torch.Generator().manual_seed(1))
    sound = folder / "sound"
    sound.mkdir()
    digest = model.save_weights(sound / model.WEIGHTS, network.state_dict())
    model.write_card(sound / "model.json", DESCRIPTION, digest)
    card = (sound / "model.json").read_bytes()
    # the digest would refuse most of them at once: a stranger leaves it out
    open_card = {k: v for k, v in json.loads(card).items() if k not in ("checksum",)}
    open_card.pop("weights_sha256")
    weights = (sound / model.WEIGHTS).read_bytes()
    found = {}
    for name, content in weights_files(weights, canary).items():
        path = folder / f"m{len(found)}" / model.WEIGHTS
        path.parent.mkdir()
        path.write_bytes(content) if isinstance(content, bytes) else content(path)
        found[name] = path.with_name("model.json")
        found[name].write_text(json.dumps(open_card))
    for name, content in cards(json.loads(card)).items():
        found[name] = folder / f"m{len(found)}" / "model.json"
        found[name].parent.mkdir()
        found[name].write_bytes(content)
        found[name].with_name(model.WEIGHTS).write_bytes(weights)
    return found


def load_under_watch(card: str, verdict: str) -> None:
    """Load a model, and note what came of it and how much memory was taken, in MB."""
    import resource

    from slideunet.errors import UserError

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        model.load(card)
        line = None
    except UserError as error:
        line = str(error)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    Path(verdict).write_text(json.dumps({"line": line, "mb": (after - before) / 1024}))


def load_pickled(path: str) -> None:
    """What a loader without our rules does."""
    pickle.loads(Path(path).read_bytes())  # noqa: S301
