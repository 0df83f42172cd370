"""Which parts of a picture are worth storing for training, and how they become one image.

On a slide a few regions are annotated (`Region*` outlines, or the file of column `annotated`), and
the rest is not. Each region is cut out with what a network sees around it, which is not annotated
either, and the pieces are stacked: a row of the table stays one image, however far apart on the
slide its regions lie.
"""

from collections.abc import Sequence

import numpy as np

from slideunet.annotations import IGNORE_CLASS, IGNORE_LABEL
from slideunet.errors import UserError
from slideunet.images import Region
from slideunet.polygons import Outline

# What a network of depth 5 sees on each side of a pixel is 188 px (geometry.context_px).
MARGIN_PX = 192

Piece = tuple[np.ndarray, np.ndarray, np.ndarray]  # image (C, Y, X), label and class (Y, X)


def windows_around(
    outlines: Sequence[Outline], whole_yx: tuple[int, int], margin_px: int
) -> list[Region]:
    """Windows (y, x, height, width) that hold the outlines and their margin, none overlapping.

    Windows that overlap become one, in the order of their first rows. Outlines beyond the picture
    are left out.
    """
    found: list[tuple[int, int, int, int]] = []  # y0, x0, y1, x1
    for outline in outlines:
        corners = np.concatenate([part[0] for part in outline.parts])
        low = np.floor(corners.min(axis=0)).astype(int)
        high = np.ceil(corners.max(axis=0)).astype(int)
        if (high <= 0).any() or (low >= whole_yx).any():
            continue
        low, high = np.maximum(low - margin_px, 0), np.minimum(high + margin_px, whole_yx)
        window = (*low.tolist(), *high.tolist())
        # What grew may reach further ones.
        while near := [other for other in found if _overlap(other, window)]:
            found = [other for other in found if other not in near]
            starts, ends = zip(*((w[:2], w[2:]) for w in (window, *near)), strict=True)
            window = (*np.min(starts, axis=0).tolist(), *np.max(ends, axis=0).tolist())
        found.append(window)
    return [(y0, x0, y1 - y0, x1 - x0) for y0, x0, y1, x1 in sorted(found)]


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def stacked(pieces: Sequence[Piece]) -> Piece:
    """The pieces one below the other, aligned at the left; instances numbered through.

    What narrower pieces lack on the right is filled with their mirror image, so that the grey
    values stay those of the slide, and not annotated. One piece is returned as it is.
    """
    if len(pieces) == 1:
        return pieces[0]
    width = max(label.shape[1] for _, label, _ in pieces)
    images, labels, classes, count = [], [], [], 0
    for image, label, class_image in pieces:
        present = np.unique(label[label > 0])
        if count + len(present) > np.iinfo(np.int32).max:
            raise UserError(f"{count + len(present)} objects: more than one image can hold")
        own = np.where(label > 0, np.searchsorted(present, label) + 1 + count, label)
        count += len(present)
        right = (0, width - label.shape[1])
        images.append(np.pad(image, ((0, 0), (0, 0), right), mode="symmetric"))
        labels.append(np.pad(own.astype(np.int32), ((0, 0), right), constant_values=IGNORE_LABEL))
        classes.append(np.pad(class_image, ((0, 0), right), constant_values=IGNORE_CLASS))
    return np.concatenate(images, axis=1), np.concatenate(labels), np.concatenate(classes)
