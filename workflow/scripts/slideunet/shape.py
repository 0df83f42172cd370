"""From sums over objects' pixels to their shapes and means: regionprops' formulas, vectorised."""

import numpy as np

from slideunet.sums import exact


def centroid_and_spread(table: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    """Centroid (y, x) and central second moments per pixel (yy, xx, xy), float64.

    Moments are moved from the slide's origin to the whole pixel next to the centroid while they
    are whole numbers: far from the origin nothing is lost by subtracting large floats.
    """
    n = table["n"]
    count = n.astype(np.float64)
    near = {axis: np.rint(table[axis] / count).astype(np.int64) for axis in "yx"}
    rest = {axis: table[axis] - n * near[axis] for axis in "yx"}
    moments = []
    for a, b in ("yy", "xx", "xy"):
        shift = near[a] * table[b] + near[b] * table[a] - n * near[a] * near[b]
        rough = (
            table[f"{a}{b}~"]
            - near[a] * table[b].astype(np.float64)
            - near[b] * rest[a].astype(np.float64)
        )
        whole = exact(table[a + b] - shift, rough)
        moments.append(whole / count - (rest[a] / count) * (rest[b] / count))
    return (*(near[axis] + rest[axis] / count for axis in "yx"), *moments)


def eccentricity(yy: np.ndarray, xx: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """sqrt(1 - smaller / larger eigenvalue of the inertia tensor); 0 for a single pixel."""
    middle, half = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    large, small = middle + half, np.maximum(middle - half, 0)
    return np.sqrt(1 - np.divide(small, large, out=np.ones_like(large), where=large > 0))


def orientation(yy: np.ndarray, xx: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Angle from the row axis to the major axis in radians; of round objects as regionprops has."""
    round_objects = np.where(xy > 0, np.pi / 4, -np.pi / 4)
    return np.where(xx == yy, round_objects, 0.5 * np.arctan2(2 * xy, yy - xx))


def mean_and_std(table: dict, signal: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of signal number `signal`, in its whole steps."""
    n, total = table["n"], table[f"sum {signal}"]
    count = n.astype(np.float64)
    near = np.rint(total / count).astype(np.int64)
    rest = (total - n * near).astype(np.float64)
    square = table[f"square {signal}"] - 2 * near * total + n * near * near
    rough = table[f"square~ {signal}"] - near * (total.astype(np.float64) + rest)
    spread = exact(square, rough) / count - (rest / count) ** 2
    return near + rest / count, np.sqrt(np.maximum(spread, 0))
