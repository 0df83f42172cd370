"""Learning curves: a table, a picture, and event files for TensorBoard."""

import os
import shutil
import socket
import time
from pathlib import Path

COLUMNS = ("step", "loss", "learning_rate", "validation_iou", "validation_pixel_error")


def write_table(path: Path, history: list[dict]) -> None:
    """A TSV with a row per entry; a value that an entry lacks is left empty."""
    lines = ["\t".join(COLUMNS)]
    for row in history:
        lines.append("\t".join(f"{row[key]:.7g}" if key in row else "" for key in COLUMNS))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def draw(path: Path, history: list[dict], title: str, validated_on: str) -> None:
    """Training loss (logarithmic) and, where there was validation, IoU over the steps, as PNG.

    validated_on : which images, as words of the axis' title
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    steps = [row["step"] for row in history]
    axes.plot(steps, [row["loss"] for row in history], color="tab:blue")
    axes.set(xlabel="step", yscale="log", title=title)
    axes.set_ylabel("training loss", color="tab:blue")
    measured = [row for row in history if "validation_iou" in row]
    if measured:
        right = axes.twinx()
        right.plot(
            [row["step"] for row in measured],
            [row["validation_iou"] for row in measured],
            color="tab:red",
            marker="o",
        )
        right.set_ylabel(f"IoU on {validated_on}", color="tab:red")
        right.set_ylim(0, 1)
    # Without the version of matplotlib: equal curves give equal bytes.
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


class Events:
    """A TensorBoard event file in `folder`, written anew: a resumed training hands over all rows.

    Written by the caller's thread: torch's SummaryWriter has one of its own, which ends with a
    traceback where the disk is full.
    """

    def __init__(self, folder: Path):
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        shutil.rmtree(folder, ignore_errors=True)
        # still there where a network file system keeps an open file of the last one
        folder.mkdir(exist_ok=True)
        # The name that TensorBoard looks for: time, host, process.
        name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}"
        self._event = Event
        self._writer = RecordWriter(open(folder / name, "wb"))  # noqa: SIM115 - see close
        self._write(file_version="brain.Event:2")

    def _write(self, **fields) -> None:
        self._writer.write(self._event(wall_time=time.time(), **fields).SerializeToString())

    def add(self, row: dict) -> None:
        """One row of the history."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        for key in COLUMNS[1:]:
            if key in row:
                value = Summary.Value(tag=key, simple_value=row[key])
                self._write(step=row["step"], summary=Summary(value=[value]))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()
