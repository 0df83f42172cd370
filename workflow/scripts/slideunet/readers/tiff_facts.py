"""What a TIFF slide says of itself: pixel size, objective, channel names; None where it is silent.

Pixel sizes are handed on as written, true or not (`base.check_mpp` judges): the only rule here is
where a number may be believed to be one. Plain TIFF resolution tags are made for printers; they
count as a pixel size only where the format defines them so (NDPI, QPTIFF) or where the value is
one that no printer has (below 10 um, 2,540 dots per inch).
"""

import re

from slideunet.readers.base import MPP_MAX_UM
from slideunet.readers.safexml import parse_xml

# ResolutionUnit 2 is inch, 3 is cm (TIFF 6.0).
_TAG_UNIT_UM = {2: 25400.0, 3: 10000.0}
# OME's UnitsLength that a microscope writes; ImageJ writes "micron" and an escaped mu.
UNIT_UM = {
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer"), 1.0),
    "nm": 1e-3,
    "nanometer": 1e-3,
    "pm": 1e-6,
    "å": 1e-4,
    "angstrom": 1e-4,
    "mm": 1e3,
    "millimeter": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "in": 25400.0,
    "inch": 25400.0,
}


def pixel_size(path: str, tif, kind: str, series) -> tuple[float, float] | None:
    """Pixel size (y, x) in um of the series' first level, as the format states it."""
    page = series.keyframe
    stated = {
        "svs": lambda: _square(_aperio(page.description).get("MPP")),
        "ome": lambda: _ome_size(_ome_pixels(path, tif, series)),
        "scn": lambda: _scn_size(path, tif, series),
        "philips": lambda: _philips_size(path, tif),
        "ndpi": lambda: _resolution(page),
        "qpi": lambda: _resolution(page),
        "imagej": lambda: _imagej_size(tif, page),
    }
    if kind in stated:
        return stated[kind]()
    size = _resolution(page)
    return size if size is not None and 0 < max(size) <= MPP_MAX_UM else None


def objective(path: str, tif, kind: str, series) -> float | None:
    """Magnification of the objective as the file states it, or None."""
    page = series.keyframe
    value = None
    if kind == "svs":
        value = _aperio(page.description).get("AppMag")
    elif kind == "ndpi":
        value = page.tags.valueof(65421)
    elif kind == "qpi":
        root = parse_xml(path, page.description)
        value = None if root is None else root.findtext(".//Objective")
    elif kind == "scn":
        root = parse_xml(path, tif.pages.first.description)
        value = None if root is None else root.findtext(".//objectiveSettings/objective")
    elif kind == "ome":
        root = parse_xml(path, tif.pages.first.description)
        found = None if root is None else root.find(".//Instrument/Objective")
        value = None if found is None else found.get("NominalMagnification")
    number = _number(re.sub(r"[xX]\s*$", "", str(value).strip()))
    return number if number is not None and 0 < number < 1000 else None


def channel_names(path: str, tif, kind: str, series, planes: list) -> list[str]:
    """One name per plane; [] where the file names none (colours are named by the reader)."""
    if kind == "qpi":
        roots = [parse_xml(path, getattr(plane.page, "description", "")) for plane in planes]
        return _filled([None if r is None else r.findtext("Name") for r in roots])
    if kind == "ome":
        pixels = _ome_pixels(path, tif, series)
        found = [] if pixels is None else pixels.findall("Channel")
        names = [channel.get("Name") for channel in found]
        return _filled(names) if len(names) == len(planes) else []
    return []


def _filled(names: list[str | None]) -> list[str]:
    return [name.strip() if name else f"channel {i}" for i, name in enumerate(names)]


def _number(text) -> float | None:
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _square(text: str | None) -> tuple[float, float] | None:
    value = _number(text)
    return None if value is None else (value, value)


def _aperio(description: str) -> dict[str, str]:
    """Aperio's `key = value` pairs, separated by bars, behind the first line."""
    pairs = (item.partition("=") for item in description.split("|"))
    return {key.strip(): value.strip() for key, sign, value in pairs if sign}


def _resolution(page) -> tuple[float, float] | None:
    """XResolution and YResolution with a unit of length; zero and nonsense become NaN."""
    unit = _TAG_UNIT_UM.get(page.tags.valueof(296, default=1))
    tags = page.tags.valueof(283), page.tags.valueof(282)
    if unit is None or None in tags:
        return None
    size = []
    for value in tags:
        top, bottom = value if isinstance(value, tuple) else (value, 1)
        size.append(unit * bottom / top if top else float("nan"))
    return size[0], size[1]


def _imagej_size(tif, page) -> tuple[float, float] | None:
    unit = UNIT_UM.get(str((tif.imagej_metadata or {}).get("unit", "")).strip().lower())
    tags = page.tags.valueof(283), page.tags.valueof(282)
    if unit is None or None in tags or not all(tags[0]) or not all(tags[1]):
        return None
    return unit * tags[0][1] / tags[0][0], unit * tags[1][1] / tags[1][0]


def _ome_pixels(path: str, tif, series):
    """The Pixels element of the series: the image of its name, else the one of its place."""
    root = parse_xml(path, tif.pages.first.description)
    if root is None:
        return None
    images = root.findall("Image")
    named = [image for image in images if series.name and image.get("Name") == series.name]
    place = getattr(series, "_index", 0) or 0
    image = named[0] if len(named) == 1 else (images[place] if place < len(images) else None)
    return None if image is None else image.find("Pixels")


def _ome_size(pixels) -> tuple[float, float] | None:
    if pixels is None:
        return None
    size = []
    for axis in "YX":
        value = _number(pixels.get(f"PhysicalSize{axis}"))
        unit = UNIT_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").strip().lower())
        if value is None or unit is None:  # also "pixel" and "reference frame"
            return None
        size.append(value * unit)
    return size[0], size[1]


def _scn_size(path: str, tif, series) -> tuple[float, float] | None:
    """The view's size in nm over the pixels of its first level (openslide.org/formats/leica)."""
    root = parse_xml(path, tif.pages.first.description)
    images = [] if root is None else root.findall("collection/image")
    place = getattr(series, "_index", 0) or 0
    view = images[place].find("view") if place < len(images) else None
    nm = [None if view is None else _number(view.get(f"size{axis}")) for axis in "YX"]
    if None in nm:
        return None
    page = series.keyframe
    return nm[0] / 1000 / page.imagelength, nm[1] / 1000 / page.imagewidth


def _philips_size(path: str, tif) -> tuple[float, float] | None:
    """The first level's DICOM_PIXEL_SPACING, in mm (openslide.org/formats/philips)."""
    root = parse_xml(path, tif.pages.first.description)
    if root is None:
        return None
    for data in root.iter("DataObject"):
        if data.get("ObjectType") != "PixelDataRepresentation":
            continue
        for item in data.findall("Attribute"):
            if item.get("Name") == "DICOM_PIXEL_SPACING":
                mm = [_number(v) for v in (item.text or "").replace('"', "").split()]
                if len(mm) == 2 and None not in mm:
                    return mm[0] * 1000, mm[1] * 1000
    return None
