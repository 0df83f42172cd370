"""Which device and precision a job computes with."""

import torch

from slideunet import local_gpus
from slideunet.errors import UserError
from slideunet.job import stop_requested

PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(gpus: int) -> torch.device:
    """CUDA when the job asked for a GPU and there is one; else the CPU.

    Of several local GPUs the process takes as many as it asked for and sees no other.
    """
    local_gpus.take(gpus, stop_requested)
    return torch.device("cuda" if gpus and torch.cuda.is_available() else "cpu")


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """The dtype of a config value `precision`; `auto` is bfloat16 where the device gains by it.

    A processor gains where it has bf16 matrix instructions (avx512_bf16 or amx): elsewhere it
    would emulate them. Raises UserError for an unknown name.
    """
    if name != "auto":
        if name not in PRECISIONS:
            raise UserError(f"precision: {name}: take one of auto, {', '.join(PRECISIONS)}")
        return PRECISIONS[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if _cpu_has_bf16() else torch.float32


def _cpu_has_bf16() -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def seed_all(device: torch.device, seed: int) -> None:
    """Seed what dropout draws from on this device: the numbers of torch.manual_seed.

    That asks for every kind of device, and keeps a stack trace for each that is not there: 0.4 ms.
    """
    if device.type == "cuda":
        torch.cuda.manual_seed_all(seed)
    else:
        torch.default_generator.manual_seed(seed)
