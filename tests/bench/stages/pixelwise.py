"""The paper's old baseline: a patch for each pixel, beside one pass over all (bench_sliding.py)."""

from pathlib import Path

from turns import Prepared, Program, Stage

_HERE = "stages.pixelwise"
PROGRAMS = {  # of bench_sliding.inference_runs
    "U-Net, overlap-tile": "ours",
    "U-Net, pixel by pixel": "peer",
    "patch network, patch by patch": "peer",
    "patch network, all at once": "peer",
}


def stages() -> list[Stage]:
    return [
        Stage(
            "classes of a 512 px section, base 16, bfloat16",
            "CPU-ms/Mpx",
            [
                Program(role, name, f"{_HERE}:run", {"name": name})
                for name, role in PROGRAMS.items()
            ],
        )
    ]


def run(folder: Path, name: str) -> Prepared:
    import torch
    from bench_sliding import inference_runs

    torch.set_num_threads(1)
    work, pixels = inference_runs(torch.bfloat16)[name]
    return torch.inference_mode()(work), pixels / 1e6
