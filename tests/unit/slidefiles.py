"""Made-up slide files: the containers of real scanners, filled with a picture of our own.

Each writer makes the smallest file that tifffile or OpenSlide takes for the real thing, after the
formats' descriptions at openslide.org/formats. The pictures are smooth: JPEG changes them little.
"""

import numpy as np
import pytest
import tifffile
from slideunet.errors import SlideError
from slideunet.readers.open import open_slide


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


def refusal(path):
    """The one line that says why a slide can't be opened or read."""
    with pytest.raises(SlideError) as caught, open_slide(path) as reader:
        for level, shape in enumerate(reader.levels):
            reader.read(level, 0, 0, min(shape.height, 4096), min(shape.width, 4096))
    line = str(caught.value)
    assert line.startswith(f"{path}") and "\n" not in line
    return line.replace(str(path), "")  # the test's name is in the path
