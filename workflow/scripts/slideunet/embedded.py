"""Pictures inside a page, as data, within a limit on what all of them together may take."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

# What the pictures of all slides may add to a page, and the most that one picture is worth, bytes
# as they stand in the page (base64).
ALL_BYTES = 20_000_000
ONE_BYTES = 60_000
# Longer sides that are tried, px; below the last one a picture shows nothing.
SIDES_PX = (512, 384, 288, 216, 160, 120, 90, 64)
QUALITY = 70
# A version that would be so much too large by the size of the last one tried is not tried.
SURELY_TOO_LARGE = 1.5


@dataclass(frozen=True)
class Picture:
    """A picture as a data address, with its size in px."""

    address: str
    width: int
    height: int


def share_bytes(pictures: int, limit: int = ALL_BYTES, one: int = ONE_BYTES) -> int:
    """What each of so many pictures may take, so that all together keep within `limit`."""
    return min(one, limit // max(1, pictures))


def embed(path: Path, most_bytes: int, sides_px: tuple[int, ...] = SIDES_PX) -> Picture | None:
    """The largest version of a picture file (WebP) that takes at most `most_bytes` in the page.

    sides_px : longer sides that are tried, largest first; no picture is enlarged
    None where the file isn't there or is no picture, or not even the smallest version fits.
    """
    try:
        with Image.open(path) as file:
            whole = file.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    longest = max(whole.size)
    sides = sorted({min(longest, side) for side in sides_px}, reverse=True)
    likely = 0.0  # bytes for each pixel of the version before
    for side in sides:
        if likely * side**2 > SURELY_TOO_LARGE * most_bytes and side != sides[-1]:
            continue
        size = [max(1, round(length * side / longest)) for length in whole.size]
        picture = whole if side == longest else whole.resize(size, Image.Resampling.BOX)
        buffer = io.BytesIO()
        picture.save(buffer, format="WEBP", quality=QUALITY, method=2)
        address = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
        if len(address) <= most_bytes:
            return Picture(address, *picture.size)
        likely = len(address) / side**2
    return None
