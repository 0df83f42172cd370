"""A heat map of where a slide's objects lie."""

from pathlib import Path

import numpy as np


def draw_density(
    path: Path,
    counts: np.ndarray,
    shape: tuple[int, int],
    cell_px: float,
    pixel_um: tuple[float, float] | None,
) -> None:
    """Write counts (rows, columns) of square cells of `cell_px` as a PNG with axes and a scale.

    `shape` (Y, X) of the slide in the same pixels, `pixel_um` their size: axes in mm and objects
    per mm2; without it axes in px and objects per cell. Cells cut by the slide's edge count as
    whole ones: of a sliver's area one object would be a peak. Equal input gives equal bytes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if pixel_um is None:
        unit, per_px, area = "px", (1.0, 1.0), 1.0
        said = f"objects per cell of {cell_px:.0f} px"
    else:
        unit, per_px = "mm", (pixel_um[0] / 1000, pixel_um[1] / 1000)
        area, said = cell_px**2 * per_px[0] * per_px[1], "objects per mm2"
    inches = np.array(shape[::-1]) / max(shape) * 6
    width, height = np.maximum(inches, 2)
    figure = Figure(figsize=(width + 1.5, height + 0.6), dpi=120)
    axes = figure.add_subplot()
    # A cell reaches beyond the slide by what it lacks: the limits cut it off.
    edge = [n * cell_px * p for n, p in zip(counts.shape, per_px, strict=True)]
    shown = axes.imshow(
        counts / area, extent=(0, edge[1], edge[0], 0), cmap="viridis", vmin=0, aspect="equal"
    )
    axes.set(
        xlim=(0, shape[1] * per_px[1]), ylim=(shape[0] * per_px[0], 0), xlabel=unit, ylabel=unit
    )
    figure.colorbar(shown, ax=axes, label=said)
    figure.tight_layout()
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
