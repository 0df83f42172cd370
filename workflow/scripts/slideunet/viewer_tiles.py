"""One slide's result as tiles for a viewer in a browser: the slide, its objects, its probabilities.

A pyramid of square tiles over the image that was segmented: level 0 is its full resolution, each
level after it half of the one before, as in objects.ome.zarr.
"""

import io
import math
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.segmentation import find_boundaries

from slideunet import ngff, store
from slideunet.arrays import open_group
from slideunet.geometry import level_shapes
from slideunet.label_pyramid import CHUNK_PX
from slideunet.pictures import to_rgb
from slideunet.readers.remote import RemoteReader
from slideunet.resample import SlideView
from slideunet.slide_array import scale_of
from slideunet.slide_file import check_unchanged, load_slide
from slideunet.slide_source import limits_of

TILE_PX = CHUNK_PX
# Processes that decode: as many tiles of the slide are made at a time.
CHILDREN = 2
# Of full probability, so that the slide is seen through it (255 hides it).
PROBABILITY_ALPHA = 160
OUTLINE_RGB = (255, 220, 0)


class SlideTiles:
    """The tiles of one slide that has gone through rule objects; to be closed.

    folder : results/slides/ID. `shapes`: (height, width) of each level, px. Raises UserError where
    the slide failed, is not that far or has changed since.
    """

    def __init__(self, folder: Path):
        manifests = [folder / f"{name}.json" for name in ("slide", "segmentation", "objects")]
        self._facts = load_slide(manifests[0])
        check_unchanged(self._facts)
        segmented = store.load(manifests[1])["facts"]
        store.load(manifests[2])
        self._labels = open_group(folder / "objects.ome.zarr")
        self._probabilities = open_group(folder / "segmentation.ome.zarr")
        self.shapes = level_shapes(*self._labels["0"].shape, TILE_PX)
        self.pixel_um = segmented["pixel_um"]
        self._scale_yx = scale_of(self._facts, segmented)
        limits = limits_of(self._facts)
        self._reader = RemoteReader(self._facts["path"], workers=CHILDREN, **limits)
        self._reader.mask_bad_tiles = True

    def close(self) -> None:
        """End the processes that decode."""
        self._reader.close()

    def tile(self, layer: str, level: int, row: int, column: int) -> bytes:
        """A JPEG of the slide, or a PNG to be laid over it: the picture of one tile.

        layer : slide, objects (outlines within the objects) or probability (of the foreground, in
            the colour of the likeliest class)

        Raises KeyError where there is no such tile.
        """
        draw = {"slide": self._slide, "objects": self._objects, "probability": self._probability}
        make = draw[layer]
        if not 0 <= level < len(self.shapes):
            raise KeyError(level)
        height, width = self.shapes[level]
        y, x = row * TILE_PX, column * TILE_PX
        if not (0 <= y < height and 0 <= x < width):
            raise KeyError((row, column))
        picture = make(level, y, x, min(y + TILE_PX, height), min(x + TILE_PX, width))
        file = io.BytesIO()
        if layer == "slide":
            Image.fromarray(picture).save(file, format="JPEG", quality=85)
        else:
            Image.fromarray(picture).save(file, format="PNG", compress_level=1)
        return file.getvalue()

    def _slide(self, level: int, y: int, x: int, y_end: int, x_end: int) -> np.ndarray:
        """uint8 (Y, X, 3): colour as it is, other channels at the contrast of the index."""
        view = SlideView(self._reader, tuple(s * 2**level for s in self._scale_yx))
        # The view may take a level of the slide whose pixels are 1 % off.
        step = [s * 2**level / own for s, own in zip(self._scale_yx, view.scale_yx, strict=True)]
        top, bottom, below = _inside(y * step[0], y_end * step[0], view.height)
        left, right, behind = _inside(x * step[1], x_end * step[1], view.width)
        pixels = view.read(top, left, bottom - top, right - left)
        # Sizes are rounded up here: of an odd side the last pixel is half beyond the view.
        pixels = np.pad(pixels, [(0, 0), (0, below), (0, behind)], mode="edge")
        colour = view.dtype == np.uint8 and len(view.channels) == 3
        limits = [None if colour else self._facts["intensity"][key] for key in ("low", "high")]
        picture = Image.fromarray(to_rgb(pixels, *limits))
        y0, x0 = y * step[0] - top, x * step[1] - left
        size = x_end - x, y_end - y
        box = x0, y0, x0 + size[0] * step[1], y0 + size[1] * step[0]
        return np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box))

    def _objects(self, level: int, y: int, x: int, y_end: int, x_end: int) -> np.ndarray:
        """uint8 (Y, X, 4): outlines, as they are without the tiles' borders."""
        around = max(0, y - 1), max(0, x - 1), y_end + 1, x_end + 1
        labels = _window(self._labels, level, *around)
        ring = find_boundaries(labels, mode="inner")
        ring = ring[y - around[0] :, x - around[1] :][: y_end - y, : x_end - x]
        return np.where(ring[..., None], np.array((*OUTLINE_RGB, 255), np.uint8), np.uint8(0))

    def _probability(self, level: int, y: int, x: int, y_end: int, x_end: int) -> np.ndarray:
        """uint8 (Y, X, 4)."""
        found = _window(self._probabilities, level, y, x, y_end, x_end)[1:]
        colours = [bytes.fromhex(ngff.COLOURS[i % len(ngff.COLOURS)]) for i in range(len(found))]
        colours = np.array([list(colour) for colour in colours], np.uint8)
        picture = np.empty((*found.shape[1:], 4), np.uint8)
        picture[..., :3] = colours[found.argmax(axis=0)]
        foreground = np.minimum(found.sum(axis=0, dtype=np.uint16), 255)
        picture[..., 3] = foreground * PROBABILITY_ALPHA // 255
        return picture


def _inside(start: float, end: float, size: int) -> tuple[int, int, int]:
    """The whole pixels that cover `start` to `end`: the first, the end within 0 to `size` (at least
    one pixel), and how many lie beyond it.
    """
    first = min(math.floor(start), size - 1)
    last = math.ceil(end)
    return first, min(last, size), max(0, last - size)


def _window(group, level: int, y: int, x: int, y_end: int, x_end: int) -> np.ndarray:
    """A window of a pyramid; beyond its last level every 2nd, 4th ... pixel of that."""
    last = sum(1 for _ in group.array_keys()) - 1
    own = min(level, last)
    step = 2 ** (level - own)
    rows, columns = slice(y * step, y_end * step), slice(x * step, x_end * step)
    return group[str(own)][..., rows, columns][..., ::step, ::step]
