"""A trained network as stage train leaves it on disk, of drawn weights."""

from pathlib import Path

from memory_slide import network
from slideunet import model, store

ARCHITECTURE = {"depth": 2, "base_channels": 4, "dropout": 0.5}


def write_model(folder: Path, seed: int = 0, **changed) -> str:
    """A manifest as stage train leaves it, of a random network of depth 2."""
    folder.mkdir(exist_ok=True)
    values = {
        "architecture": ARCHITECTURE,
        "channels": 1,
        "classes": ["background", "nucleus"],
        "normalisation": {"scope": "image", "low_percentile": 1, "high_percentile": 99.8},
        "mpp_um": 1.0,
        **changed,
    }
    description = model.Description(**values)

    def build(work):
        made = network(2, values["channels"], len(values["classes"]), seed)
        model.save_weights(work.folder / model.WEIGHTS, made.state_dict())
        return [model.WEIGHTS], description.as_json()

    manifest = folder / "train.json"
    store.make(manifest, build, kind="train", settings={}, code={}, inputs={})
    return str(manifest)
