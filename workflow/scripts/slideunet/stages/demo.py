"""The demo's files: a training image, a slide and their labels, from published packages."""

from pathlib import Path

from slideunet.demo import download_samples, make_slide
from slideunet.store import Work, make

FILES = ("img2d.tif", "mask2d.tif", "hela.ome.tif", "hela_label.ome.tif")


def demo(*, manifest: str, wheels: str, settings: dict, code: dict) -> None:
    """Make FILES beside the manifest.

    settings : {nuclei_package, slide_package, mpp_um}, section `demo` of the configuration
    wheels : folder where the packages are looked for first and downloaded to
    """

    def build(work: Work) -> tuple[list[str], dict]:
        folder = work.folder
        download_samples(folder, Path(wheels), settings)
        facts = make_slide(
            folder / "frames.tif",
            folder / "frames_label.tif",
            folder / "hela.ome.tif",
            folder / "hela_label.ome.tif",
            settings["mpp_um"],
        )
        return list(FILES), facts

    make(manifest, build, kind="demo", settings=settings, code=code, inputs={})
