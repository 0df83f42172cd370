"""Where a slide's time went: of one attempt, of several parts together, and as rows of a table.

Standard library only: the Snakefile side imports it.
"""

import json
from pathlib import Path

NAME = "segmentation.timing.json"
# Columns of timing.tsv, as they stand in each slide's NAME.
COLUMNS = (
    "wall_s", "read_s", "wait_s", "compute_s", "write_s", "devices", "device_busy_percent",
    "computed_px", "mpx_per_s",
)  # fmt: skip


def timing_of(markers: list[dict], devices: int, wall_s: float) -> dict:
    """Seconds of reading, waiting for a device, computing and writing, summed over all shards.

    markers : of the shards that were written (shard_store.py); devices : tiles computed at once;
    wall_s : time from the first to the last. `device_busy_percent` is the share of that time in
    which the devices computed.
    """
    seconds = {
        f"{key}_s": sum(marker["seconds"].get(key, 0.0) for marker in markers)
        for key in ("read", "wait", "compute", "write")
    }
    pixels = sum(marker.get("computed_px", 0) for marker in markers)
    return _with_rates({**seconds, "wall_s": wall_s, "devices": devices, "computed_px": pixels})


def together(timings: list[dict]) -> dict:
    """The timing of parts that ran as jobs of their own: sums, as if they ran one after another."""
    added = ("read_s", "wait_s", "compute_s", "write_s", "wall_s", "computed_px")
    sums = {key: sum(timing[key] for timing in timings) for key in added}
    return _with_rates({**sums, "devices": max(timing["devices"] for timing in timings)})


def _with_rates(sums: dict) -> dict:
    wall_s = max(sums["wall_s"], 1e-9)
    rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in sums.items()}
    return {
        **rounded,
        "device_busy_percent": round(100 * sums["compute_s"] / sums["devices"] / wall_s, 1),
        "mpx_per_s": round(sums["computed_px"] / wall_s / 1e6, 3),
    }


def read(path: Path) -> dict | None:
    """A timing that was written, None where there is none (its job was killed after publishing)."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def rows(results: str, slides: list[str]) -> list[dict]:
    """A row of timing.tsv for each slide that was segmented."""
    found = {slide: read(Path(results) / "slides" / slide / NAME) for slide in slides}
    return [
        {"slide": slide, **{key: timing.get(key, "") for key in COLUMNS}}
        for slide, timing in found.items()
        if timing
    ]
