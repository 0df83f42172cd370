"""What meets at the faces and corners between blocks: the pairs of numbers to be joined."""

import numpy as np

from slideunet.blocks import Block
from slideunet.components import LINE, Scan, unique_pairs


class Seams:
    """Takes the scanned blocks in raster order; holds one line of the slide and one of a block.

    Afterwards `joins` (n, 2) are pairs of provisional object numbers that are one, `hole_joins`
    the same for the background, `touching` pairs (hole, object) that share a pixel edge, and
    `saddles` rows (object, object, relief) where two basins meet. All int64.
    """

    def __init__(self, width: int, connectivity: int, holes: bool, split: bool):
        self.reach = (0,) if connectivity == 4 else (-1, 0, 1)
        # Background is connected the other way, else a thin diagonal line would be both whole
        # and crossed by its background.
        self.hole_reach = (-1, 0, 1) if connectivity == 4 else (0,)
        self.holes, self.split = holes, split
        self.parts = self.hole_parts = 0
        self._top, self._bottom = np.zeros(width, LINE), np.zeros(width, LINE)
        self._above = self._right = None
        self._found: dict[str, list] = {
            name: [np.empty((0, columns), np.int64)]
            for name, columns in (("joins", 2), ("hole_joins", 2), ("touching", 2), ("saddles", 3))
        }

    def add(self, scan: Scan) -> tuple[int, int]:
        """Join a block to those before it; returns its offsets: number = offset + local number."""
        block, offsets = scan.block, (self.parts, self.hole_parts)
        lines = {side: _renumber(line, *offsets) for side, line in scan.lines.items()}
        for name, rows in (("touching", scan.touching), ("saddles", scan.saddles)):
            shift = [offsets[1], offsets[0]] if name == "touching" else [offsets[0], offsets[0], 0]
            self._found[name].append(rows + np.array(shift, np.int64))
        if block.x0 > 0:
            self._meet(self._right, lines["left"], "arrow_x", "arrow_y")
        self._right = lines["right"]
        self._top[block.x0 : block.x1] = lines["top"]
        self._bottom[block.x0 : block.x1] = lines["bottom"]
        self.parts += len(scan.parts)
        self.hole_parts += len(scan.holes) if scan.holes is not None else 0
        if block.x1 == len(self._top):
            self._end_band(block)
        return offsets

    def pairs(self, name: str) -> np.ndarray:
        """All rows found under `name`: joins, hole_joins, touching (distinct) or saddles."""
        rows = np.concatenate(self._found[name])
        self._found[name] = [rows]
        return rows if name == "saddles" else unique_pairs(rows)

    def _end_band(self, block: Block) -> None:
        if block.y0 > 0:
            self._meet(self._above, self._top, "arrow_y", "arrow_x")
        self._above = self._bottom.copy()

    def _meet(self, a: np.ndarray, b: np.ndarray, across: str, along: str) -> None:
        """`a` lies above or left of `b`, pixel for pixel."""
        if self.split:
            self._follow_arrows(a, b, across, along, 1)
            self._follow_arrows(b, a, across, along, -1)
        for shift in self.reach:
            p, q = _shifted(a, b, shift)
            same = (p["id"] > 0) & (q["id"] > 0) & (p["class"] == q["class"])
            p, q = p[same], q[same]
            if self.split:
                height = np.minimum(p["relief"], q["relief"])
                self._found["saddles"].append(np.stack([p["id"], q["id"], height], axis=1))
            else:
                self._found["joins"].append(_pair(p["id"], q["id"]))
        if self.holes:
            self._meet_holes(a, b)

    def _meet_holes(self, a: np.ndarray, b: np.ndarray) -> None:
        for shift in self.hole_reach:
            p, q = _shifted(a["hole"], b["hole"], shift)
            both = (p > 0) & (q > 0)
            self._found["hole_joins"].append(_pair(p[both], q[both]))
        for p, q in ((a, b), (b, a)):
            both = (p["hole"] > 0) & (q["id"] > 0)
            self._found["touching"].append(_pair(p["hole"][both], q["id"][both]))

    def _follow_arrows(self, a, b, across: str, along: str, direction: int) -> None:
        """Join each pixel of `a` whose steepest way up leads into `b` to the pixel it leads to."""
        start = np.flatnonzero((a["id"] > 0) & (a[across] == direction))
        target = start + a[along][start]
        # A corner's arrow may point past this seam: the seam between the bands takes it.
        start, target = (v[(target >= 0) & (target < len(b))] for v in (start, target))
        self._found["joins"].append(_pair(a["id"][start], b["id"][target]))


def _pair(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return unique_pairs(np.stack([a, b], axis=1).astype(np.int64))


def _renumber(line: np.ndarray, parts: int, holes: int) -> np.ndarray:
    line = line.copy()
    line["id"][line["id"] > 0] += parts
    line["hole"][line["hole"] > 0] += holes
    return line


def _shifted(a: np.ndarray, b: np.ndarray, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Views in which element i of the first faces element i + shift of the second."""
    if shift > 0:
        return a[:-shift], b[shift:]
    if shift < 0:
        return a[-shift:], b[:shift]
    return a, b
