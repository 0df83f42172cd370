"""Learning curves: a table, a picture, and event files for TensorBoard."""

import shutil
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
    """TensorBoard event files in `folder`, written anew: a resumed training hands over all rows."""

    def __init__(self, folder: Path):
        from torch.utils.tensorboard import SummaryWriter

        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))

    def add(self, row: dict) -> None:
        """One row of the history."""
        for key in COLUMNS[1:]:
            if key in row:
                self._writer.add_scalar(key, row[key], row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        self._writer.close()
