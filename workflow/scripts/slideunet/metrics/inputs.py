"""What the measures accept: every image is checked here, once, before anything is counted.

The rules, the same for every measure:
- reference and prediction have one shape, at least one pixel, any number of dimensions;
- a label image or mask is bool, an integer type, or floats that are all whole numbers (files
  often come back as floats); 0 is background; label ids may be as large as the type holds;
- a probability is bool, uint8 (255 = 1.0, as the slides are stored) or a float in [0, 1];
- pixels that nobody annotated come as a separate `ignore` mask (True = does not count); negative
  labels and NaN are refused everywhere else.
"""

import numpy as np

from slideunet.errors import UserError


def same_shape(reference: np.ndarray, prediction: np.ndarray) -> None:
    """Raise UserError unless both arrays have one shape with at least one pixel."""
    if np.shape(reference) != np.shape(prediction):
        raise UserError(
            f"the reference has shape {np.shape(reference)} and the prediction has shape"
            f" {np.shape(prediction)}: compare images of one size"
        )
    if np.size(reference) == 0:
        raise UserError("the reference has no pixel: give an image of at least 1 x 1")


def label_image(array: np.ndarray, name: str, ignore: np.ndarray | None = None) -> np.ndarray:
    """The label image `array` as an integer array, values unchanged (bool becomes 0 and 1).

    Under `ignore` (bool, same shape), what is no label becomes 0: the -1 of a label image that is
    annotated in part, say. `name` says in the message which image it was. Raises UserError on
    negative labels, on values between whole numbers, on NaN and infinity, on floats above 2**53
    (they skip whole numbers) and on types that are no numbers.
    """
    array = np.asarray(array)
    if array.dtype == bool:
        return array.view(np.uint8)
    if array.dtype.kind not in "iuf":
        raise UserError(f"the {name} holds {array.dtype}: give a label image of whole numbers")
    if array.dtype.kind == "u":
        return array
    if array.dtype.kind == "f":
        return _whole_numbers(array, name, ignore)
    if ignore is not None:
        array = np.where(ignore & (array < 0), 0, array)
    if array.size and array.min() < 0:
        raise UserError(
            f"the {name} holds the negative label {array.min()}:"
            " give pixels that nobody annotated as an ignore mask"
        )
    return array


def _whole_numbers(array: np.ndarray, name: str, ignore: np.ndarray | None) -> np.ndarray:
    # Written so that NaN is bad: it is neither in the range nor equal to its own floor.
    bad = ~((array >= 0) & (array <= 2**53) & (np.floor(array) == array))
    if ignore is not None:
        array = np.where(ignore & bad, 0, array)
        bad &= ~ignore
    if bad.any():
        raise UserError(
            f"the {name} holds {array[bad][0]} in {np.count_nonzero(bad)} pixels: labels are whole"
            " numbers from 0 to 2**53 (threshold a probability before it is compared as a mask,"
            " give pixels that nobody annotated as an ignore mask)"
        )
    return array.astype(np.int64)


def mask(array: np.ndarray, name: str, ignore: np.ndarray | None = None) -> np.ndarray:
    """The binary image `array` as bool: 0 is background, any other label is foreground.

    Raises UserError as `label_image` does.
    """
    array = np.asarray(array)
    return array if array.dtype == bool else label_image(array, name, ignore) != 0


def probability(array: np.ndarray, name: str) -> np.ndarray:
    """The probability image `array` as float32 in [0, 1], the type the official ISBI code compares.

    bool becomes 0 and 1, uint8 is divided by 255. Raises UserError on NaN, on values outside
    [0, 1] and on any other type.
    """
    array = np.asarray(array)
    if array.dtype == bool:
        return array.astype(np.float32)
    if array.dtype == np.uint8:
        return array.astype(np.float32) / np.float32(255)
    if array.dtype.kind != "f":
        raise UserError(f"the {name} holds {array.dtype}: give floats from 0 to 1, or uint8")
    if not array.size:
        return array.astype(np.float32)
    low, high = array.min(), array.max()  # NaN if any pixel is NaN
    if np.isnan(low):
        raise UserError(
            f"the {name} holds {np.count_nonzero(np.isnan(array))} NaN pixels:"
            " the network diverged, or the image was not finite"
        )
    if low < 0 or high > 1:
        raise UserError(f"the {name} holds values from {low} to {high}: give floats from 0 to 1")
    return array.astype(np.float32)


def ignore_mask(ignore: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """The ignore mask as bool (True = does not count), None where no pixel is ignored.

    Raises UserError where its shape is not `shape` or it is no mask.
    """
    if ignore is None:
        return None
    if np.shape(ignore) != shape:
        raise UserError(
            f"the ignore mask has shape {np.shape(ignore)} and the images have shape {shape}:"
            " compare images of one size"
        )
    ignore = mask(ignore, "ignore mask")
    return ignore if ignore.any() else None
