"""Weight maps: for each annotated image the target and the border term, block by block."""

from itertools import product
from pathlib import Path

from slideunet.arrays import create_array, create_group, open_group
from slideunet.store import Work, beside, load, make
from slideunet.weights import class_counts, halo_px, resolve, weight_map

# A multiple of the chunk (512 px), so that no chunk is written twice; a block and the distances to
# two cells take some 300 MB.
BLOCK_PX = 2048


def weights(*, image: str, manifest: str, settings: dict, code: dict) -> None:
    """Make results/weights/ID.zarr beside the manifest from results/images/ID.json.

    settings : section `weights` of the configuration
    ID.zarr : target (Y, X) uint8, class with the separating line drawn, 255 not annotated; border
        (Y, X) float32, the border term of the weight map
    facts : counts, the pixels per class of `target`, and classes, their names
    """
    facts = load(image)["facts"]
    name, source = Path(manifest).stem, beside(image, f"{Path(image).stem}.zarr")
    full = resolve(settings)

    def build(work: Work) -> tuple[list[str], dict]:
        counts = write_maps(source, work.folder / f"{name}.zarr", full, len(facts["classes"]))
        return [f"{name}.zarr"], {"counts": counts, "classes": facts["classes"]}

    make(manifest, build, kind="weights", settings=full, code=code, inputs={"image": image})


def write_maps(source: Path, target: Path, settings: dict, classes: int) -> list[int]:
    """Write target and border of the label and class arrays in `source`; returns the counts."""
    arrays = open_group(source)
    label, class_image = arrays["label"], arrays["class"]
    group = create_group(target)
    targets = create_array(group, "target", label.shape, "uint8", "YX")
    borders = create_array(group, "border", label.shape, "float32", "YX")
    halo, counts = halo_px(settings), 0
    for y, x in product(*(range(0, side, BLOCK_PX) for side in label.shape)):
        block = tuple(
            slice(start, min(start + BLOCK_PX, side))
            for start, side in zip((y, x), label.shape, strict=True)
        )
        around = tuple(slice(max(0, part.start - halo), part.stop + halo) for part in block)
        inner = tuple(
            slice(part.start - wide.start, part.stop - wide.start)
            for part, wide in zip(block, around, strict=True)
        )
        maps = weight_map(label[around], class_image[around], settings)
        targets[block], borders[block] = (values[inner] for values in maps)
        counts = counts + class_counts(maps[0][inner], classes)
    return [int(count) for count in counts]
