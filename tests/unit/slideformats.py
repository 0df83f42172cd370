"""Made-up slides that tifffile can't write: Hamamatsu's TIFF, DICOM, OME-Zarr, MIRAX."""

import io
import struct

import imagecodecs
import numpy as np
from PIL import Image
from slidefiles import halves


def _ndpi_directory(entries, at, last):
    """One directory of Hamamatsu's 64-bit flavour of classic TIFF, values behind it."""
    sizes = {3: 2, 4: 4, 2: 1, 11: 4, 9: 4, 5: 8}
    formats = {3: "H", 4: "I", 2: "s", 11: "f", 9: "i", 5: "II"}
    head = struct.pack("<H", len(entries))
    values_at = at + 2 + 12 * len(entries) + 8 + 4 * len(entries)
    values = b""
    for code, kind, value in sorted(entries):
        if kind == 2:
            raw = value
        elif kind == 5:
            raw = struct.pack("<II", *value)
        else:
            raw = struct.pack(f"<{len(value)}{formats[kind]}", *value)
        count = len(raw) // sizes[kind]
        if len(raw) <= 4:
            head += struct.pack("<HHI", code, kind, count) + raw.ljust(4, b"\0")
        else:
            head += struct.pack("<HHII", code, kind, count, values_at + len(values))
            values += raw + b"\0" * (len(raw) % 2)
    end = values_at + len(values)
    head += struct.pack("<Q", 0 if last else end) + b"\0" * 4 * len(entries)
    return head + values, end


def write_ndpi(path, rgb, levels=2):
    """Hamamatsu NDPI: one JPEG with restart markers per level, their places in McuStarts."""
    data, jpegs = bytearray(struct.pack("<2sHQ", b"II", 42, 0)), []
    for level in halves(rgb, levels):
        buffer = io.BytesIO()
        columns = -(-level.shape[1] // 16)  # blocks of 16 x 16 with subsampled chroma
        every = columns // 2 if columns % 2 == 0 else columns
        Image.fromarray(level).save(
            buffer, "JPEG", quality=95, subsampling=2, restart_marker_blocks=every
        )
        jpeg = buffer.getvalue()
        start = jpeg.index(b"\xff\xda")
        start += 2 + int.from_bytes(jpeg[start + 2 : start + 4])
        marks = [
            i + 2
            for i in range(start, len(jpeg) - 1)
            if jpeg[i] == 255 and 208 <= jpeg[i + 1] <= 215
        ]
        jpegs.append((len(data), len(jpeg), [start, *marks], level.shape))
        data += jpeg + b"\0" * (len(jpeg) % 2)
    data[4:12] = struct.pack("<Q", len(data))
    for index, (offset, size, starts, shape) in enumerate(jpegs):
        entries = [
            *((254, 4, [0]), (256, 4, [shape[1]]), (257, 4, [shape[0]]), (258, 3, [8, 8, 8])),
            *((259, 3, [7]), (262, 3, [6]), (271, 2, b"Hamamatsu\0"), (272, 2, b"NanoZoomer\0")),
            *((273, 4, [offset]), (277, 3, [3]), (278, 4, [shape[0]]), (279, 4, [size])),
            *((282, 5, (20000 >> index, 1)), (283, 5, (20000 >> index, 1)), (296, 3, [3])),
            *((65420, 4, [1]), (65421, 11, [20.0 / 2**index]), (65422, 9, [0]), (65423, 9, [0])),
            *((65424, 9, [0]), (65426, 4, starts)),
        ]
        raw, _ = _ndpi_directory(entries, len(data), index == levels - 1)
        data += raw
    with open(path, "wb") as file:
        file.write(data)


def write_dicom(path, image, kind="VOLUME", series="1.2.3", tile=256, organised=True, leave_out=()):
    """A DICOM slide microscopy instance, 0.5 um a pixel, as OpenSlide takes it.

    RGB as JPEG frames, uint16 as they are. `organised`: says that its frames fill the grid, row by
    row; `leave_out`: (row, column) of tiles that are not there, the others then say where they are.
    """
    import pydicom
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence

    colour, meta = image.ndim == 3, FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = f"{series}.{image.shape[0]}.{len(kind)}"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50" if colour else "1.2.840.10008.1.2.1"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID = meta.MediaStorageSOPClassUID
    data.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID, data.StudyInstanceUID, data.Modality = series, "1.2", "SM"
    small = kind == "VOLUME" and organised and image.shape[0] < 300  # the halved level
    data.ImageType = ["DERIVED", "PRIMARY", kind, "RESAMPLED" if small else "NONE"]
    data.Rows = data.Columns = tile
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = image.shape[:2]
    data.SamplesPerPixel, data.PlanarConfiguration = 3 if colour else 1, 0
    data.PhotometricInterpretation = "YBR_FULL_422" if colour else "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * image.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
    data.TotalPixelMatrixFocalPlanes = data.NumberOfOpticalPaths = 1
    measures, groups, light = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [0.001, 0.001] if small else [0.0005, 0.0005]
    groups.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([groups])
    light.OpticalPathIdentifier, light.ObjectiveLensPower = "0", 20.0
    data.OpticalPathSequence = Sequence([light])
    frames, places = [], []
    for y in range(0, image.shape[0], tile):
        for x in range(0, image.shape[1], tile):
            if (y // tile, x // tile) not in leave_out:
                part = image[y : y + tile, x : x + tile]
                pad = [(0, tile - n) for n in part.shape[:2]] + [(0, 0)] * (image.ndim - 2)
                part = np.pad(part, pad)
                frames.append(
                    imagecodecs.jpeg8_encode(part, level=95) if colour else part.tobytes()
                )
                place, group = Dataset(), Dataset()
                place.RowPositionInTotalImagePixelMatrix = y + 1
                place.ColumnPositionInTotalImagePixelMatrix = x + 1
                group.PlanePositionSlideSequence = Sequence([place])
                places.append(group)
    if leave_out:
        data.DimensionOrganizationType = "TILED_SPARSE"
        data.PerFrameFunctionalGroupsSequence = Sequence(places)
    elif organised:
        data.DimensionOrganizationType = "TILED_FULL"
    data.NumberOfFrames = len(frames)
    data.PixelData = encapsulate(frames) if colour else b"".join(frames)
    data["PixelData"].VR = "OB" if colour else "OW"
    pydicom.dcmwrite(path, data, enforce_file_format=True)


def write_omezarr(path, channels, levels=2, version="0.5", mpp=0.5, colours=None, chunk=64):
    """OME-Zarr of (C, Y, X), 0.4 on Zarr 2 or 0.5 on Zarr 3."""
    import zarr

    group = zarr.open_group(str(path), mode="w", zarr_format=3 if version == "0.5" else 2)
    datasets = []
    for level in range(levels):
        data = np.ascontiguousarray(channels[:, :: 2**level, :: 2**level])
        more = {"shards": (1, 4 * chunk, 4 * chunk)} if version == "0.5" else {}
        array = group.create_array(
            str(level), shape=data.shape, dtype=data.dtype, chunks=(1, chunk, chunk), **more
        )
        array[...] = data
        scale = {"type": "scale", "scale": [1.0, mpp * 2**level, mpp * 2**level]}
        datasets.append({"path": str(level), "coordinateTransformations": [scale]})
    axes = [{"name": "c", "type": "channel"}]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "yx"]
    content = {"multiscales": [{"axes": axes, "datasets": datasets, "version": version}]}
    if colours:
        content["omero"] = {"channels": [{"label": c, "color": c} for c in colours]}
    group.attrs.update({"ome": {**content, "version": "0.5"}} if version == "0.5" else content)


def write_mrxs(path, rgb, tile=256):
    """3DHISTECH MIRAX: an index of linked pages beside the .mrxs file, one level of JPEG tiles."""
    slide_id = b"0" * 32
    rows, columns = rgb.shape[0] // tile, rgb.shape[1] // tile
    folder = path.with_suffix("")
    folder.mkdir()
    path.write_bytes(imagecodecs.jpeg8_encode(rgb[::8, ::8].copy()))
    data, entries = b"data", []
    for number in range(rows * columns):
        y, x = number // columns * tile, number % columns * tile
        jpeg = imagecodecs.jpeg8_encode(rgb[y : y + tile, x : x + tile].copy(), level=95)
        entries.append((number, len(data), len(jpeg), 0))
        data += jpeg
    (folder / "Data0000.dat").write_bytes(data)
    head = b"01.02" + slide_id
    root = len(head) + 8  # two roots, then the pages of the only level
    page = struct.pack("<i", root + 4) + struct.pack("<ii", 0, root + 12)
    page += struct.pack("<ii", len(entries), 0)
    page += b"".join(struct.pack("<iiii", *entry) for entry in entries)
    (folder / "Index.dat").write_bytes(head + struct.pack("<ii", root, root) + page)
    (folder / "Slidedat.ini").write_text(
        f"[GENERAL]\nSLIDE_VERSION=01.02\nSLIDE_ID={slide_id.decode()}\n"
        f"IMAGENUMBER_X={columns}\nIMAGENUMBER_Y={rows}\nOBJECTIVE_MAGNIFICATION=20\n"
        "CameraImageDivisionsPerSide=1\n"
        "[HIERARCHICAL]\nHIER_COUNT=1\nNONHIER_COUNT=0\nINDEXFILE=Index.dat\n"
        "HIER_0_NAME=Slide zoom level\nHIER_0_COUNT=1\nHIER_0_VAL_0_SECTION=LEVEL_0\n"
        "[DATAFILE]\nFILE_COUNT=1\nFILE_0=Data0000.dat\n"
        "[LEVEL_0]\nOVERLAP_X=0\nOVERLAP_Y=0\nMICROMETER_PER_PIXEL_X=0.5\n"
        "MICROMETER_PER_PIXEL_Y=0.5\nIMAGE_FORMAT=JPEG\nIMAGE_FILL_COLOR_BGR=16777215\n"
        f"DIGITIZER_WIDTH={tile}\nDIGITIZER_HEIGHT={tile}\nIMAGE_CONCAT_FACTOR=0\n"
    )
