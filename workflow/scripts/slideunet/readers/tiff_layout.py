"""Which pages of a TIFF are the slide: levels, channels, pixel size, by the maker's own rules.

tifffile groups pages into series for the formats it knows (SVS, NDPI, SCN, Philips, QPTIFF, OME,
ImageJ, generic pyramids). This module picks the series that is the slide, never a label, macro or
thumbnail, and reads what the format says of pixel size, objective and channels
(formats: openslide.org/formats; Bio-Formats' OME-TIFF specification; PerkinElmer's QPTIFF note).
"""

import math
import re
from dataclasses import dataclass, field
from typing import Any

import tifffile

from slideunet.errors import SlideError
from slideunet.readers import tiff_facts
from slideunet.readers.base import aspect_fits
from slideunet.readers.safexml import parse_xml

# How files call what lies beside the slide, at the start of a description's line or as a name.
_EXTRA = r"(label|macro|thumbnail|overview|preview)"
_EXTRA_LINE = re.compile(rf"(^|\n)\s*{_EXTRA}\b", re.IGNORECASE)
_EXTRA_NAME = re.compile(rf"\s*(slide )?{_EXTRA}( image)?\s*", re.IGNORECASE)
# Vendors whose files hold the focal planes of one scan; elsewhere a stack is not a slide.
_FOCAL_PLANES = {"ndpi", "svs"}
_GENERIC = {"generic", "uniform", "shaped", "imagej"}
OME_NUMBER_MAX = 10**6
# A small NDPI level may be one plain JPEG; a larger one only OpenSlide reads in pieces.
NDPI_STRIP_MAX_PX = 4096


class NotPlacedError(Exception):
    """A slide whose tiles tifffile can't put in place: another reader may."""


@dataclass(frozen=True)
class Plane:
    """One picture of a level: a page (or frame) of tifffile, and bytes to add to its offsets."""

    page: Any
    shift: int = 0


@dataclass
class Layout:
    """The slide in a TIFF: planes per level (one per channel, or one colour page)."""

    format: str
    levels: list[list[Plane]]
    channels: list[str] = field(default_factory=list)
    mpp_um: tuple[float, float] | None = None
    objective_power: float | None = None
    glass: bool = False  # bright field: tiles that were never scanned are white


def layout_of(path: str, tif: tifffile.TiffFile) -> Layout:
    """Find the slide in an open TIFF. Raises SlideError, or NotPlacedError for other readers."""
    first = tif.pages.first
    _refuse_unplaced(path, tif)
    if tif.is_ome:
        _check_ome(path, tif)
    series = [s for s in tif.series if s.keyframe is not None and s.pages]
    if not series:
        raise SlideError(f"{path}: holds no image")
    kind = series[0].kind
    main = _main_series(path, tif, series, kind)
    if kind == "svs":  # tifffile takes reduced pages for labels; those with tiles are levels
        series = [main, *(tifffile.TiffPageSeries([p], kind=kind) for p in tif.pages if p.is_tiled)]
    planes = [_planes(path, level, kind) for level in _series_levels(series, main, kind)]
    if any(len(level) != len(planes[0]) for level in planes):
        raise SlideError(f"{path}: its levels don't have the same number of channels")
    if kind == "ndpi" and any(_too_long(level[0].page.keyframe) for level in planes):
        raise NotPlacedError("an NDPI level without restart markers, one JPEG as large as it is")
    layout = Layout(kind, planes)
    layout.mpp_um = tiff_facts.pixel_size(path, tif, kind, main)
    layout.objective_power = tiff_facts.objective(path, tif, kind, main)
    layout.channels = tiff_facts.channel_names(path, tif, kind, main, planes[0])
    layout.glass = kind in {"svs", "ndpi", "scn", "philips"} and first.photometric in {2, 6}
    return layout


def _too_long(key) -> bool:
    return not key.is_tiled and max(key.imagewidth, key.imagelength) > NDPI_STRIP_MAX_PX


def _refuse_unplaced(path: str, tif: tifffile.TiffFile) -> None:
    """Formats whose tiles overlap, which tifffile would lay side by side."""
    first = tif.pages.first
    if tif.is_bif:
        raise NotPlacedError("Ventana BIF tiles overlap")
    if first.software.startswith("MedScan"):
        raise NotPlacedError("Trestle tiles overlap")
    if tif.is_scn:
        images = scn_images(path, first.description)
        if len(images) != 1:
            raise NotPlacedError(f"SCN collection of {len(images)} scanned areas")


def scn_images(path: str, description: str) -> list[int]:
    """Indices of the SCN images that are not the macro image (which covers the whole glass)."""
    root = parse_xml(path, description)
    if root is None or root.find("collection") is None:
        raise SlideError(f"{path}: its Leica description isn't XML of a collection")
    whole = root.find("collection")
    size = whole.get("sizeX"), whole.get("sizeY")
    found = []
    for index, image in enumerate(whole.findall("image")):
        view = image.find("view")
        where = None if view is None else (view.get("offsetX"), view.get("offsetY"))
        macro = where == ("0", "0") and (view.get("sizeX"), view.get("sizeY")) == size
        if not macro:
            found.append(index)
    return found


def _check_ome(path: str, tif: tifffile.TiffFile) -> None:
    """Refuse OME-XML whose numbers would make any reader allocate without end."""
    root = parse_xml(path, tif.pages.first.description)
    if root is None:
        raise SlideError(f"{path}: its OME-XML can't be parsed")
    for element in root.iter():
        if element.tag.startswith("ModuloAlong"):
            raise SlideError(f"{path}: OME-XML with sub-dimensions (modulo): not a slide")
        for name, value in element.attrib.items():
            if not re.fullmatch(r"Size[CZT]|First[CZT]|IFD|NumPlanes|PlaneCount", name):
                continue
            if not value.isdigit() or int(value) > OME_NUMBER_MAX:
                raise SlideError(f"{path}: OME-XML says {element.tag} {name}={value[:20]}")


def _main_series(path: str, tif, series: list, kind: str):
    """The series that is the slide."""
    if kind == "scn":
        return series[scn_images(path, tif.pages.first.description)[0]]
    if kind in {"svs", "philips", "qpi"}:
        return series[0]  # tifffile puts the baseline first and names the others
    chosen = [s for s in series if not _is_extra(s, kind)]
    if not chosen:
        raise SlideError(f"{path}: holds only label, macro or thumbnail images")
    return max(chosen, key=lambda s: s.keyframe.imagewidth * s.keyframe.imagelength)


def _is_extra(series, kind: str) -> bool:
    key = series.keyframe
    if kind == "ndpi":
        return series.name in {"Macro", "Map"}
    if kind == "ome":
        return bool(_EXTRA_NAME.fullmatch(series.name or ""))
    if key.is_reduced or key.is_subifd:
        return True
    return bool(_EXTRA_LINE.search(key.description[:1000]))


def _series_levels(series: list, main, kind: str) -> list:
    """The pyramid of the main series; generic files also claim the reduced pages of its shape."""
    levels = list(main.levels)
    if kind not in _GENERIC | {"svs"}:
        return levels
    key = main.keyframe
    for other in series:
        page = other.keyframe
        alike = page.dtype == key.dtype and page.samplesperpixel == key.samplesperpixel
        claims = page.is_reduced or page.is_subifd
        if other is main or not claims or not alike or page.is_tiled != key.is_tiled:
            continue
        if page.imagewidth >= key.imagewidth or _EXTRA_LINE.search(page.description[:1000]):
            continue
        # A strip image of another shape is a thumbnail or a label; a tile pyramid's is damage.
        shape = (page.imagelength, page.imagewidth)
        if not page.is_tiled and not aspect_fits((key.imagelength, key.imagewidth), shape):
            continue
        levels.append(other)
    return sorted(levels, key=lambda s: -s.keyframe.imagewidth)


def _planes(path: str, series, kind: str) -> list[Plane]:
    """The planes of one level, a channel each; refuses stacks over focus or time."""
    axes, shape = series.get_axes(squeeze=False), series.get_shape(squeeze=False)
    key = series.keyframe
    if key.imagedepth > 1 or key.axes not in {"YX", "YXS", "SYX"}:
        raise SlideError(f"{path}: a volume ({key.axes} {key.shape}), not a slide")
    lead = axes.index("Y") - (key.axes == "SYX")
    axes, shape = axes[:lead], tuple(int(n) for n in shape[:lead])
    pick = []
    for axis, size in zip(axes, shape, strict=True):
        if axis == "C" or size == 1:
            pick.append(range(size))
        elif axis == "Z" and kind in _FOCAL_PLANES:
            pick.append([nearest_focus(series, size)])
        else:
            raise SlideError(_stack_reason(path, axis, size))
    if key.samplesperpixel > 1 and math.prod(len(p) for p in pick) > 1:
        raise SlideError(f"{path}: several colour pictures of one size: which is the slide?")
    numbers = [0]
    for size, wanted in zip(shape, pick, strict=True):
        numbers = [n * size + w for n in numbers for w in wanted]
    return [_plane(path, series, number, math.prod(shape)) for number in numbers]


def _stack_reason(path: str, axis: str, size: int) -> str:
    words = {"Z": "focal planes", "T": "time points", "I": "pages of one size"}
    what = words.get(axis, f"pictures along axis {axis}")
    return f"{path}: {size} {what}: a stack, not a slide; save the one to segment by itself"


def nearest_focus(series, size: int) -> int:
    """Index of the focal plane nearest to the nominal focus (NDPI tag 65424, SVS OffsetZ)."""
    offsets = []
    for page in list(series.pages)[:size]:
        value = getattr(page, "tags", {}).get(65424)
        offset = value.value if value is not None else None
        if offset is None:
            found = re.search(r"OffsetZ\s*=\s*(-?[0-9.]+)", getattr(page, "description", ""))
            offset = float(found[1]) if found else 0.0
        offsets.append(abs(float(offset)))
    return offsets.index(min(offsets)) if offsets else 0


def _plane(path: str, series, number: int, total: int) -> Plane:
    pages = list(series.pages)
    if len(pages) == total:
        if pages[number] is None:
            raise SlideError(f"{path}: the picture of channel {number} is missing")
        return Plane(pages[number])
    # ImageJ and others describe one page and store all planes behind it, uncompressed.
    first = pages[0]
    if len(pages) == 1 and first.is_contiguous:
        return Plane(first, number * first.keyframe.nbytes)
    raise SlideError(f"{path}: says it has {total} pictures and has {len(pages)}")
