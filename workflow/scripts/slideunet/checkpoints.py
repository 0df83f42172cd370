"""Checkpoints of a training: one file each, the last two kept, a damaged one passed over.

A file holds everything that the next step depends on: the tensors, and in its metadata the step,
the history and what the training was made from. The draws of step n follow from the seed and n
(see sampling.py), so the step number is the whole state of the random generators.
"""

import json
import logging
from pathlib import Path

import torch

from slideunet.durable import retried
from slideunet.errors import UserError
from slideunet.tensorfile import is_whole, read_header, read_tensors, write_tensors

log = logging.getLogger("unet-slides")

KEPT = 2  # the last one, and the one before it in case the last one is damaged


Groups = dict[str, dict[str, torch.Tensor]]  # "network", "optimiser" ... -> name -> tensor


def save(folder: Path, step: int, groups: Groups, state: dict) -> Path:
    """Write the checkpoint of `step`, then drop all but the last two. `state` must be JSON."""
    tensors = {f"{group}/{name}": groups[group][name] for group in groups for name in groups[group]}
    path = folder / f"checkpoint-{step:09d}.safetensors"
    about = {"state": json.dumps({**state, "step": step}, sort_keys=True)}
    retried(lambda: write_tensors(path, tensors, about))
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_latest(folder: Path) -> tuple[Groups, dict] | None:
    """Tensors and state of the newest undamaged checkpoint, or None where there is none.

    One line is logged for each damaged file that is passed over; it is removed.
    """
    for stale in folder.glob(".checkpoint-*.part"):  # of a killed writer
        stale.unlink(missing_ok=True)
    for path in _newest_first(folder):
        try:
            entries, metadata = read_header(path)
            if not is_whole(path, metadata):
                raise UserError(f"{path}: content is not what was written (checksum differs)")
            groups: Groups = {}
            for key, tensor in read_tensors(path, entries).items():
                group, name = key.split("/", 1)
                groups.setdefault(group, {})[name] = tensor
            return groups, json.loads(metadata["state"])
        except UserError as error:
            log.warning("damaged checkpoint passed over, going on from the one before: %s", error)
            path.unlink(missing_ok=True)
    return None


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)
