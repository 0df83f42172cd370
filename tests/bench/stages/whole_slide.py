"""A slide file to OME-Zarr, beside the network alone on the same tiles; larger: bench_inference.py.

"Without the network": one that passes its input through, so that what is left is all else: the
child process, decoding, scaling, softmax, pyramid, encoding, checksums.
"""

import shutil
from functools import partial
from pathlib import Path

from turns import Prepared, Program, Stage

SIDE_PX, SHARD_PX = 4096, 2048
_HERE = "stages.whole_slide"


def stages() -> list[Stage]:
    return [
        Stage(
            f"JPEG slide of {SIDE_PX} px to OME-Zarr, base 16, bfloat16",
            "CPU-ms/Mpx",
            [
                Program("ours", "ours", f"{_HERE}:segmented", turns=2),
                Program("ours", "the same without the network", f"{_HERE}:without_network"),
                Program("limit", "the network alone", f"{_HERE}:network_alone", turns=2),
            ],
            f"{_HERE}:make",
        )
    ]


def make(folder: Path) -> Prepared:
    """Tissue-like pixels in every tile."""
    from procedural_slide import ProceduralSlide, write_jpeg

    return lambda: write_jpeg(folder / "slide.tif", ProceduralSlide(SIDE_PX, SIDE_PX)), 1


def segmented(folder: Path) -> Prepared:
    """As a job does it, but for the manifest."""
    from procedural_slide import members

    return _segmented(folder, "ours", members)


def without_network(folder: Path) -> Prepared:
    from procedural_slide import members

    def passing() -> list:
        (member,) = members()
        network = member.network
        network.forward = lambda x: _middle(x, network)
        return [member]

    return _segmented(folder, "without", passing)


def _middle(x, network):
    """The first channels of the input's middle, as many and as large as the network's scores."""
    from slideunet.network import crop_to

    side_yx = [network.output_px(side) for side in x.shape[-2:]]
    return crop_to(x[:, : network.classes], x.new_empty((1, 1, *side_yx)))


def _segmented(folder: Path, name: str, open_members) -> Prepared:
    from dataclasses import replace

    from procedural_slide import request
    from slideunet.segmentation import segment_slide
    from slideunet.slide_source import open_source

    opener = partial(open_source, str(folder / "slide.tif"), None, None, False)
    asked = request(SIDE_PX, SIDE_PX, "bfloat16", SHARD_PX, open_source=opener, shard_px=SHARD_PX)
    asked, own = replace(asked, open_members=open_members), folder / name

    def work() -> None:
        shutil.rmtree(own, ignore_errors=True)
        own.mkdir()
        segment_slide(asked, own)

    return work, SIDE_PX**2 / 1e6


def network_alone(folder: Path) -> Prepared:
    """Its forward pass, on an input of the tiles' shape, as often as there are tiles."""
    import torch
    from procedural_slide import DEPTH, make_network
    from slideunet.allocator import keep_large_allocations
    from slideunet.geometry import input_px_for
    from slideunet.overlap_tile import prepare, tile_scores

    keep_large_allocations()
    torch.set_num_threads(1)
    network = prepare(make_network(3), torch.device("cpu"), torch.bfloat16)
    side = input_px_for(SHARD_PX, DEPTH)
    tile = torch.rand(3, side, side)

    def work() -> None:
        for _ in range((SIDE_PX // SHARD_PX) ** 2):
            tile_scores(network, tile)

    return work, SIDE_PX**2 / 1e6
