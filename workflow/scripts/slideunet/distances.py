"""Exact distances from each pixel to the two nearest instances of a label image.

Two ways to the same integers, as squared distances on a grid are integers:

- `by_windows`: one distance transform per instance in a window around it (scipy);
- `by_columns`: one separable pass over all instances at once (compiled by numba), the same time
  per pixel whatever the number of instances.

`two_nearest` takes whichever is quicker, counting the seconds numba needs to compile.
"""

from functools import cache

import numpy as np

# Stands for "nothing within reach": larger than every squared distance in reach.
FAR = 1 << 28
# Scipy transforms about 50 Mpx of windows per second; numba starts and compiles in 3.5 s (in 0.4 s
# once its cache holds the machine code). Below this many window pixels scipy is done first, or so
# little later that it does not matter.
WINDOW_PX_WORTH_COMPILING = 50_000_000
# Distance along a column, px, that stands for "nothing within reach", by type: squared, with the
# square of a shorter distance added, it fits into the type.
FAR_PX = {np.int16: 127, np.int32: 1 << 14}
# Ids below this are renumbered by a table, others by sorting.
TABLE_SIZE = 1 << 24
_asked_for = {"window_px": 0.0}  # in this process, over all images and blocks so far


def two_nearest(label: np.ndarray, margin_px: int, second_px: int, compiled: bool) -> np.ndarray:
    """Squared distances from each pixel to the nearest and to the second nearest instance.

    label: (Y, X) int32, instances from 1, everything below 1 is background.
    Returns (2, Y - 2 margin_px, X - 2 margin_px) int32 or int16: the pixels that have all their
    surroundings within margin_px inside `label`. The first distance is exact up to margin_px, the
    second up to second_px <= margin_px; what stands for a greater one is greater than that, and
    otherwise left open.
    """
    if compiled:
        return by_columns(label, margin_px, second_px)
    return by_windows(label, margin_px)


def worth_compiling(label: np.ndarray, margin_px: int) -> bool:
    """Whether windows around the instances met so far take longer than to compile.

    label: (Y, X) int32, the next image or block, not asked about before. The windows' size is an
    estimate, from every eighth pixel of every eighth row: it decides on speed alone.
    """
    from importlib.util import find_spec

    sample = label[::8, ::8]
    sample = sample[sample > 0]
    if sample.size:
        instances = np.unique(sample).size
        side = (sample.size * 64 / instances) ** 0.5 + 2 * margin_px
        _asked_for["window_px"] += instances * side**2
    enough = _asked_for["window_px"] > WINDOW_PX_WORTH_COMPILING
    return enough and find_spec("numba") is not None


def _boxes(label: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """Label image renumbered 1.. without gaps, and the bounding box of each instance."""
    from scipy import ndimage

    # Ids can be any positive int32: renumbered, so that nothing is as long as the largest id.
    ids = np.unique(label[label > 0])
    dense = np.searchsorted(ids, label).astype(np.int32) + 1
    dense[label <= 0] = 0
    return dense, ndimage.find_objects(dense)


def by_windows(label: np.ndarray, margin_px: int) -> np.ndarray:
    """`two_nearest` with one Euclidean distance transform per instance, each in its own window."""
    from scipy import ndimage

    dense, boxes = _boxes(label)
    nearest = np.full((2, *label.shape), FAR, np.int32)
    for number, box in enumerate(boxes, start=1):
        window = tuple(
            slice(max(0, side.start - margin_px), min(length, side.stop + margin_px))
            for side, length in zip(box, label.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(dense[window] != number)
        squared = np.rint(distance * distance).astype(np.int32)
        first, second = nearest[0][window], nearest[1][window]
        np.minimum(second, np.maximum(first, squared), out=second)
        np.minimum(first, squared, out=first)
    height, width = label.shape
    return nearest[:, margin_px : height - margin_px, margin_px : width - margin_px]


def by_columns(label: np.ndarray, margin_px: int, second_px: int) -> np.ndarray:
    """`two_nearest` with one separable transform for all instances.

    First along columns: each pixel gets the two nearest distinct instances above or below it in
    its own column, with their squared distances. Then along rows: a pixel looks at the columns
    within reach and keeps the two nearest distinct instances of all their candidates. Two per
    column are enough: an instance that is third in a column has two nearer ones there.

    Distances and numbers of instances are 16-bit where they fit, so that twice as many go into a
    vector of the processor; the answers within reach are the same.
    """
    along_columns, along_rows = _compiled()
    height, width = label.shape
    numbers = _short(label) if margin_px < FAR_PX[np.int16] and height < 1 << 14 else None
    if numbers is None:
        numbers = np.ascontiguousarray(label, dtype=np.int32)
    kind = numbers.dtype.type
    distance = np.empty((2, height, width), kind)
    owner = np.empty((2, height, width), kind)
    along_columns(numbers, distance, owner, FAR_PX[kind])
    nearest = np.empty((2, height - 2 * margin_px, width - 2 * margin_px), kind)
    along_rows(distance, owner, margin_px, second_px, nearest)
    return nearest


def _short(label: np.ndarray) -> np.ndarray | None:
    """Label image (Y, X) with numbers that fit into int16, background 0; None where there are more.

    Only which pixels are of one instance is kept, not its number.
    """
    most = np.iinfo(np.int16).max
    top = int(label.max(initial=0))
    inside = np.maximum(label, 0)
    if top > most:
        if top < TABLE_SIZE:
            present = np.zeros(top + 1, bool)
            present[inside] = True
            present[0] = False
            if np.count_nonzero(present) > most:
                return None
            inside = np.cumsum(present, dtype=np.int32).astype(np.int16)[inside] * (inside > 0)
        else:
            ids = np.unique(inside)
            if len(ids) > most:
                return None
            inside = np.searchsorted(ids, inside) + int(ids[0] > 0)
    return inside.astype(np.int16)


@cache
def _compiled():
    """The two passes, compiled. Numba keeps the machine code beside this file or in its cache."""
    import numba

    try:
        return tuple(numba.njit(cache=True)(f) for f in (_along_columns, _along_rows))
    except RuntimeError:  # no folder that numba may write to: compile for this process alone
        return tuple(numba.njit(f) for f in (_along_columns, _along_rows))


# The inner loops below run over x alone and choose by value, without branches: so written, the
# compiler turns them into vector instructions, which is where the speed comes from.


def _along_columns(label, distance, owner, far):
    """Fill distance, owner (2, Y, X) with the two nearest distinct instances of the column."""
    height, width = label.shape
    distance[:] = far * far
    owner[:] = 0
    # Numbers of a narrower type than the machine's are widened when they are added; written to an
    # array of their own type and read again they are as narrow as they were.
    squared = np.empty_like(label[0])
    for direction in range(2):
        # Last instance met on the way, and the last one met before it that is another; in which
        # row, `far` before the first where there was none.
        last, other = np.zeros_like(label[0]), np.zeros_like(label[0])
        last_y, other_y = np.full_like(label[0], -far), np.full_like(label[0], -far)
        for step in range(height):
            y = step if direction == 0 else height - 1 - step
            row = label[y]
            d1, d2, o1, o2 = distance[0, y], distance[1, y], owner[0, y], owner[1, y]
            for x in range(width):
                this = row[x]
                inside = this > 0
                change = inside and this != last[x]
                other[x] = last[x] if change else other[x]
                other_y[x] = last_y[x] if change else other_y[x]
                last[x] = this if inside else last[x]
                last_y[x] = step if inside else last_y[x]
                for which in range(2):
                    who = last[x] if which == 0 else other[x]
                    ago = min(step - (last_y[x] if which == 0 else other_y[x]), far)
                    squared[x] = ago * ago
                    d = squared[x]
                    a, b, first = d1[x], d2[x], o1[x]
                    known = who == first
                    worse = max(a, d)
                    keep = known or b <= worse
                    o2[x] = o2[x] if keep else (first if d < a else who)
                    d2[x] = b if keep else worse
                    o1[x] = who if d < a else first
                    d1[x] = min(a, d)


def _along_rows(distance, owner, margin, second_reach, nearest):
    """Fill nearest (2, Y - 2 margin, X - 2 margin) from what _along_columns found."""
    _, height, width = nearest.shape
    first, total = np.empty_like(owner[0, 0, :width]), np.empty_like(nearest[0, 0])
    for y in range(height):
        d1, d2 = nearest[0, y], nearest[1, y]
        d1[:] = distance[0, y + margin, margin : margin + width]
        d2[:] = distance[1, y + margin, margin : margin + width]
        first[:] = owner[0, y + margin, margin : margin + width]
        for shift in range(2, 2 * margin + 2):
            dx = shift // 2 if shift % 2 == 0 else -(shift // 2)
            add = dx * dx
            # Further out than second_reach only the nearest one counts: were its distance to
            # shrink there, the second one would be out of its reach anyway.
            for which in range(2 if abs(dx) <= second_reach else 1):
                candidate = distance[which, y + margin, margin + dx : margin + dx + width]
                who = owner[which, y + margin, margin + dx : margin + dx + width]
                if abs(dx) <= second_reach:
                    for x in range(width):
                        total[x] = candidate[x] + add
                        d = total[x]
                        a, b, known = d1[x], d2[x], first[x]
                        d2[x] = b if who[x] == known else min(b, max(a, d))
                        first[x] = who[x] if d < a else known
                        d1[x] = min(a, d)
                else:
                    for x in range(width):
                        total[x] = candidate[x] + add
                        d1[x] = min(d1[x], total[x])
