"""What others do to an image that is too large for a network, as their documentation has it."""

import numpy as np


def naive(network, pixels: np.ndarray):
    """The paper's tile, 572 -> 388, step by step from the corner; no other care taken."""
    import torch

    height, width = pixels.shape[1:]
    steps = -(-height // 388)
    around = 92, steps * 388 - height + 92
    padded = torch.from_numpy(np.pad(pixels, ((0, 0), around, around), mode="reflect"))
    padded = padded.to(network.score.weight.dtype)
    out = torch.empty(2, steps * 388, steps * 388)
    with torch.inference_mode():
        for y in range(0, steps * 388, 388):
            for x in range(0, steps * 388, 388):
                scores = network(padded[None, :, y : y + 572, x : x + 572])[0]
                out[:, y : y + 388, x : x + 388] = torch.softmax(scores.float(), 0)
    return out[:, :height, :width]


def dask_overlap(network, pixels: np.ndarray):
    """dask's map_overlap: chunks of 1028 px with the network's context of 92 px around them."""
    import dask
    import dask.array as da
    import torch

    height, width = pixels.shape[1:]
    chunk = 1028  # + 2 * 92 = 1212, a size that the network admits
    more = [(0, 0), (0, -height % chunk), (0, -width % chunk)]
    image = da.from_array(np.pad(pixels, more, mode="reflect"), chunks=(1, chunk, chunk))

    def predict(block: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            scores = network(torch.from_numpy(np.ascontiguousarray(block))[None])[0]
            return torch.softmax(scores, 0).numpy()

    found = da.map_overlap(
        predict, image, depth=(0, 92, 92), boundary="reflect", trim=False, dtype=np.float32,
        chunks=((2,), *image.chunks[1:]), meta=np.empty((0, 0, 0), np.float32),
    )  # fmt: skip
    with dask.config.set(scheduler="synchronous"):
        return torch.from_numpy(found.compute()[:, :height, :width])


def monai(network, pixels: np.ndarray, overlap: float, mode: str):
    """MONAI's sliding windows of 512 px."""
    import torch
    from monai.inferers import sliding_window_inference

    values = torch.from_numpy(pixels)[None].to(network.score.weight.dtype)
    with torch.inference_mode():
        scores = sliding_window_inference(
            values, (512, 512), 1, network, overlap=overlap, mode=mode
        )
        return torch.softmax(scores[0].float(), 0)
