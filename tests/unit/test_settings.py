"""Configuration mistakes that are less typical than those of tests/workflow/test_mistakes.py."""

import copy

import pytest
import yaml
from slideunet.errors import UserError
from slideunet.settings import (
    check_config,
    check_splits,
    flattered_models,
    in_order,
    model_settings,
)


@pytest.fixture(scope="session")
def schema(project):
    path = project / "workflow" / "schemas" / "config.schema.yaml"
    return yaml.safe_load(path.read_text())


@pytest.fixture
def config(project):
    return yaml.safe_load((project / "config.yaml").read_text())


def test_the_default_configuration_is_valid(config, schema):
    check_config(config, schema)


def leaves(properties, path=()):
    for name, rule in properties.items():
        if "properties" in rule:
            yield from leaves(rule["properties"], (*path, name))
        else:
            yield (*path, name)


def test_the_default_configuration_is_complete(config, schema):
    """Every key of the schema but the ablations' stands in config.yaml with its value."""
    names = ("padded", "narrow_expansion", "sliding_window")
    ablations = {("network", name) for name in names}
    properties = {
        name: {**rule, **schema["$defs"].get(name, {})}
        for name, rule in schema["properties"].items()
    }
    for path in set(leaves(properties)) - ablations:
        value = config
        for name in path:
            assert name in value, f"{'.'.join(path)} is missing in config.yaml"
            value = value[name]


def set_value(config, path, value):
    config = copy.deepcopy(config)
    section = config
    for name in path[:-1]:
        section = section[name]
    section[path[-1]] = value
    return config


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["train", "input_px"], 237, "train.input_px of model main: .* take 236 or 244 px"),
        (["train", "input_px"], 10, "take 92 or 92 px"),
        (["segment", "tile_px"], 1001, "segment.tile_px: .* take 1000 or 1008"),
        (["models", "main", "network"], {"deph": 4}, "did you mean 'depth'"),
        (["models", "main", "network"], {"depth": 5}, "input_px of model main: .*depth 5"),
        (["models", "main", "network"], {"padded": True}, "takes multiples of 8 px, not 236"),
        (
            ["models", "main", "network"],
            {"sliding_window": True},
            "takes 89 px and network.depth 3",
        ),
        (["models"], {"main": "all"}, "models.main: 'all': a section of keys is wanted"),
        (["models"], {}, "models: {}: at least 1 of them is wanted"),
        (["demo", "wheels"], "", "demo.wheels: '': it can't be empty"),
        (["train", "momentum"], 1, "train.momentum: 1: less than 1 is wanted"),
        (["train", "seed"], 0.5, "train.seed: 0.5: a whole number is wanted"),
        (["index", "copy"], "yes", "index.copy: 'yes': true or false is wanted"),
        (
            ["intensity", "low_percentile"],
            99.9,
            "low_percentile of model main|low_percentile: 99.9",
        ),
        (["weights", "class_balance"], [1, 2, 3], "class_balance.*: 3 weights for 2 classes"),
        (["objects", "max_area_px"], 20, "min_area_px: 30 is more than max_area_px = 20"),
        (["train", "learning_rate"], float("nan"), "train.learning_rate: nan"),
        (["train", "learning_rate"], float("inf"), "train.learning_rate: inf"),
        (
            ["demo", "slide_package"],
            "a",
            "demo.slide_package: 'a': package with the slide's frames",
        ),
    ],
)
def test_a_mistake_is_one_line(config, schema, path, value, message):
    with pytest.raises(UserError, match=message) as error:
        check_config(set_value(config, path, value), schema)
    assert "\n" not in str(error.value)


def test_a_network_of_patches_segments_no_slides(config, schema):
    config["models"]["main"]["network"] = {"sliding_window": True}
    config["train"]["input_px"] = 89
    with pytest.raises(UserError, match="main classifies one pixel per patch.*take a U-Net"):
        check_config(config, schema)
    config["slides"] = ""
    check_config(config, schema)


def test_overrides_of_a_model_reach_only_that_model(config):
    config["models"]["wide"] = {**config["models"]["main"], "network": {"base_channels": 64}}
    assert model_settings(config, "wide")["network"]["base_channels"] == 64
    assert model_settings(config, "wide")["network"]["depth"] == config["network"]["depth"]
    assert model_settings(config, "main")["network"]["base_channels"] != 64


def test_null_takes_a_model_of_the_default_configuration_away(config, schema):
    config["models"] = {"other": config["models"]["main"], "main": None}
    config["segment"]["models"] = ["other"]
    check_config(config, schema)
    assert list(config["models"]) == ["other"]


def test_a_split_that_no_row_has_is_named(config):
    training = {"a": {"split": "train"}, "b": {}}
    with pytest.raises(UserError, match="models.main.test_on: .*'test': there are train"):
        check_splits(config, training)


def test_key_order_does_not_matter():
    assert repr(in_order({"b": [{"d": 1, "c": 2}], "a": 0})) == repr(
        in_order({"a": 0, "b": [{"c": 2, "d": 1}]})
    )


def test_models_tested_on_what_they_are_trained_on_are_known(config):
    assert flattered_models(config) == []
    config["models"]["second"] = {"train_on": ["a", "b"], "test_on": ["b", "c"]}
    assert flattered_models(config) == ["second"]
    assert flattered_models({**config, "model": "elsewhere/model.json"}) == []
