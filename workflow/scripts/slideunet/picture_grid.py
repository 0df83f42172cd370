"""Pictures with titles in rows and columns, on one page."""

from pathlib import Path

import numpy as np

from slideunet.pictures import shrunk

# Each picture is shrunk to so many pixels: about as many as a panel of PANEL_INCHES has at
# DOTS_PER_INCH, so that no outline of one pixel gets lost.
SHOWN_PX = 520
PANEL_INCHES, DOTS_PER_INCH = 4.4, 130
TITLE_INCHES = 0.4


def draw_grid(path: Path, rows: list[list[tuple[str, np.ndarray]]]) -> None:
    """Write rows of (title, picture (Y, X, 3) uint8) as PNG; all rows have as many pictures."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shapes = [row[0][1].shape for row in rows]
    heights = [PANEL_INCHES * shape[0] / shape[1] + TITLE_INCHES for shape in shapes]
    columns = len(rows[0])
    size = columns * PANEL_INCHES, sum(heights)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
    grid = figure.subplots(
        len(rows), columns, squeeze=False, gridspec_kw={"height_ratios": heights}
    )
    for axes, row in zip(grid, rows, strict=True):
        for axis, (title, picture) in zip(axes, row, strict=True):
            axis.imshow(shrunk(picture, SHOWN_PX), interpolation="nearest")
            axis.set_title(title, fontsize=10)
            axis.axis("off")
    # Without the version of matplotlib: equal pictures give equal bytes.
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
