"""One slide's objects in a row of numbers, and where they lie densest."""

import numpy as np

from slideunet.columns import slug

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def summarize(
    area_px: np.ndarray,
    class_of: np.ndarray,
    class_names: list[str],
    *,
    mpp_um: tuple[float, float] | None = None,
    tissue_area_um2: float | None = None,
) -> dict[str, float | int | None]:
    """Count, density, quantiles of area and fractions of the classes (1..) of all objects.

    `class_names`: background first. Numbers that can't be had (no pixel size, no tissue, no
    objects) are None. The keys are the same for all slides of one configuration.
    """
    count = len(area_px)
    row: dict[str, float | int | None] = {"objects": count}
    row["density_per_mm2"] = count / (tissue_area_um2 / 1e6) if tissue_area_um2 else None
    pixel_um2 = mpp_um[0] * mpp_um[1] if mpp_um else None
    for quantile in QUANTILES:
        name = f"q{round(100 * quantile):02d}"
        area = float(np.quantile(area_px, quantile)) if count else None
        row[f"area_px_{name}"] = area
        row[f"area_um2_{name}"] = area * pixel_um2 if area and pixel_um2 else None
    for number, name in enumerate(class_names[1:], 1):
        share = float((np.asarray(class_of) == number).mean()) if count else None
        row[f"fraction_{slug(name)}"] = share
    return row


def density_map(
    centroid_y_px: np.ndarray, centroid_x_px: np.ndarray, shape: tuple[int, int], field_px: float
) -> np.ndarray:
    """Objects (int64) in each square field of `field_px`, rows x columns from the first pixel on.

    The last row and column may stand for less than a field.
    """
    rows, columns = (max(1, int(np.ceil(size / field_px))) for size in shape)
    row = np.minimum(((centroid_y_px + 0.5) // field_px).astype(np.int64), rows - 1)
    column = np.minimum(((centroid_x_px + 0.5) // field_px).astype(np.int64), columns - 1)
    counts = np.bincount(row * columns + column, minlength=rows * columns)
    return counts.reshape(rows, columns)


def densest_fields(density: np.ndarray, count: int) -> list[tuple[int, int]]:
    """Row and column of the `count` fields with most objects; fields without any are left out."""
    order = np.argsort(-density.ravel(), kind="stable")[:count]
    rows, columns = np.unravel_index(order, density.shape)
    return [(int(y), int(x)) for y, x in zip(rows, columns, strict=True) if density[y, x] > 0]
