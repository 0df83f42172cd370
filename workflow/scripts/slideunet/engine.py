"""One process at work on shards: reading, computing and writing of different shards overlap.

Each shard is one task in a thread of its own: it reads its pixels, waits for a computing slot,
computes, leaves the slot, writes. With more threads than slots the next shard is read and the last
one written while one computes, so the device does not wait; shards in flight, and with them memory,
are as many as threads. On the CPU a slot is one core (two processes of one thread each do 1.7
times what one of two threads does; threads that each compute alone equal processes). On a GPU there
is one slot, work is queued without waiting for it, and the results come back in one copy.
"""

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from slideunet.averaging import is_symmetric, mean_over_views
from slideunet.errors import SlideError
from slideunet.geometry import Window, bounding, cover, input_window
from slideunet.network import DoubleConvolution, UNet
from slideunet.overlap_tile import prepare, real_window, tile_scores
from slideunet.pixels import Pixels, as_float, crop_mirrored, kept_dtype
from slideunet.readers.base import BadTileError
from slideunet.shard_store import Block


class Source(Protocol):
    """The slide at the models' pixel size; read by several threads at once."""

    path: str
    height: int
    width: int
    channels: list[str]
    dtype: np.dtype

    def read(self, y: int, x: int, height: int, width: int) -> np.ndarray:
        """Pixels (C, height, width) of a window inside the slide."""

    def unreadable(self) -> Iterable[Window]:
        """Where tiles that did not decode were masked so far."""


class Member(NamedTuple):
    """A network of the ensemble and its scaling of grey values (normalise.py): low, high."""

    network: UNet
    scaling: dict


@dataclass
class Seconds:
    """Where a shard's time went."""

    read: float = 0.0
    wait: float = 0.0
    compute: float = 0.0


class Engine:
    """Computes shards. `on_tile(pixels)` is told each tile's output pixels; `stop` may raise."""

    def __init__(
        self,
        source: Source,
        members: list[Member],
        *,
        device: torch.device,
        precision: torch.dtype,
        averaging: str = "none",
        slots: int = 1,
    ):
        self.source, self.device, self.averaging = source, device, averaging
        self.image_yx = source.height, source.width
        self.classes = members[0].network.classes
        self.members = [
            (prepare(m.network, device, precision), *_scaling(m.scaling, device)) for m in members
        ]
        self.channel_bytes = len(source.channels) * kept_dtype(source.dtype).itemsize
        self.depth = max(m.network.depth for m in members)
        self.on_tile: Callable[[int], None] = lambda pixels: None
        self.stop: Callable[[], None] = lambda: None
        self._slots = threading.BoundedSemaphore(1 if device.type == "cuda" else slots)
        if device.type == "cpu":
            torch.set_num_threads(1)
            for network, _, _ in self.members:
                _stop_between_layers(network, self._asked_to_stop)
        elif device.type == "cuda":
            # The same bytes from the same tiles: no kernel chosen by a race, and float32 as such.
            torch.backends.cudnn.benchmark = False
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.allow_tf32 = False

    def _asked_to_stop(self) -> None:
        self.stop()

    def inputs(self, tile: Window) -> list[Window]:
        """The windows that the members see for a tile; they reach beyond the slide at its edges."""
        symmetric = is_symmetric(self.averaging)
        return [input_window(tile, network.depth, symmetric) for network, _, _ in self.members]

    def predict(self, region: Window, tiles: list[Window]) -> tuple[Block, Seconds]:
        """Probabilities and classes (uint8) of a region; 0 where no tile lies.

        `tiles` lie inside the region, their origins on the pooling grid. Raises SlideError where
        a tile of the slide does not decode or the network's scores are not finite.
        """
        seconds, started = Seconds(), time.perf_counter()
        pixels, finite = self._read(tiles)
        seconds.read = time.perf_counter() - started
        with self._slot(seconds), torch.inference_mode():
            block, scores, done = self._compute(pixels, region, tiles, seconds)
        done()
        if not (finite and np.isfinite(scores.numpy()).all()):
            raise self._failure(
                "the network's scores are not finite: pixels that are NaN or infinite, or numbers "
                "beyond float16 (then set segment.precision: float32)",
                f"in the {region.height} x {region.width} px at y={region.y} x={region.x}",
            )
        return Block(*(part.numpy() for part in block)), seconds

    def _failure(self, reason: str, place: str) -> SlideError:
        """An error of the same words whichever shard comes first; its place is a note."""
        error = SlideError(f"{self.source.path}: {reason}; the log tells where")
        error.add_note(place)
        return error

    @contextmanager
    def _slot(self, seconds: Seconds):
        started = time.perf_counter()
        with self._slots:
            seconds.wait = time.perf_counter() - started
            yield

    def _read(self, tiles: list[Window]) -> tuple[Pixels, bool]:
        """The real pixels that the tiles' inputs touch, each read once, and no others; and whether
        they are finite.
        """
        wanted = [real_window(w, self.image_yx) for tile in tiles for w in self.inputs(tile)]
        box = bounding(wanted)
        values = torch.empty(
            (len(self.source.channels), box.height, box.width),
            dtype=getattr(torch, kept_dtype(self.source.dtype).name),
            pin_memory=self.device.type == "cuda",
        )
        into, finite = values.numpy(), True
        for window in cover(wanted):
            self.stop()
            try:
                pixels = self.source.read(*window)
            except BadTileError as error:
                raise self._failure("a tile does not decode", str(error)) from None
            finite = finite and (pixels.dtype.kind != "f" or bool(np.isfinite(pixels).all()))
            into[(slice(None), *window.slices((box.y, box.x)))] = pixels
        return Pixels(values, box.y, box.x), finite

    def _compute(self, pixels: Pixels, region: Window, tiles: list[Window], seconds: Seconds):
        """Probabilities and classes on their way to the CPU, sums of scores, and what waits."""
        clock = _Clock(self.device)
        pixels = pixels._replace(values=pixels.values.to(self.device, non_blocking=True))
        shape = (self.classes, region.height, region.width)
        probabilities = torch.zeros(shape, dtype=torch.uint8, device=self.device)
        classes = torch.zeros(shape[1:], dtype=torch.uint8, device=self.device)
        sums: list[torch.Tensor] = []
        for tile in tiles:
            self.stop()
            found = self._predict_tile(pixels, tile, sums)
            where = tile.slices((region.y, region.x))
            classes[where] = likeliest(found)
            probabilities[(slice(None), *where)] = as_bytes(found)
            self.on_tile(tile.height * tile.width)
        *block, scores = (_to_cpu(v) for v in (probabilities, classes, torch.stack(sums)))

        def done() -> None:
            seconds.compute = clock.stop()

        clock.mark()
        return block, scores, done

    def _predict_tile(self, pixels: Pixels, tile: Window, sums: list) -> torch.Tensor:
        """Mean probabilities (classes, Y, X) float32 over members and views."""
        total = None
        for (network, low, span), window in zip(self.members, self.inputs(tile), strict=True):
            # Arithmetic of normalise.scale, on the device.
            seen = as_float(crop_mirrored(pixels, window, self.image_yx)).sub_(low).div_(span)

            def probabilities(view: torch.Tensor, network: UNet = network) -> torch.Tensor:
                scores = tile_scores(network, view)
                sums.append(scores.sum())  # NaN and infinity show in the sum; read at the end
                return torch.softmax(scores, dim=0)

            found = mean_over_views(
                probabilities, seen, (tile.height, tile.width), network.depth, self.averaging
            )
            total = found if total is None else total + found
        return total if len(self.members) == 1 else total / len(self.members)


class _Clock:
    """Seconds of computing between its making and `mark`: on a GPU by its own events."""

    def __init__(self, device: torch.device):
        self._cuda = device.type == "cuda"
        self._first = self._now()

    def _now(self):
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def mark(self) -> None:
        """The last of the work has been queued."""
        self._last = self._now()

    def stop(self) -> float:
        """Wait until the marked work is done."""
        if not self._cuda:
            return self._last - self._first
        self._last.synchronize()
        return self._first.elapsed_time(self._last) / 1000


def as_bytes(probabilities: torch.Tensor) -> torch.Tensor:
    """uint8 of probabilities, which are overwritten: 255 p rounded, halves up."""
    return probabilities.mul_(255).add_(0.5).to(torch.uint8)


def likeliest(probabilities: torch.Tensor) -> torch.Tensor:
    """Class map (Y, X) uint8 of float32 probabilities (classes, Y, X); ties: the lower class."""
    if len(probabilities) == 1:
        return torch.zeros_like(probabilities[0], dtype=torch.uint8)
    best = probabilities[0]
    found = (probabilities[1] > best).view(torch.uint8)
    for number in range(2, len(probabilities)):
        best = torch.maximum(best, probabilities[number - 1])
        found = torch.where(probabilities[number] > best, number, found)
    return found


def _scaling(scaling: dict, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    low, high = (
        torch.tensor(scaling[key], dtype=torch.float32, device=device)[:, None, None]
        for key in ("low", "high")
    )
    return low, torch.where(high > low, high - low, torch.ones_like(low))


def _to_cpu(values: torch.Tensor) -> torch.Tensor:
    """A copy on the CPU, on its way: to be read after the clock has stopped."""
    if values.device.type == "cpu":
        return values
    kept = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return kept.copy_(values, non_blocking=True)


def _stop_between_layers(network: UNet, stop: Callable[[], None]) -> None:
    """A large tile may take a minute on a CPU: a job that is to leave leaves between two layers."""
    for layer in network.modules():
        if isinstance(layer, DoubleConvolution | torch.nn.ConvTranspose2d):
            layer.register_forward_pre_hook(lambda *_: stop())
