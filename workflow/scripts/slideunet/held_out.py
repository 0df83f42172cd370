"""Which images a network is measured on: with one annotated image there may be no other ones.

Standard library only.
"""

HELD_OUT = "held-out images"
TRAINED_ON = "images that it was TRAINED on"


def tested_on(inputs: dict) -> str:
    """In words; `inputs` are those of stage train, as paths or as digests in its manifest."""
    known = set(inputs.get("images", ())) & set(inputs.get("validation_images", ()))
    return TRAINED_ON if known else HELD_OUT
