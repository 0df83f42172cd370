"""From the samples a TIFF stores to the channels a model sees."""

import numpy as np

from slideunet.errors import SlideError

# PhotometricInterpretation (TIFF 6.0 and its supplements).
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_NAMES = {4: "a mask", 5: "CMYK", 8: "CIELAB", 9: "ICCLAB", 10: "ITULAB", 32803: "a raw sensor"}
_NAMES |= {32844: "LogL", 32845: "LogLuv", 34892: "linear raw"}
_JPEG = {6, 7, 34892, 33007}
_APERIO_YCBCR = 33003
_ALPHA = {1, 2}  # ExtraSamples: associated and unassociated alpha; 0 says nothing


class Colour:
    """How one page's samples become channels; refuses what has no plain meaning as intensity.

    `dtype` and `channels` are those of the converted array, per plane.
    """

    def __init__(self, path: str, key, kind: str):
        self._photometric = int(key.photometric)
        self._ycbcr = int(key.compression) == _APERIO_YCBCR
        self._bits = key.bitspersample
        self._colormap = None
        self.is_rgb = False
        _refuse(path, key, self._photometric)
        stored = np.dtype(key.dtype)
        self._bilevel = stored.kind == "b"
        self.dtype = {"b1": np.dtype("u1"), "f2": np.dtype("f4")}.get(stored.str[1:], stored)
        samples = key.samplesperpixel
        # In microscopes' formats a palette only says how to show the channel.
        if self._photometric == _PALETTE and kind in {"ome", "imagej"}:
            self._photometric = _BLACK_IS_ZERO
        if self._photometric == _PALETTE:
            self._colormap = _colormap(path, key)
            self.dtype, self.is_rgb, self._keep = np.dtype("uint8"), True, [0]
        elif self._photometric in {_RGB, _YCBCR}:
            self.is_rgb, self._keep = True, slice(0, 3)
        else:
            alpha = [kind in _ALPHA for kind in key.extrasamples][:samples]
            first = samples - len(alpha)
            self._keep = [i for i in range(samples) if i < first or not alpha[i - first]]
        self.channels = 3 if self.is_rgb else len(self._keep)
        if not self.is_rgb and self._keep == list(range(len(self._keep))):
            self._keep = slice(0, len(self._keep))  # a view where a list would copy

    def names(self, planes: int) -> list[str]:
        """The three colours, where there is one colour plane; else [] (the file may name them)."""
        return ["red", "green", "blue"] if self.is_rgb and planes == 1 else []

    def convert(self, samples: np.ndarray) -> np.ndarray:
        """Samples (S, h, w) as stored to channels (C, h, w) of `dtype`."""
        if self._colormap is not None:
            index = samples[0].astype(np.intp)
            if int(index.max(initial=0)) >= self._colormap.shape[1]:
                raise ValueError("it uses colours that its palette does not have")
            return self._colormap[:, index]
        samples = samples[self._keep]
        if self._ycbcr:
            return _ycbcr_to_rgb(samples)
        if self._bilevel:  # fax decoders give whole bytes for what is stored as bits
            samples = (samples != 0) * self.dtype.type(255)
        samples = samples.astype(self.dtype, copy=False)
        if self._photometric == _WHITE_IS_ZERO:
            return self.dtype.type(255 if self._bilevel else 2**self._bits - 1) - samples
        return samples


def _refuse(path: str, key, photometric: int) -> None:
    if key.dtype is None or np.dtype(key.dtype).kind not in "buif":
        raise SlideError(
            f"{path}: samples of {key.bitspersample} bits, format {int(key.sampleformat)}: "
            "not a kind of number that can be an intensity"
        )
    known = {_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR}
    if photometric not in known:
        what = _NAMES.get(photometric, f"colour space {photometric}")
        raise SlideError(f"{path}: stored as {what}; convert it to RGB or grey")
    if photometric in {_RGB, _YCBCR} and key.samplesperpixel < 3:
        raise SlideError(f"{path}: says RGB and has {key.samplesperpixel} samples per pixel")
    if photometric == _YCBCR and int(key.compression) not in _JPEG | {_APERIO_YCBCR}:
        raise SlideError(f"{path}: YCbCr that isn't JPEG; convert it to RGB")
    if photometric == _WHITE_IS_ZERO and np.dtype(key.dtype).kind not in "bu":
        raise SlideError(f"{path}: white is zero, in numbers that can be negative")
    if isinstance(key.bitspersample, tuple):
        raise SlideError(f"{path}: samples of different widths {key.bitspersample}")


def _colormap(path: str, key) -> np.ndarray:
    """The palette as (3, entries) uint8: TIFF stores 16 bits, some writers fill only the low 8."""
    values = key.tags.valueof(320)
    entries = None if values is None else np.asarray(values).ravel()
    if entries is None or entries.size < 3 or entries.size % 3:
        raise SlideError(f"{path}: a palette picture without a palette")
    if np.dtype(key.dtype).kind not in "bu":
        raise SlideError(f"{path}: a palette for numbers that aren't whole")
    table = entries.reshape(3, -1)
    return (table if table.max() < 256 else table >> 8).astype(np.uint8)


def _ycbcr_to_rgb(samples: np.ndarray) -> np.ndarray:
    """Full-range BT.601 (JFIF), as Aperio's JPEG 2000 stores it under compression 33003."""
    y, cb, cr = (plane.astype(np.float32) for plane in samples)
    cb, cr = cb - 128, cr - 128
    rgb = np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb])
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
