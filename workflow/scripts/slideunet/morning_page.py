"""The morning report as one HTML page: no file beside it is needed, nothing is loaded.

All text goes through jinja2's autoescape; the page's own script and style are let in by their
digests, and its policy forbids everything else, so that no slide's name can bring in code.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

PAGE = Path(__file__).parent / "page"
FILES = ("morning.html", "morning.css", "morning.js")


@dataclass(frozen=True)
class Column:
    """A column of the table of slides: key among a slide's values, title, what it is, digits."""

    key: str
    title: str
    about: str
    digits: int = 3


COLUMNS = (
    Column("width_px", "width px", "of the slide at full resolution", 6),
    Column("height_px", "height px", "of the slide at full resolution", 6),
    Column("tissue_mm2", "tissue mm²", "area of the tissue found"),
    Column("objects", "objects", "how many were found", 9),
    Column("density_per_mm2", "per mm²", "objects per mm² of tissue"),
    Column("object_f1", "F1", "of objects against the slide's reference, IoU 0.5"),
    Column("tissue_fraction", "tissue share", "of the slide's area"),
    Column("focus", "focus", "variance of the Laplacian: compare within one scanner and stain"),
    Column("saturation", "saturation", "mean on tissue, colour slides"),
    Column("pen_fraction", "pen share", "of pen and tissue together"),
    Column("index_s", "index s", "seconds of the last job of rule index"),
    Column("segment_s", "segment s", "seconds of the last job of rule segment"),
    Column("objects_s", "objects s", "seconds of the last job of rule objects"),
    Column("overlay_s", "overlay s", "seconds of the last job of rule overlay"),
    Column("compare_s", "compare s", "seconds of the last job of rule compare"),
    Column("mpx_per_s", "Mpx/s", "megapixels computed a second while segmenting"),
    Column("device_busy_percent", "busy %", "share of that time in which the devices computed"),
)


def render(**facts: object) -> str:
    """The page.

    facts: title, made (when), counts {done, failed, skipped}, slides (night.Slide, in order),
        pictures (slide -> {"thumbnail", "overlay"} -> embedded.Picture or None), totals (list of
        name, text), models (list of dicts), tables (list of title, rows), provenance (list of
        title, mapping), configuration (text), notes (list of lines)
    """
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"figure": figure, "path": quote}
    style, script = ((PAGE / name).read_text(encoding="utf-8") for name in FILES[1:])
    rows = facts["slides"]
    used = [c for c in COLUMNS if any(c.key in slide.values for slide in rows)]
    return environment.get_template(FILES[0]).render(
        **facts, columns=used, style=style, script=script,
        style_digest=_digest(style), script_digest=_digest(script),
    )  # fmt: skip


def figure(value: object, digits: int = 3) -> str:
    """A number for people: so many digits, no exponent where it can be helped."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}".replace(",", "\u2009")
    if abs(value) < 1:
        return f"{value:.{digits}g}"
    return f"{value:.{max(0, digits - len(str(int(abs(value)))))}f}"


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
