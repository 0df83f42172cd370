"""Pictures for people: grey values as RGB, outlines of objects on them, pictures side by side.

All pictures are uint8 (Y, X, 3). Equal input gives equal bytes, in memory and as PNG.
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries

YELLOW = (255, 220, 0)
# Colours of channels beyond three, in the order of the files' channels: far apart in hue, the
# first blue for the nuclear stain that multiplexed slides begin with.
CHANNEL_RGB = np.array(
    [
        (80, 120, 255),
        (60, 255, 60),
        (255, 60, 60),
        (255, 220, 0),
        (255, 0, 255),
        (0, 255, 255),
        (255, 140, 0),
        (200, 200, 200),
    ],
    dtype=np.float32,
)
GAP_PX = 8  # white between two pictures
DIMMED = 0.4  # brightness of what nobody annotated


def contrast(
    image: np.ndarray, low_percentile: float = 1, high_percentile: float = 99.8
) -> tuple[np.ndarray, np.ndarray]:
    """Low and high grey value of each channel of (C, Y, X), float32 (C,); NaN is left out."""
    flat = image.reshape(len(image), -1)
    low, high = np.nanpercentile(flat, [low_percentile, high_percentile], axis=1)
    return low.astype(np.float32), high.astype(np.float32)


def to_rgb(
    image: np.ndarray,
    low: np.ndarray | float | None = None,
    high: np.ndarray | float | None = None,
    gamma: float = 1,
) -> np.ndarray:
    """(C, Y, X) of any number type -> uint8 (Y, X, 3), low -> black and high -> white.

    One channel is grey, three are red, green, blue; two, or more than three, are added up in the
    colours of CHANNEL_RGB. `low` and `high` are one value or one per channel; where one is missing
    uint8 colour is left as it is, and all else is stretched by `contrast`. NaN is black. The scaled
    values are raised to `gamma`: below 1 the faint nuclei beside bright ones are seen too.
    """
    channels = len(image)
    if low is None or high is None:
        if channels == 3 and image.dtype == np.uint8:
            return np.ascontiguousarray(np.moveaxis(image, 0, 2))
        low, high = contrast(image)
    low = np.broadcast_to(np.asarray(low, np.float32), (channels,))[:, None, None]
    high = np.broadcast_to(np.asarray(high, np.float32), (channels,))[:, None, None]
    span = np.maximum(high - low, np.finfo(np.float32).tiny)  # an even channel: no division by 0
    with np.errstate(over="ignore"):  # far above `high` is white all the same
        scaled = np.clip((image.astype(np.float32) - low) / span, 0, 1)  # (C, Y, X)
    scaled = np.nan_to_num(scaled, copy=False, nan=0)
    if gamma != 1:
        scaled **= gamma
    if channels == 1:
        rgb = np.repeat(scaled[0, :, :, None], 3, axis=2) * 255
    elif channels == 3:
        rgb = np.moveaxis(scaled, 0, 2) * 255
    else:
        colours = CHANNEL_RGB[np.arange(channels) % len(CHANNEL_RGB)]
        rgb = np.clip(np.tensordot(scaled, colours, axes=(0, 0)), 0, 255)  # (Y, X, 3)
    return np.round(rgb).astype(np.uint8)


def overlay(
    picture: np.ndarray, label: np.ndarray, colour: tuple[int, int, int] = YELLOW, width_px: int = 1
) -> np.ndarray:
    """The picture (Y, X, 3) with the outline of each object of the label image (Y, X) drawn on it.

    Outlines are `width_px` wide and lie within the objects, so that touching objects keep theirs.
    Pixels labelled below 0 (not annotated) are dimmed. Raises ValueError for unlike sizes.
    """
    if picture.shape[:2] != label.shape:
        raise ValueError(f"picture is {picture.shape[:2]}, label is {label.shape}")
    drawn = picture.copy()
    left_out = label < 0
    drawn[left_out] = np.round(drawn[left_out] * DIMMED).astype(np.uint8)
    objects = np.where(left_out, 0, label)
    outline = np.zeros(label.shape, dtype=bool)
    for _ in range(width_px):
        ring = find_boundaries(objects, mode="inner")
        outline |= ring
        objects = np.where(ring, 0, objects)
    drawn[outline] = colour
    return drawn


def shrunk(picture: np.ndarray, longest_px: int) -> np.ndarray:
    """The picture with its longer side at most `longest_px`, averaged over the area of a pixel."""
    height, width = picture.shape[:2]
    scale = longest_px / max(height, width)
    if scale >= 1:
        return picture
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))


def side_by_side(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of any sizes in one row, aligned at the top, on white."""
    height = max(picture.shape[0] for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + GAP_PX * (len(pictures) - 1)
    row = np.full((height, width, 3), 255, dtype=np.uint8)
    x = 0
    for picture in pictures:
        row[: picture.shape[0], x : x + picture.shape[1]] = picture
        x += picture.shape[1] + GAP_PX
    return row


def framed(picture: np.ndarray, window: tuple[int, int, int, int], text: str) -> np.ndarray:
    """The picture with a frame, white within black, around (y, x, height, width), and a text."""
    y, x, height, width = window
    drawing = Image.fromarray(picture)
    pen = ImageDraw.Draw(drawing)
    box = (x, y, max(x, x + width - 1), max(y, y + height - 1))
    pen.rectangle(box, outline=(0, 0, 0), width=3)
    pen.rectangle(tuple(np.add(box, (1, 1, -1, -1))) if min(height, width) > 3 else box,
                  outline=(255, 255, 255))  # fmt: skip
    pen.text((x + 5, y + 4), text, fill=(255, 255, 255), stroke_width=2, stroke_fill=(0, 0, 0))
    return np.asarray(drawing)


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 (Y, X, 3) as PNG, without a time stamp."""
    Image.fromarray(picture).save(path, format="PNG")


def write_jpeg(path: str | Path, picture: np.ndarray) -> None:
    """Write uint8 (Y, X, 3) as JPEG, colour at full resolution: outlines of one pixel stay.

    A field of 4000 x 4000 px is some MB so, and tens as PNG.
    """
    Image.fromarray(picture).save(path, format="JPEG", quality=90, subsampling=0)
