"""XML of slide files: parsed only where it declares no entities and points nowhere."""

from xml.etree import ElementTree

from slideunet.errors import SlideError


def refuse_entities(path: str, text: bytes) -> None:
    """Raise SlideError if XML has a document type or entities: bombs and references live there."""
    # UTF-16 is ASCII with zero bytes between, as far as these words go.
    plain = text.replace(b"\0", b"").upper()
    if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
        raise SlideError(
            f"{path}: its XML declares a document type or entities, which no slide's does"
        )


def parse_xml(path: str, text: str) -> ElementTree.Element | None:
    """The root element with namespaces taken off all tags, or None where it isn't XML."""
    refuse_entities(path, text.encode("utf-8", "replace"))
    # The declared encoding was the file's; this is text already.
    try:
        root = ElementTree.fromstring(text.strip("\0 \r\n\t\ufeff"))
    except (ElementTree.ParseError, ValueError):
        return None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
    return root
