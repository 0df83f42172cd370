"""One picture in many lossless encodings: {name: function that writes it to a path}."""

import numpy as np
import tifffile
from PIL import Image


def encodings(rgb):
    """All of them, of an RGB picture of at most 256 colours."""
    return {**tiff_encodings(rgb), **indexed_encodings(rgb), **png_encodings(rgb)}


def with_alpha(rgb):
    return np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 77, np.uint8)], axis=-1)


def tiff_encodings(rgb):
    """Byte orders, strips and tiles, codecs and predictors, planes, alpha, kinds of TIFF."""

    def tiff(image=rgb, writer=None, **options):
        def write(path):
            with tifffile.TiffWriter(path, **(writer or {})) as tif:
                tif.write(image, **{"photometric": "rgb", "metadata": None, **options})

        return write

    planar = np.ascontiguousarray(np.moveaxis(rgb, -1, 0))
    rgba = with_alpha(rgb)
    planar_rgba = np.ascontiguousarray(np.moveaxis(rgba, -1, 0))
    separate, alpha = {"planarconfig": "separate"}, {"extrasamples": ["unassalpha"]}
    tiles, strips = {"tile": (32, 48)}, {"rowsperstrip": 7}
    return {
        "little": tiff(),
        "big endian": tiff(writer={"byteorder": ">"}),
        "bigtiff": tiff(writer={"bigtiff": True}),
        "bigtiff, big endian": tiff(writer={"bigtiff": True, "byteorder": ">"}),
        "strips of 5": tiff(rowsperstrip=5),
        "one strip": tiff(rowsperstrip=rgb.shape[0]),
        "tiles": tiff(**tiles),
        "tiles, big endian": tiff(writer={"byteorder": ">"}, **tiles),
        "deflate": tiff(compression="zlib"),
        "deflate with predictor": tiff(compression="zlib", predictor=2, **tiles),
        "lzw": tiff(compression="lzw", **strips),
        "lzw with predictor": tiff(compression="lzw", predictor=2, **strips),
        "packbits": tiff(compression="packbits", **strips),
        "zstd tiles": tiff(compression="zstd", **tiles),
        "lzma": tiff(compression="lzma"),
        "lossless jpeg 2000": tiff(compression="jpeg2000", tile=(64, 64)),
        "planar strips": tiff(planar, **separate),
        "planar tiles, deflate": tiff(planar, compression="zlib", **separate, **tiles),
        "rgba": tiff(rgba, **alpha),
        "rgba planar": tiff(planar_rgba, **separate, **alpha),
        "ome": tiff(writer={"ome": True}, metadata={"axes": "YXS"}),
        "imagej": lambda path: tifffile.imwrite(path, rgb, imagej=True),
        "shaped": tiff(metadata={}),
    }


def indexed_encodings(rgb):
    """Palettes, in TIFF and PNG."""
    colours, index = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    index = index.reshape(rgb.shape[:2]).astype(np.uint8)

    def tiff(path):
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(colours)] = colours.T.astype(np.uint16) * 257
        tifffile.imwrite(path, index, photometric="palette", colormap=table, metadata=None)

    def png(path):
        image = Image.fromarray(index)
        image.putpalette(colours.ravel().tolist())
        image.save(path, "PNG")

    return {"palette": tiff, "png with palette": png}


def png_encodings(rgb):
    return {
        "png": lambda path: Image.fromarray(rgb).save(path, "PNG"),
        "png with alpha": lambda path: Image.fromarray(with_alpha(rgb)).save(path, "PNG"),
    }
