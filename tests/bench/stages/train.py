"""A training step, augmentation and loading and all, against the network's own forward, backward
and optimiser step on a tile that is there already.
"""

from pathlib import Path

import numpy as np
from turns import Prepared, Program, Stage

IMAGE_PX = 1024
CASES = {  # what is asked beside config.yaml
    "the default (236 px, base 16)": {"network": {}, "train": {}},
    "the paper's tile (572 px, base 16)": {"network": {"depth": 4}, "train": {"input_px": 572}},
    "the paper's network (572 px, base 64)": {
        "network": {"depth": 4, "base_channels": 64},
        "train": {"input_px": 572},
    },
}
STEPS, STEPS_OF_BASE_64 = 8, 2  # in one turn
_HERE = "stages.train"


def stages() -> list[Stage]:
    return [
        Stage(
            f"training step, {case}, bfloat16",
            "CPU-ms",
            [
                Program("ours", "ours", f"{_HERE}:step", {"case": case}),
                Program(
                    "limit", "forward, backward, optimiser alone", f"{_HERE}:bare", {"case": case}
                ),
            ],
        )
        for case in CASES
    ]


def _training(folder: Path, case: str):
    """A training on one random image with the default augmentation."""
    import torch
    import yaml
    from slideunet.allocator import keep_large_allocations
    from slideunet.training import Training
    from slideunet.training_data import AnnotatedImage

    torch.set_num_threads(1)
    keep_large_allocations()
    config = yaml.safe_load((Path(__file__).parents[3] / "config.yaml").read_text())
    settings = {name: config[name] for name in ("network", "augment", "train")}
    settings["network"] |= CASES[case]["network"]
    settings["train"] |= {"steps": 10**6, "precision": "bfloat16", **CASES[case]["train"]}
    random = np.random.default_rng(0)
    image = random.random((1, IMAGE_PX, IMAGE_PX), dtype=np.float32)
    annotated = AnnotatedImage("random", image, (image[0] > 0.7).astype(np.uint8), image[0])
    return Training([annotated], [], settings, [0.4, 1.0], folder)


def _steps(case: str) -> int:
    return STEPS_OF_BASE_64 if "base_channels" in CASES[case]["network"] else STEPS


def step(folder: Path, case: str) -> Prepared:
    """As a job does it, checkpoints and validations left out."""
    training, steps = _training(folder, case), _steps(case)

    def work() -> None:
        for _ in range(steps):
            training.step()

    return work, steps


def bare(folder: Path, case: str) -> Prepared:
    """What any training must do, by the same network on the same kind of tile."""
    import torch
    from slideunet.loss import weighted_cross_entropy

    training, steps = _training(folder, case), _steps(case)
    x, target, border = training.tiles(0)

    def one_step() -> None:
        with torch.autocast("cpu", training.precision):
            scores = training.network(x)
        loss = weighted_cross_entropy(scores, target, border, training.weight_of)
        training.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        training.optimiser.step()

    def work() -> None:
        for _ in range(steps):
            one_step()

    return work, steps
