"""Made-up slide files: the containers of real scanners, filled with a picture of our own.

Each writer makes the smallest file that tifffile or OpenSlide takes for the real thing, after the
formats' descriptions at openslide.org/formats. The pictures are smooth: JPEG changes them little.
"""

import io
import struct

import imagecodecs
import numpy as np
import tifffile
from PIL import Image


def picture(height, width, seed=0):
    """A smooth RGB picture (height, width, 3) uint8: pink and violet on bright glass."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(y / a + p) * np.cos(x / b + p) for a, b, p in rng.uniform(9, 40, (3, 3))]
    rgb = 128 + 100 * np.stack(waves, axis=-1)
    rgb[: height // 4] = (240, 238, 242)
    return np.clip(rgb, 0, 255).astype(np.uint8)


def halves(image, levels):
    """A pyramid by taking every second pixel (channels last)."""
    return [image[:: 2**i, :: 2**i] for i in range(levels)]


def channels_first(image):
    return np.moveaxis(image, -1, 0) if image.ndim == 3 else image[None]


def write_svs(path, rgb, levels=2, mpp="0.5000", tile=256, extras=True, **options):
    """Aperio SVS: baseline, thumbnail, levels, label and macro."""
    height, width = rgb.shape[:2]
    about = f"Aperio Image Library v12.0\r\n{width}x{height} ({tile}x{tile}) JPEG/RGB Q=90"
    about += "|AppMag = 20" + (f"|MPP = {mpp}" if mpp else "")
    options = {"compression": "jpeg", "compressionargs": {"level": 95}, **options}
    with tifffile.TiffWriter(path) as tif:
        for index, level in enumerate(halves(rgb, levels)):
            tif.write(
                level,
                tile=(tile, tile),
                photometric="rgb",
                metadata=None,
                description=about,
                **options,
            )
            if index == 0 and extras:
                tif.write(rgb[::8, ::8], photometric="rgb", metadata=None, description=about)
        if extras:
            # Larger than the slide: size alone must not make it the slide.
            big = np.zeros((height + 64, width + 64, 3), np.uint8)
            label, macro = (
                f"Aperio Image Library v12.0\r\n{name} 9x9" for name in ("label", "macro")
            )
            tif.write(big, photometric="rgb", subfiletype=1, metadata=None, description=label)
            tif.write(big, photometric="rgb", subfiletype=9, metadata=None, description=macro)


def write_scn(path, rgb, areas=1):
    """Leica SCN: a macro image of the whole glass and scanned areas; 500 nm a pixel."""
    height, width = rgb.shape[:2]
    glass = (4 * width * 500, 2 * height * 500)
    images = [(None, (0, 0), glass, rgb[::8, ::8])]
    images += [
        (i, ((2 * i * width + 1) * 500, 500), (width * 500, height * 500), rgb)
        for i in range(areas)
    ]
    ifd, xml = 0, ""
    pages = []
    for _, offset, size, image in images:
        dimensions = ""
        for r, level in enumerate(halves(image, 2)):
            h, w = level.shape[:2]
            dimensions += f'<dimension sizeX="{w}" sizeY="{h}" r="{r}" ifd="{ifd}"/>'
            pages.append(level)
            ifd += 1
        view = f'sizeX="{size[0]}" sizeY="{size[1]}" offsetX="{offset[0]}" offsetY="{offset[1]}"'
        xml += (
            f'<image name="i{ifd}"><scanSettings><objectiveSettings><objective>20</objective>'
            "</objectiveSettings><illuminationSettings><illuminationSource>brightfield"
            "</illuminationSource></illuminationSettings></scanSettings>"
            f'<pixels sizeX="{image.shape[1]}" sizeY="{image.shape[0]}">{dimensions}</pixels>'
            f"<view {view}/></image>"
        )
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01">'
        f'<collection sizeX="{glass[0]}" sizeY="{glass[1]}"><barcode>x</barcode>'
        f"{xml}</collection></scn>"
    )
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for index, page in enumerate(pages):
            tif.write(
                page,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                metadata=None,
                description=xml if index == 0 else None,
                resolution=(20000, 20000),
                resolutionunit="CENTIMETER",
            )


def write_philips(path, rgb, levels=2):
    """Philips TIFF: levels padded to whole tiles; the XML alone says how they shrink."""
    spacing = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        f'<Attribute Name="DICOM_PIXEL_SPACING">&quot;{0.00025 * 2**i}&quot; '
        f"&quot;{0.00025 * 2**i}&quot;</Attribute></DataObject>"
        for i in range(levels)
    )
    xml = (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array><DataObject ObjectType="DPScannedImage">'
        '<Attribute Name="PIM_DP_IMAGE_TYPE">WSI</Attribute>'
        '<Attribute Name="DICOM_PIXEL_SPACING">"0.00025" "0.00025"</Attribute>'
        f'<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>{spacing}</Array>'
        "</Attribute></DataObject></Array></Attribute></DataObject>"
    )
    with tifffile.TiffWriter(path) as tif:
        for index, level in enumerate(halves(rgb, levels)):
            pad = [(0, -n % 256) for n in level.shape[:2]] + [(0, 0)]
            tif.write(
                np.pad(level, pad, constant_values=255) if index else level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                metadata=None,
                software="Philips DP v1.0",
                subfiletype=int(index > 0),
                description=xml if index == 0 else f"level={index}",
            )
        tif.write(rgb[::8, ::8], photometric="rgb", metadata=None, description="Macro")


def write_bif(path, rgb):
    """Ventana BIF: two levels of 256-px tiles, no overlap, serpentine from the bottom left."""
    height, width = rgb.shape[:2]
    rows, columns = height // 256, width // 256
    # Tiles are numbered from the bottom left, every other row backwards.
    number = [
        [r * columns + (c if r % 2 == 0 else columns - 1 - c) + 1 for c in range(columns)]
        for r in range(rows)
    ]
    pairs = [("RIGHT", row[c], row[c + 1]) for row in number for c in range(columns - 1)]
    pairs += [
        ("UP", number[r][c], number[r + 1][c]) for r in range(rows - 1) for c in range(columns)
    ]
    joints = "".join(
        f'<TileJointInfo FlagJoined="1" Confidence="100" Direction="{side}" OverlapX="0" '
        f'OverlapY="0" Tile1="{one}" Tile2="{two}"/>'
        for side, one, two in pairs
    )
    scan = (
        '<iScan Magnification="20" ScanRes="0.5" Z-layers="1" UnitNumber="1">'
        f'<AOI0 Left="0" Top="0" Right="{width}" Bottom="{height}"/></iScan>'
    )
    stitch = (
        '<EncodeInfo Ver="2"><SlideStitchInfo><ImageInfo AOIScanned="1" AOIIndex="0" '
        f'Width="256" Height="256" NumRows="{rows}" NumCols="{columns}" Pos-X="0" Pos-Y="0">'
        f"{joints}</ImageInfo></SlideStitchInfo>"
        '<AoiOrigin><AOI0 OriginX="0" OriginY="0"/></AoiOrigin></EncodeInfo>'
    )
    xmp = [(700, "B", len(text), text.encode(), True) for text in (scan, stitch)]
    label = np.full((64, 32, 3), 200, np.uint8)
    options = {"photometric": "rgb", "metadata": None, "software": "ScanOutputManager 1.1"}
    jpeg = {"tile": (256, 256), "compression": "jpeg", "compressionargs": {"level": 95}}
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(label, description="Label Image", extratags=xmp[:1], **options)
        for index, level in enumerate(halves(rgb, 2)):
            about = f"level={index} mag={20 / 2**index:g} quality=95"
            tags = xmp[1:] if index == 0 else []
            tif.write(level, description=about, extratags=tags, **jpeg, **options)


def write_trestle(path, rgb):
    """Trestle: generic tiles, an overlap table in the description."""
    about = "Background Color=F0F0F0;Objective Power=20;OverlapsXY= 0 0 0 0"
    with tifffile.TiffWriter(path) as tif:
        for level in halves(rgb, 2):
            tif.write(
                level,
                tile=(256, 256),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                metadata=None,
                software="MedScan 1.0",
                description=about,
                resolution=(0.5, 0.5),
            )


def write_qptiff(path, channels, names=("DAPI", "FITC")):
    """PerkinElmer QPTIFF: a page per channel, a thumbnail, half-size pages; 2 px per um."""

    def about(name, kind="FullResolution"):
        return (
            '<?xml version="1.0" encoding="utf-16"?><PerkinElmer-QPI-ImageDescription>'
            f"<ImageType>{kind}</ImageType><Name>{name}</Name><Objective>20x</Objective>"
            "</PerkinElmer-QPI-ImageDescription>"
        )

    options = {"software": "PerkinElmer-QPI", "metadata": None, "compression": "lzw"}
    options |= {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
    grey = {"tile": (128, 128), "photometric": "minisblack"}
    with tifffile.TiffWriter(path) as tif:
        for channel, name in zip(channels, names, strict=True):
            tif.write(channel, description=about(name), **grey, **options)
        thumbnail = np.zeros((32, 32, 3), np.uint8)
        tif.write(thumbnail, photometric="rgb", description=about("", "Thumbnail"), **options)
        for channel, name in zip(channels, names, strict=True):
            half = np.ascontiguousarray(channel[::2, ::2])
            tif.write(half, description=about(name, "ReducedResolution"), **grey, **options)


def write_ome(path, channels, levels=1, mpp=0.65, names=None, **options):
    """OME-TIFF of (C, Y, X), its pyramid in SubIFDs."""
    metadata = {"axes": "CYX", "PhysicalSizeX": mpp, "PhysicalSizeXUnit": "µm"}
    metadata |= {"PhysicalSizeY": mpp, "PhysicalSizeYUnit": "µm"}
    if names:
        metadata["Channel"] = {"Name": list(names)}
    options = {"tile": (128, 128), "photometric": "minisblack", **options}
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(channels, subifds=levels - 1, metadata=metadata, **options)
        for level in range(1, levels):
            reduced = np.ascontiguousarray(channels[..., :: 2**level, :: 2**level])
            tif.write(reduced, subfiletype=1, metadata=None, **options)


def write_pyramid(path, image, levels=3, tile=(128, 128), shapes=None, **options):
    """Generic tiled pyramid: pages one after the other, reduced ones marked."""
    options = {"photometric": "rgb" if image.ndim == 3 else "minisblack", **options}
    with tifffile.TiffWriter(path) as tif:
        for index, half in enumerate(halves(image, levels)):
            shape = shapes[index - 1] if shapes and index else half.shape
            level = image[: shape[0], : shape[1]] if shapes else half
            tif.write(
                np.ascontiguousarray(level),
                tile=tile,
                subfiletype=int(index > 0),
                metadata=None,
                **options,
            )


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


def write_dicom(
    path, rgb, kind="VOLUME", series="1.2.3", tile=256, organised=True, photometric=None
):
    """A DICOM slide microscopy instance of JPEG frames, 0.5 um a pixel, as OpenSlide takes it."""
    import pydicom
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.sequence import Sequence

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    meta.MediaStorageSOPInstanceUID = f"{series}.{rgb.shape[0]}.{len(kind)}"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.50"
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = (
        meta.MediaStorageSOPClassUID,
        meta.MediaStorageSOPInstanceUID,
    )
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2"
    resampled = kind == "VOLUME" and organised and rgb.shape[0] < 500
    data.ImageType = ["DERIVED", "PRIMARY", kind, "RESAMPLED" if resampled else "NONE"]
    data.Modality, data.Rows, data.Columns = "SM", tile, tile
    data.TotalPixelMatrixRows, data.TotalPixelMatrixColumns = rgb.shape[:2]
    data.SamplesPerPixel, data.PlanarConfiguration = 3, 0
    data.PhotometricInterpretation = photometric or "YBR_FULL_422"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.TotalPixelMatrixFocalPlanes = data.NumberOfOpticalPaths = 1
    measures, groups, light = Dataset(), Dataset(), Dataset()
    scale = 0.0005 * (2 if resampled else 1)
    measures.PixelSpacing, measures.SliceThickness = [scale, scale], 0.001
    groups.PixelMeasuresSequence = Sequence([measures])
    data.SharedFunctionalGroupsSequence = Sequence([groups])
    light.OpticalPathIdentifier, light.ObjectiveLensPower = "0", 20.0
    data.OpticalPathSequence = Sequence([light])
    frames = []
    for y in range(0, rgb.shape[0], tile):
        for x in range(0, rgb.shape[1], tile):
            part = rgb[y : y + tile, x : x + tile]
            part = np.pad(part, [(0, tile - part.shape[0]), (0, tile - part.shape[1]), (0, 0)])
            frames.append(imagecodecs.jpeg8_encode(part, level=95))
    if organised:
        data.DimensionOrganizationType = "TILED_FULL"
    data.NumberOfFrames = len(frames)
    data.PixelData = encapsulate(frames)
    data["PixelData"].VR = "OB"
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


def encodings(rgb):
    """The same RGB picture in many lossless encodings: (name, function that writes it)."""
    grey_free = {"photometric": "rgb", "metadata": None}
    planar = np.ascontiguousarray(np.moveaxis(rgb, -1, 0))
    rgba = np.concatenate([rgb, np.full((*rgb.shape[:2], 1), 77, np.uint8)], axis=-1)
    colours, index = np.unique(rgb.reshape(-1, 3), axis=0, return_inverse=True)
    index = index.reshape(rgb.shape[:2])

    def tiff(image=rgb, writer=None, **options):
        def write(path):
            merged = {**grey_free, **options}
            with tifffile.TiffWriter(path, **(writer or {})) as tif:
                tif.write(image, **merged)

        return write

    def palette(path):
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(colours)] = colours.T.astype(np.uint16) * 257
        tifffile.imwrite(
            path, index.astype(np.uint8), photometric="palette", colormap=table, metadata=None
        )

    def png(path):
        Image.fromarray(rgb).save(path, "PNG")

    def png_palette(path):
        image = Image.fromarray(index.astype(np.uint8), "P")
        image.putpalette(colours.ravel().tolist())
        image.save(path, "PNG")

    made = {
        "little": tiff(),
        "big endian": tiff(writer={"byteorder": ">"}),
        "bigtiff": tiff(writer={"bigtiff": True}),
        "bigtiff, big endian": tiff(writer={"bigtiff": True, "byteorder": ">"}),
        "strips of 5": tiff(rowsperstrip=5),
        "one strip": tiff(rowsperstrip=rgb.shape[0]),
        "tiles": tiff(tile=(32, 48)),
        "tiles, big endian": tiff(tile=(32, 48), writer={"byteorder": ">"}),
        "deflate": tiff(compression="zlib"),
        "deflate with predictor": tiff(compression="zlib", predictor=2, tile=(32, 48)),
        "lzw": tiff(compression="lzw", rowsperstrip=7),
        "lzw with predictor": tiff(compression="lzw", predictor=2, rowsperstrip=7),
        "packbits": tiff(compression="packbits", rowsperstrip=7),
        "zstd tiles": tiff(compression="zstd", tile=(64, 64)),
        "lzma": tiff(compression="lzma"),
        "lossless jpeg 2000": tiff(compression="jpeg2000", tile=(64, 64)),
        "planar strips": tiff(planar, planarconfig="separate"),
        "planar tiles, deflate": tiff(
            planar, planarconfig="separate", tile=(32, 48), compression="zlib"
        ),
        "rgba": tiff(rgba, extrasamples=["unassalpha"]),
        "rgba planar": tiff(
            np.ascontiguousarray(np.moveaxis(rgba, -1, 0)),
            planarconfig="separate",
            extrasamples=["unassalpha"],
        ),
        "palette": palette,
        "ome": tiff(writer={"ome": True}, metadata={"axes": "YXS"}),
        "imagej": lambda path: tifffile.imwrite(path, rgb, imagej=True),
        "shaped": tiff(metadata={}),
        "png": png,
        "png with palette": png_palette,
        "png with alpha": lambda path: Image.fromarray(rgba).save(path, "PNG"),
    }
    return made.items()


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
