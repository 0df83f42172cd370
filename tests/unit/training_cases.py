"""Small trainings: what the tests of training share."""

import numpy as np
import torch
from slideunet.training_data import AnnotatedImage

CLASS_WEIGHTS = [0.4, 1.0]
NO_AUGMENTATION = {
    "elastic_grid": 3, "elastic_sigma_px": 0, "rotation_deg": 0, "flips": False,
    "brightness": 0, "contrast": 0, "gamma": 0, "noise": 0,
}  # fmt: skip
AUGMENTATION = {
    "elastic_grid": 3, "elastic_sigma_px": 2, "rotation_deg": 180, "flips": True,
    "brightness": 0.1, "contrast": 0.1, "gamma": 0.1, "noise": 0.05,
}  # fmt: skip


def settings(augment=AUGMENTATION, dropout=0.5, **changes):
    return {
        "network": {"depth": 1, "base_channels": 4, "dropout": dropout},
        "augment": augment,
        "train": {
            "steps": 7, "batch": 1, "input_px": 28, "optimiser": "adamw", "learning_rate": 0.01,
            "momentum": 0.99, "weight_decay": 0.01, "schedule": "cosine", "warmup_steps": 2,
            "flat": 0, "border_factor": 1,
            "gradient_clip_norm": 1, "average_decay": 0.9, "precision": "float32", "seed": 5,
            "threads": 1, "checkpoint_every_steps": 2, "validate_every_steps": 3,
        } | changes,
    }  # fmt: skip


def discs(seed, side=48, ignored=True):
    """An image of bright discs in noise, annotated but for a corner."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    target = np.zeros((side, side), np.uint8)
    for cy, cx in random.uniform(0, side, (5, 2)):
        target[(y - cy) ** 2 + (x - cx) ** 2 < 36] = 1
    image = target + random.normal(0, 0.2, target.shape)
    border = random.uniform(0, 3, target.shape) * (target == 0)
    if ignored:
        target[:10, :10] = 255
    return AnnotatedImage(
        f"discs{seed}", image[None].astype(np.float32), target, border.astype(np.float32)
    )


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
