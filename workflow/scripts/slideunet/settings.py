"""The configuration: checked against its schema before anything runs, handed out in parts.

Imported by the Snakefile side: no numpy, no torch.
"""

import math
import os

from slideunet.config_messages import one_line
from slideunet.errors import UserError
from slideunet.geometry import check_tile_px, grid_px, output_px


def check_config(config: dict, schema: dict) -> None:
    """Raise UserError, one line, for the first thing in `config` that the schema does not allow,
    and for values that are allowed one by one but do not fit together.

    `schema` is workflow/schemas/config.schema.yaml.
    """
    import jsonschema

    # `NAME: null` takes a model of the default configuration away.
    models = config.get("models")
    if isinstance(models, dict):
        config["models"] = {name: model for name, model in models.items() if model is not None}
    errors = jsonschema.Draft202012Validator(schema).iter_errors(config)
    # The deepest path first would hide a misspelt section behind what it lacks: sort by path.
    first = min(
        errors, key=lambda error: (_rank(error), [str(p) for p in error.path]), default=None
    )
    if first is not None:
        raise UserError(one_line(first, schema))
    check_sizes(config)
    check_ranges(config)
    check_models(config)


def check_ranges(config: dict) -> None:
    """Raise UserError for pairs of values that leave nothing between them, and for numbers that
    are none.
    """
    sections = {"": config} | {
        f" of model {name}": model_settings(config, name) for name in models_of(config)
    }
    for of, section in sections.items():
        intensity = section["intensity"]
        if intensity["low_percentile"] >= intensity["high_percentile"]:
            raise UserError(
                f"config: intensity.low_percentile{of}: {intensity['low_percentile']} is not below "
                f"high_percentile = {intensity['high_percentile']}"
            )
        balance = section["weights"]["class_balance"]
        if isinstance(balance, list) and len(balance) != len(config["classes"]):
            raise UserError(
                f"config: weights.class_balance{of}: {len(balance)} weights for "
                f"{len(config['classes'])} classes: one for each class"
            )
    least, most = config["objects"]["min_area_px"], config["objects"]["max_area_px"]
    if most and least > most:
        raise UserError(
            f"config: objects.min_area_px: {least} is more than max_area_px = {most}: no object "
            "would be left"
        )
    _check_finite(config, "config")


def _check_finite(value: object, at: str) -> None:
    """NaN and infinity pass every comparison of the schema, and are no JSON."""
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            _check_finite(inner, f"{at}{': ' if at == 'config' else '.'}{key}")
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{at}: {value}: give a number")


def check_sizes(config: dict) -> None:
    """Raise UserError where a tile size does not fit the depth of a network that uses it.

    Of a model made elsewhere nothing is known before it is opened: rule segment checks there.
    """
    for name in models_of(config):
        model = model_settings(config, name)
        _check_input_px(name, model["network"], model["train"]["input_px"])
        batch, processes = model["train"]["batch"], model["train"]["processes"]
        if batch % processes:
            raise UserError(
                f"config: train.processes of model {name}: a batch of {batch} has no {processes} "
                f"equal shares: set train.batch to a multiple of {processes}"
            )
    segment = config["segment"]
    if segment["shard_px"] % segment["chunk_px"]:
        raise UserError(
            f"config: segment.shard_px: {segment['shard_px']} is no multiple of "
            f"segment.chunk_px = {segment['chunk_px']}"
        )
    for name in segment["models"] if not config["model"] else ():
        if name not in config["models"]:
            raise UserError(
                f"config: segment.models: no model is called {name!r}: "
                f"take of {', '.join(config['models'])}"
            )
        network = model_settings(config, name)["network"]
        if network.get("sliding_window") and config["slides"]:
            raise UserError(
                f"config: segment.models: {name} classifies one pixel per patch, which is there to "
                "be compared with; take a U-Net for slides"
            )
        depth = network["depth"]
        for key in ("tile_px", "chunk_px"):
            if segment[key] != "auto":
                try:
                    check_tile_px(segment[key], depth)
                except ValueError as error:
                    raise UserError(f"config: segment.{key}: {error}") from None


def models_of(config: dict) -> dict[str, dict]:
    """The models to train and evaluate, by name; none where `model` names one made elsewhere."""
    return {} if config["model"] else config["models"]


def flattered_models(config: dict) -> list[str]:
    """Models that are tested on a split that they are trained on: their figures flatter them."""
    return sorted(
        name
        for name, model in models_of(config).items()
        if set(model["train_on"]) & set(model["test_on"])
    )


def check_models(config: dict) -> None:
    """Raise UserError where a model made elsewhere is not there to be opened."""
    starts = {
        f"train.start_from of model {name}": model_settings(config, name)["train"]["start_from"]
        for name in models_of(config)
    }
    for key, path in {"model": config["model"], **starts}.items():
        if path and not (os.path.isfile(path) and path.endswith(".json")):
            what = "not a model's description" if os.path.isfile(path) else "no such file"
            what = "a folder" if os.path.isdir(path) else what
            raise UserError(
                f"config: {key}: {path!r}: {what}: give the path of model.json or train.json of a "
                "trained model"
            )


def _check_input_px(name: str, network: dict, side: int) -> None:
    depth, at = network["depth"], f"config: train.input_px of model {name}"
    if network.get("sliding_window"):
        if (depth, side) != (3, 89):
            raise UserError(
                f"{at}: a network that classifies one pixel per patch takes 89 px and "
                f"network.depth 3, not {side} px and depth {depth}"
            )
    elif network.get("padded"):
        if side % grid_px(depth):
            raise UserError(
                f"{at}: a padded network of depth {depth} takes multiples of {grid_px(depth)} px, "
                f"not {side}"
            )
    else:
        try:
            output_px(side, depth)
        except ValueError as error:
            raise UserError(f"{at}: {error}") from None


def model_settings(config: dict, name: str) -> dict:
    """The sections that shape one model, with the model's own overrides merged in."""
    model = config["models"][name]
    return {
        section: {**config[section], **model.get(section, {})}
        for section in ("network", "intensity", "weights", "augment", "train")
    }


def in_order(value: object) -> object:
    """The same value with the keys of all its mappings sorted.

    Snakemake compares parameters by their printed form: a mapping in another order would rerun.
    """
    if isinstance(value, dict):
        return {key: in_order(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [in_order(item) for item in value]
    return value


def without(config: dict, section: str, keys: tuple[str, ...]) -> dict:
    """The same sections, one of them without some of its keys."""
    kept = {key: value for key, value in config[section].items() if key not in keys}
    return {**config, section: kept}


def _rank(error) -> int:
    """Misspelt keys before missing ones: the first usually explains the second."""
    return {"additionalProperties": 0, "required": 2}.get(error.validator, 1)


def check_splits(config: dict, training: dict[str, dict]) -> None:
    """Raise UserError where a model names a split that no row of the training table has."""
    known = sorted({row["split"] for row in training.values() if "split" in row})
    for name, model in models_of(config).items():
        for part in ("train_on", "test_on"):
            for split in model[part]:
                if split not in known:
                    raise UserError(
                        f"config: models.{name}.{part}: no row of {config['training']} has split "
                        f"{split!r}: there are {', '.join(known) or 'none'}"
                    )
