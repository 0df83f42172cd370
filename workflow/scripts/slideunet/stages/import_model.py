"""A model made elsewhere with this workflow, checked and copied beside the results it makes."""

from slideunet import model
from slideunet.store import Work, make


def import_model(*, card: str, manifest: str, code: dict) -> None:
    """Copy the model into the manifest's folder: model.safetensors, and model.json as its card.

    card : model.json or train.json, with model.safetensors beside it; read as model.load does,
        which raises UserError, one line, for what is missing, damaged or not sound
    facts : model.Description
    """

    def build(work: Work) -> tuple[list[str], dict]:
        network, description = model.load(card)
        digest = model.save_weights(work.folder / model.WEIGHTS, network.state_dict())
        model.write_card(work.folder / "model.json", description, digest)
        work.unlisted.append("model.json")
        return [model.WEIGHTS], description.as_json()

    make(manifest, build, kind="import_model", settings={}, code=code, inputs={"card": card})
