"""How many GPUs this machine has, without loading a driver or torch.

Imported by the Snakefile side.
"""

from glob import glob


def count_gpus() -> int:
    """The number of NVIDIA device files; 0 where there is none."""
    return len(glob("/dev/nvidia[0-9]*"))
