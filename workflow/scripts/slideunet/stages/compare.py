"""A slide's objects against a reference label image: how many cells were found."""

from slideunet import store
from slideunet.arrays import open_group
from slideunet.errors import SlideError, UserError
from slideunet.folder_inputs import files_and_digests
from slideunet.images import read_picture
from slideunet.metrics.objects import object_counts
from slideunet.store import Work, make


def compare(*, objects: str, label: str, manifest: str, settings: dict, code: dict) -> None:
    """Object F1, precision and recall at IoU 0.5 of a slide's objects, as facts of accuracy.json.

    objects : manifest of stage objects
    label : label image (Y, X), OME-Zarr labels too, of the size that was segmented
    settings : section evaluate (min_area_px: objects below it count neither way)

    A reference of another size, or that can't be read, ends as a manifest with `status: failed`.
    Both label images are held in memory: a reference is at most what somebody annotated.
    """

    def build(work: Work) -> tuple[list[str], dict]:
        store.load(objects)
        found = open_group(store.beside(objects, "objects.ome.zarr"))["0"]
        try:
            truth = read_picture(label).pixels[0]
        except UserError as error:  # of one slide: the others go on
            raise SlideError(str(error)) from error
        if truth.shape != found.shape:
            raise SlideError(
                f"{label}: {truth.shape[0]} x {truth.shape[1]} pixels, but the slide was segmented "
                f"at {found.shape[0]} x {found.shape[1]}: give a reference of that size"
            )
        counts = object_counts(truth, found[...], min_area_px=settings["evaluate"]["min_area_px"])
        facts = {
            "object_f1": counts.f1,
            "object_precision": counts.precision,
            "object_recall": counts.recall,
            "reference_objects": counts.true_positives + counts.false_negatives,
        }
        return [], facts

    files, digests = files_and_digests({"objects": objects, "label": label})
    make(
        manifest, build, kind="compare", settings=settings | digests, code=code, inputs=files,
        slide=True,
    )  # fmt: skip
