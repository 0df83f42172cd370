"""The morning report: where the night stands, on one page."""

from datetime import datetime
from pathlib import Path

import yaml

from slideunet import held_out, night, provenance, store
from slideunet.embedded import ALL_BYTES, Picture, embed, share_bytes
from slideunet.errors import UserError
from slideunet.manifest import read_manifest
from slideunet.morning_page import figure, render
from slideunet.parameters import from_text

PROJECT = Path(__file__).parents[4]
KINDS = {"thumbnail": "thumbnail.png", "overlay": "pictures/overlay.png"}
# What the pictures of all networks may add to the page, and of that one picture, bytes.
MODEL_BYTES, ONE_MODEL_BYTES = 4_000_000, 200_000
MODEL_SIDES_PX = (900, 700, 500)


def morning(*, results: str, models: list[str], page: str, config: dict | str) -> None:
    """Write the page (HTML) from what lies in the results folder.

    results : the folder, with archive.tsv, failures.tsv, timing.tsv
    models : manifests of the networks, trained or imported
    config : the configuration, shown as it is; or that by parameters.as_text
    """
    folder = Path(results)
    slides = night.read_slides(folder)
    shown, left_out = pictures(
        folder, [slide.name for slide in slides if slide.status != "skipped"]
    )
    notes = [f"{left_out} pictures were left out: there is no room for them"] if left_out else []
    text = render(
        title=f"unet-slides: {results}",
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        counts={
            kind: sum(slide.status == kind for slide in slides)
            for kind in ("done", "failed", "skipped")
        },
        slides=slides,
        pictures=shown,
        totals=totals(slides),
        models=networks(folder, models),
        tables=tables(folder),
        provenance=[
            ("Code", {"commit": provenance.commit(PROJECT)}),
            ("Networks (sha256 of their weights)", digests(models)),
            ("Packages", provenance.versions()),
            ("The machine that wrote this page", provenance.hardware()),
        ],
        configuration=yaml.safe_dump(from_text(config), sort_keys=False, allow_unicode=True),
        notes=notes,
    )
    store.write_file(Path(page), text.encode())


def pictures(
    folder: Path, names: list[str], limit: int = ALL_BYTES
) -> tuple[dict[str, dict[str, Picture | None]], int]:
    """The pictures of these slides, together at most `limit` bytes, and how many found no room."""
    most = share_bytes(len(KINDS) * len(names), limit)
    shown, left_out = {}, 0
    for name in names:
        files = {kind: folder / "slides" / name / file for kind, file in KINDS.items()}
        shown[name] = {kind: embed(path, most) for kind, path in files.items()}
        left_out += sum(shown[name][kind] is None and files[kind].is_file() for kind in files)
    return shown, left_out


def totals(slides: list[night.Slide]) -> list[tuple[str, str]]:
    """Sums over all slides: what, and how much in words."""

    def total(key: str) -> float:
        values = (slide.values.get(key) for slide in slides)
        return sum(value for value in values if isinstance(value, float))

    computed, wall_s = total("computed_px"), total("wall_s")
    jobs_s = sum(total(f"{rule}_s") for rule in night.RULES)
    tissue_mm2 = total("tissue_mm2")  # none where no slide has a pixel size
    sums = [
        ("objects", figure(total("objects"))),
        *([("tissue", f"{figure(tissue_mm2)} mm²")] if tissue_mm2 else []),
        ("computed", _in_units(computed, (1e9, "Gpx"), (1e6, "Mpx"))),
        ("time of all slides' jobs", _in_units(jobs_s, (3600, "h"), (60, "min"), (1, "s"))),
    ]
    if wall_s:
        sums.append(("while segmenting", f"{figure(computed / 1e6 / wall_s)} Mpx/s a job"))
    warned = sum(bool(slide.warnings) for slide in slides)
    return [*sums, ("slides with warnings", str(warned))]


def _in_units(value: float, *units: tuple[float, str]) -> str:
    """In the first unit that makes it at least 1, else in the last."""
    size, unit = next((one for one in units if value >= one[0]), units[-1])
    return f"{figure(value / size)} {unit}"


def networks(folder: Path, models: list[str]) -> list[dict]:
    """Name, what it is, learning curves and held-out predictions of each network."""
    most = share_bytes(2 * len(models), MODEL_BYTES, ONE_MODEL_BYTES)
    found = []
    for manifest in map(Path, models):
        name = manifest.parent.name
        files = (manifest.with_name("curves.png"), folder / "evaluation" / f"{name}.png")
        embedded = [embed(path, most, MODEL_SIDES_PX) for path in files]
        found.append(
            {"name": name, "about": _about(manifest), "pictures": [e for e in embedded if e]}
        )
    return found


def tables(folder: Path) -> list[tuple[str, list[dict]]]:
    """The evaluation of each network, and of groups of networks where there are some."""
    single = night.read_table(folder / "evaluation" / "summary.tsv")
    groups = night.read_table(folder / "evaluation" / "groups.tsv")
    grouped = any(row.get("models", "1") != "1" for row in groups)
    found = [("On test images", single)]
    if grouped:
        found.append(("Groups of networks (folds, seeds): mean and standard deviation", groups))
    return [(title, rows) for title, rows in found if rows]


def digests(models: list[str]) -> dict[str, str]:
    """Network -> sha256 of its weights, as its manifest names it."""
    found = {}
    for manifest in map(Path, models):
        files = _read(manifest).get("files", [])
        digest = [e["sha256"] for e in files if e["path"] == "model.safetensors"]
        found[manifest.parent.name] = digest[0] if digest else "not made"
    return found


def _about(manifest: Path) -> str:
    """A network in one line."""
    content = _read(manifest)
    facts = content.get("facts", {})
    if not facts:
        return "not made"
    network = facts["architecture"]
    how = "made elsewhere" if content["kind"] == "import_model" else f"{facts['steps']} steps"
    size = f"{facts['mpp_um']:.3g} µm/px" if facts["mpp_um"] else "pixel size unknown"
    tested_on = held_out.tested_on(content["inputs"])
    return (
        f"depth {network['depth']}, {network['base_channels']} channels at first, {how}, "
        f"{', '.join(facts['classes'])}, {size}"
        + (f"; tested on {tested_on}" if tested_on == held_out.TRAINED_ON else "")
    )


def _read(manifest: Path) -> dict:
    try:
        return read_manifest(manifest)
    except UserError:
        return {}
