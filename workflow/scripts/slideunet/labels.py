"""Instances of a whole slide: connected components found block by block, exactly.

Pass 1 (`find_instances`) labels each block by itself and joins the pieces across faces and
corners; pass 2 (`write_instances`) labels each block again, which costs less than storing it, and
writes the final numbers. Objects are numbered by their first pixel in raster order of the slide,
so block size and number of workers change no byte of the answer. Memory holds some 100 bytes for
each component and a line of the slide, never the slide.

Number type: uint32, which every reader of OME-Zarr labels takes, and uint64 if there are more
than 4,294,967,295 objects (viewers that draw with the graphics card's textures stop there).
"""

from dataclasses import dataclass

import numpy as np

from slideunet.blocks import Block, bands, ordered_map
from slideunet.components import Scan, border_lines, describe_parts, label_block, unique_pairs
from slideunet.errors import SlideError
from slideunet.joining import fill_holes, groups_of, merge_parts, split_groups, stack_parts
from slideunet.seams import Seams
from slideunet.seeds import STEPS, Basins, Split, describe_basins, find_basins


@dataclass(frozen=True)
class Rules:
    """What counts as one object.

    Areas in px; `max_area_px` None: no limit. Holes of at most `fill_holes_px` are filled if they
    touch exactly one object (an island in a hole keeps it open); areas are those after filling.
    `split`: part touching objects. `ignore_class`: pixels that were not segmented.
    """

    connectivity: int = 8
    min_area_px: int = 0
    max_area_px: int | None = None
    fill_holes_px: int = 0
    split: Split | None = None
    ignore_class: int = 255
    first_id: int = 1

    def __post_init__(self):
        if self.connectivity not in (4, 8):
            raise ValueError(f"connectivity is {self.connectivity}; it must be 4 or 8")
        if self.first_id < 1:
            raise ValueError(f"first_id is {self.first_id}; 0 means background")


@dataclass
class Instances:
    """The objects of a slide; element i describes object `rules.first_id` + i.

    `first_px`, `last_px`: raster indices y * width + x (int64) of its first and last pixel.
    """

    shape: tuple[int, int]
    block_px: int
    rules: Rules
    class_of: np.ndarray
    area_px: np.ndarray
    first_px: np.ndarray
    last_px: np.ndarray
    offsets: np.ndarray  # (blocks + 1, 2): provisional numbers before each block; objects, holes
    part_ids: np.ndarray  # provisional number -> final id
    hole_ids: np.ndarray

    def __len__(self) -> int:
        return len(self.area_px)

    @property
    def ids(self) -> np.ndarray:
        """The ids, rising by one."""
        return np.arange(len(self), dtype=self.dtype) + np.asarray(self.rules.first_id, self.dtype)

    @property
    def dtype(self) -> np.dtype:
        """The type of the label image."""
        return label_dtype(self.rules.first_id + len(self) - 1)

    @property
    def last_row(self) -> np.ndarray:
        """The last row (int64) that each object reaches."""
        return self.last_px // max(self.shape[1], 1)


def label_dtype(largest_id: int) -> np.dtype:
    """uint32 where it holds `largest_id`, else uint64."""
    return np.dtype(np.uint32 if largest_id <= np.iinfo(np.uint32).max else np.uint64)


def find_instances(
    classes, rules: Rules | None = None, *, block_px: int = 2048, probabilities=None, workers=1
) -> Instances:
    """Pass 1. `classes`: array-like (Y, X) uint8; components of equal class, 0 is background.

    `probabilities`: array-like (C, Y, X), needed where `rules.split` goes by probability.
    Raises SlideError if the map isn't (Y, X) uint8 or the probabilities don't fit it.
    """
    rules = rules or Rules()
    _check(classes, probabilities, rules)
    seams = Seams(
        classes.shape[1], rules.connectivity, rules.fill_holes_px > 0, rules.split is not None
    )
    offsets, parts, holes = [(0, 0)], [], []

    def scan(block: Block) -> Scan:
        return _scan(classes, probabilities, rules, block)

    blocks = [block for band in bands(classes.shape, block_px) for block in band]
    for found in ordered_map(scan, blocks, workers):
        seams.add(found)
        offsets.append((seams.parts, seams.hole_parts))
        parts.append(found.parts)
        if found.holes is not None:
            holes.append(found.holes)
    part, hole = stack_parts(parts), stack_parts(holes)
    if rules.split is None:
        group = groups_of(seams.pairs("joins"), len(part))
    else:
        depth = round(rules.split.min_depth * STEPS)
        group = split_groups(seams.pairs("joins"), seams.pairs("saddles"), part, depth)
    merged = merge_parts(part, group)
    owner = fill_holes(
        hole, seams.pairs("hole_joins"), seams.pairs("touching"), merged, group,
        rules.fill_holes_px,
    )  # fmt: skip
    return _number(classes.shape, block_px, rules, np.array(offsets), merged, group, owner)


def _number(shape, block_px, rules: Rules, offsets, merged, group, owner) -> Instances:
    """Drop the groups that are too small or too large, number the others by first pixel."""
    keep = group[1:] == np.arange(1, len(group))
    keep &= merged.area_px >= rules.min_area_px
    if rules.max_area_px is not None:
        keep &= merged.area_px <= rules.max_area_px
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(merged.first_px[kept])]
    dtype = label_dtype(rules.first_id + len(kept) - 1)
    ids = np.zeros(len(group), dtype)
    ids[kept + 1] = np.arange(len(kept), dtype=dtype) + np.asarray(rules.first_id, dtype)
    return Instances(
        tuple(shape), block_px, rules, merged.class_of[kept], merged.area_px[kept],
        merged.first_px[kept], merged.last_px[kept], offsets, ids[group], ids[group[owner]],
    )  # fmt: skip


def write_instances(
    instances: Instances, classes, out, *, probabilities=None, blocks=None, workers=1
) -> None:
    """Pass 2: write the label image into `out` (Y, X), of `instances.dtype` or wider.

    `blocks`: numbers of the blocks to be written (None: all), so that an interrupted run goes on
    where it stopped. A block is written by one worker: where `out` is sharded, let `block_px` be a
    multiple of the shard. Raises SlideError if `out` doesn't fit or the class map has changed.
    """
    _check(classes, probabilities, instances.rules)
    if tuple(out.shape) != instances.shape or tuple(classes.shape) != instances.shape:
        raise SlideError(
            f"label image is {tuple(out.shape)}, class map {tuple(classes.shape)}, the instances "
            f"were found on {instances.shape}: all three must be the same"
        )
    if np.dtype(out.dtype).itemsize < instances.dtype.itemsize:
        raise SlideError(
            f"label image is {out.dtype}: {len(instances)} objects need {instances.dtype}"
        )
    shards = getattr(out, "shards", None) or getattr(out, "chunks", None) or (1, 1)
    if workers > 1 and any(instances.block_px % shard for shard in shards):
        raise ValueError(
            f"block_px {instances.block_px} is no multiple of the shard {shards}: two workers "
            "would write into one shard and lose chunks"
        )
    every = [block for band in bands(instances.shape, instances.block_px) for block in band]
    wanted = every if blocks is None else [every[number] for number in blocks]

    def write(block: Block) -> None:
        out[block.y0 : block.y1, block.x0 : block.x1] = _relabel(
            instances, classes, probabilities, block
        )

    for _ in ordered_map(write, wanted, workers):
        pass


def _relabel(instances: Instances, classes, probabilities, block: Block) -> np.ndarray:
    rules = instances.rules
    (first, first_hole), (end, end_hole) = instances.offsets[block.number : block.number + 2]
    layers, *_ = _label_layers(classes, probabilities, rules, block)
    for name, count in (("id", end - first), ("hole", end_hole - first_hole)):
        if name in layers and int(layers[name].max(initial=0)) != count:
            raise SlideError(
                f"class map changed between the passes at y={block.y0}, x={block.x0}: run again"
            )
    # One look-up table per block, with 0 for background.
    own = instances.part_ids[first : end + 1].copy()
    own[0] = 0
    labels = own[layers["id"]]
    if "hole" in layers:
        own = instances.hole_ids[first_hole : end_hole + 1].copy()
        own[0] = 0
        labels += own[layers["hole"]]
    return labels


def _check(classes, probabilities, rules: Rules) -> None:
    if len(classes.shape) != 2 or np.dtype(classes.dtype) != np.uint8:
        raise SlideError(
            f"class map is {tuple(classes.shape)} {classes.dtype}; it must be (Y, X) uint8"
        )
    if rules.split is not None and rules.split.by == "probability":
        if probabilities is None:
            raise ValueError("splitting by probability needs the probabilities")
        if tuple(probabilities.shape[1:]) != tuple(classes.shape):
            raise SlideError(
                f"probabilities are {tuple(probabilities.shape)}, class map "
                f"{tuple(classes.shape)}: rows and columns must be the same"
            )


def _scan(classes, probabilities, rules: Rules, block: Block) -> Scan:
    width = classes.shape[1]
    layers, own, ignored, found = _label_layers(classes, probabilities, rules, block)
    layers["class"] = own
    if found is None:
        scan = Scan(block, describe_parts(layers["id"], own, block, width), {})
    else:
        layers.update(relief=found.relief, arrow_y=found.arrow_y, arrow_x=found.arrow_x)
        scan = Scan(block, describe_basins(found, own, block, width), {}, saddles=found.saddles)
    if "hole" in layers:
        scan.holes = describe_parts(layers["hole"], own, block, width)
        scan.holes.open = _open_holes(layers["hole"], ignored, block, classes.shape)
        scan.touching = _touching(layers["hole"], layers["id"])
    scan.lines = border_lines(layers)
    return scan


def _label_layers(classes, probabilities, rules: Rules, block: Block):
    """Read and label one block: {"id": numbers, "hole": numbers}, classes, ignored, basins."""
    own = np.asarray(classes[block.y0 : block.y1, block.x0 : block.x1])
    ignored = own == rules.ignore_class
    own = np.where(ignored, np.uint8(0), own)
    found: Basins | None = None
    if rules.split is None:
        layers = {"id": label_block(own, rules.connectivity)}
    else:
        found = find_basins(
            classes, probabilities, rules.split, rules.connectivity, rules.ignore_class, block
        )
        layers = {"id": found.numbers}
    if rules.fill_holes_px > 0:
        # Pixels that were not segmented count as background that is open to the outside. The
        # background is connected the other way (4 for 8, 8 for 4), as in `Seams`.
        layers["hole"] = label_block((own == 0).astype(np.uint8), 12 - rules.connectivity)
    return layers, own, ignored, found


def _open_holes(holes: np.ndarray, ignored: np.ndarray, block: Block, shape) -> np.ndarray:
    """Which background components reach the slide's edge or pixels that were not segmented."""
    opened = np.zeros(int(holes.max(initial=0)) + 1, bool)
    opened[holes[ignored]] = True
    for at_edge, line in (
        (block.y0 == 0, holes[0]),
        (block.x0 == 0, holes[:, 0]),
        (block.y1 == shape[0], holes[-1]),
        (block.x1 == shape[1], holes[:, -1]),
    ):
        if at_edge:
            opened[line] = True
    return opened[1:]


def _touching(holes: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """The distinct pairs (hole, object) that share a pixel edge inside a block."""
    inside = ids > 0
    pairs = []
    for a, b in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        meet = np.nonzero(inside[a] != inside[b])
        pair = np.stack([np.maximum(layer[a][meet], layer[b][meet]) for layer in (holes, ids)], 1)
        # A pixel that was ignored is no object; it has been labelled with the background.
        pairs.append(unique_pairs(pair.astype(np.int64)))
    return unique_pairs(np.concatenate(pairs))
