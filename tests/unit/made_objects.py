"""Made-up class maps and their whole-image answers, for the tests of the objects."""

import numpy as np
from scipy import ndimage
from slideunet.labels import Rules, find_instances, write_instances


def blobs(
    seed: int,
    shape: tuple[int, int],
    classes: int = 1,
    ignored: float = 0.0,
    background: tuple[float, float] = (0.3, 0.8),
) -> np.ndarray:
    """A class map (uint8) of smooth random shapes, some with holes, some touching diagonally."""
    random = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(random.random(shape), random.uniform(0.3, 2))
    found = (field > np.quantile(field, random.uniform(*background))).astype(np.uint8)
    found *= random.integers(1, classes + 1, shape, dtype=np.uint8)
    found[random.random(shape) < ignored] = 255
    return found


def label_whole(classes: np.ndarray, connectivity: int) -> np.ndarray:
    """scipy.ndimage.label of each class, numbered by first pixel in raster order."""
    structure = np.ones((3, 3)) if connectivity == 8 else None
    labels = np.zeros(classes.shape, np.int64)
    count = 0
    for number in np.unique(classes[(classes > 0) & (classes < 255)]):
        found, many = ndimage.label(classes == number, structure)
        labels[found > 0] = found[found > 0] + count
        count += many
    ids, first = np.unique(labels, return_index=True)
    in_order = ids[np.argsort(first)]
    table = np.zeros(count + 1, np.int64)
    table[in_order[in_order > 0]] = np.arange(1, count + 1)
    return table[labels]


def label(classes: np.ndarray, rules: Rules | None = None, block_px: int = 2048, **options):
    """Both passes: (instances, label image)."""
    instances = find_instances(classes, rules, block_px=block_px, **options)
    labels = np.zeros(classes.shape, instances.dtype)
    write_instances(instances, classes, labels, probabilities=options.get("probabilities"))
    return instances, labels
