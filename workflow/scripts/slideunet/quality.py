"""Simple figures of a slide's quality, on its tissue only."""

import numpy as np
from scipy import ndimage

from slideunet.tissue_mask import Tissue


def focus_of(window: np.ndarray) -> float:
    """Variance of the Laplacian of the brightness (mean over channels) of (C, Y, X): grey^2.

    The usual measure of sharpness (Pech-Pacheco et al. 2000): only good for comparing slides of
    one stain, one scanner and one pixel size.
    """
    grey = window.astype(np.float32).mean(axis=0)
    return float(ndimage.laplace(grey, mode="nearest").var(dtype=np.float64))


def slide_quality(
    overview: np.ndarray,
    tissue: Tissue,
    mpp_um: tuple[float, float] | None,
    focus: list[float],
    area_px: int,
    colour: bool,
) -> dict:
    """Figures for the archive table.

    `overview` (C, Y, X) on the mask's grid, `focus` of the sampled windows, `area_px` of level 0.
    tissue_px: level-0 pixels; tissue_mm2: None without a pixel size; saturation: mean of HSV's on
    tissue, None for what isn't colour; focus: median over windows, None without tissue;
    pen_fraction: of tissue and pen together; tissue_fraction: of the slide.
    """
    share = float(tissue.mask.mean())
    tissue_px = round(share * area_px)
    mm2 = None if mpp_um is None else tissue_px * mpp_um[0] * mpp_um[1] / 1e6
    saturation = None
    if colour and tissue.mask.any():
        colours = overview[:, tissue.mask].astype(np.float64)
        highest = colours.max(axis=0)
        saturation = float(((highest - colours.min(axis=0)) / np.maximum(highest, 1e-9)).mean())
    pen = int(tissue.pen.sum())
    return {
        "tissue_px": tissue_px,
        "tissue_mm2": _short(mm2),
        "tissue_fraction": _short(share),
        "saturation": _short(saturation),
        "focus": _short(float(np.median(focus)) if focus else None),
        "pen_fraction": _short(pen / max(1, pen + int(tissue.mask.sum()))),
    }


def _short(value: float | None) -> float | None:
    """Six digits: more are noise, and differ between machines."""
    return None if value is None else float(f"{value:.6g}")
