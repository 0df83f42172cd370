"""Names that try to be executed, to lead out of a folder, or to break a parser."""

import os
import random
import unicodedata

CANARY = "CANARY"

# Each is tried alone and, at random, inside others.
PIECES = [
    "$(touch CANARY)", "`touch CANARY`", ";touch CANARY;", "|touch CANARY|", "&touch CANARY&",
    "&& touch CANARY", "|| touch CANARY", "'; touch CANARY; '", '"; touch CANARY; "',
    "${IFS}touch${IFS}CANARY", "\ntouch CANARY\n", "\r\ntouch CANARY\r\n", "%s%s%n", "%(touch)s",
    "{touch CANARY}", "{0.__class__}", "{wildcards.slide}", "{slide,.*}", "{{x}}", "<a>", ">CANARY",
    "<CANARY", "*", "?", "[a-z]", "~root", "~", "!!", "#", "# comment", "\\", "\\n", "\\\\x41",
    "-rf", "--config=results=..", "-", "=1+1", "=cmd|' /C calc'!A0", "+1", "@SUM(1)", "-1+1",
    "..", "...",
    "..%2f..%2fetc", "%2e%2e%2f", " lead", "trail ", "two  blanks", "\ttab", "\x01\x02",
    "\x1b[31mred\x1b[0m", "\x07", "\x7f", "é".encode().decode(), unicodedata.normalize("NFD", "é"),
    unicodedata.normalize("NFC", "é"), "\u202egnp.fit", "\u200b", "\ufeff", "🔬", "👩‍🔬", "日本語",
    "Ω", "\u017f", "İ", "ß", "\u2028", "\u0085",
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
    "javascript:alert(1)", "' OR 1=1 --", "NUL", "con", "a" * 200, "x" * 247, "é" * 120,
    "__import__('os').system('touch CANARY')", "!!python/object/apply:os.system ['touch CANARY']",
    "$HOME", "$UNSET", "${HOME}", "a=b", "a,b", "a:b", "s3:", "file:", "http:", "@", "(", ")", "()",
]  # fmt: skip
RAW = [b"\xff\xfe", b"caf\xe9", b"\x80abc", b"a\xc3", b"\xed\xa0\x80", b"\xf5\x80"]


def names(count: int, seed: int) -> list[bytes]:
    """That many different file names, of at most 255 bytes, all ending in .tif."""
    chance = random.Random(seed)
    found = dict.fromkeys([os.fsencode(piece) for piece in PIECES] + RAW)
    while len(found) < count:
        parts = [os.fsencode(chance.choice(PIECES)) for _ in range(chance.randrange(2, 4))]
        if chance.random() < 0.05:
            parts.append(chance.choice(RAW))
        found[b"".join(parts)[:240]] = None
    made = dict.fromkeys(stem.replace(b"/", b"_")[:251] + b".tif" for stem in found)
    # a name that begins with a dot is hidden: no folder or glob takes it
    return [name for name in made if not name.startswith(b".")][:count]
