"""Training goes on from a model: its weights arrive, what does not fit is one line."""

import pytest
import torch
from slideunet import model
from slideunet.errors import UserError
from slideunet.model import Description
from slideunet.stages.import_model import import_model
from slideunet.stages.train import read_start
from slideunet.store import load
from slideunet.training import Training, train
from training_cases import CLASS_WEIGHTS, NO_AUGMENTATION, discs, equal, settings

ARCHITECTURE = {"depth": 1, "base_channels": 4, "dropout": 0.5}
SCALING = {"scope": "image", "low_percentile": 1, "high_percentile": 99.8}


def description(channels=1, classes=("background", "nucleus"), **architecture):
    return Description(ARCHITECTURE | architecture, channels, list(classes), SCALING, 0.5)


@pytest.fixture
def card(tmp_path):
    """A model card with weights of its own beside it."""
    torch.manual_seed(3)
    made = description()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    digest = model.save_weights(folder / model.WEIGHTS, model.build(made).state_dict())
    model.write_card(folder / "model.json", made, digest)
    return folder / "model.json"


def test_the_first_step_is_taken_from_the_models_weights(card, tmp_path):
    start = read_start(str(card), description())
    training = Training(
        [discs(0)], [], settings(NO_AUGMENTATION), CLASS_WEIGHTS, tmp_path, start=start
    )
    assert equal(training.network.state_dict(), model.load(card)[0].state_dict())
    assert equal(training.average.weights(), dict(model.load(card)[0].named_parameters()))


def test_a_training_that_goes_on_begins_better(card, tmp_path):
    """What one training has learnt the next one begins with: its first loss is lower."""
    recipe = settings(NO_AUGMENTATION, dropout=0, steps=60, average_decay=0)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first = train([discs(0)], [], recipe, CLASS_WEIGHTS, tmp_path / "first")
    second = train([discs(0)], [], recipe, CLASS_WEIGHTS, tmp_path / "second", start=first.last)
    assert second.history[0]["loss"] < 0.8 * first.history[0]["loss"]


def test_of_other_classes_all_but_the_last_layer_is_taken(card, tmp_path):
    start = read_start(str(card), description(classes=("background", "gland", "stroma")))
    assert set(model.load(card)[0].state_dict()) - set(start) == {"score.weight", "score.bias"}
    training = Training([discs(0)], [], settings(), [1, 1, 1], tmp_path, start=start)
    assert equal(start, {name: training.network.state_dict()[name] for name in start})
    assert len(training.network.score.bias) == 3


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"base_channels": 8}, r"has base_channels 4, .* 8: set network.base_channels: 4$"),
        ({"depth": 2}, r"has depth 1, .* set network.depth: 1$"),
        ({"padded": True}, r"has padded False, .* set network.padded: false$"),
        ({"channels": 3}, r"takes 1 channels, .* have 3: start from a model of the same channels"),
    ],
)
def test_a_model_of_another_shape_is_refused(card, wanted, message):
    with pytest.raises(UserError, match=f"config: train.start_from: .*model.json: {message}"):
        read_start(str(card), description(**wanted))


def test_an_imported_model_is_the_same_model(card, tmp_path):
    manifest = tmp_path / "results" / "import_model.json"
    import_model(card=str(card), manifest=str(manifest), code={})
    network, found = model.load(manifest)
    given, said = model.load(card)
    assert equal(network.state_dict(), given.state_dict())
    assert found == said
    assert model.load(manifest.with_name("model.json"))[1] == said
    assert load(manifest)["kind"] == "import_model"


def test_a_damaged_model_is_not_imported(card, tmp_path):
    weights = card.with_name(model.WEIGHTS)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    manifest = tmp_path / "import_model.json"
    with pytest.raises(UserError, match="checksum differs"):
        import_model(card=str(card), manifest=str(manifest), code={})
    assert not manifest.exists()
