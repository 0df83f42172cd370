"""Optimisers, learning-rate schedule and the running average of the weights."""

import math

import torch
from torch import nn

from slideunet.errors import UserError


def make_optimiser(parameters: list[nn.Parameter], train: dict) -> torch.optim.Optimizer:
    """SGD with momentum (section 3: 0.99) or AdamW, from the config section `train`."""
    if train["optimiser"] == "sgd":
        # No weight decay: the paper names none.
        return torch.optim.SGD(parameters, lr=train["learning_rate"], momentum=train["momentum"])
    if train["optimiser"] == "adamw":
        # Fused: one pass over the weights instead of a dozen (measured: half the time of a step).
        return torch.optim.AdamW(
            parameters, lr=train["learning_rate"], weight_decay=train["weight_decay"], fused=True
        )
    raise UserError(f"train.optimiser: {train['optimiser']!r}: take sgd or adamw")


def learning_rate(step: int, train: dict) -> float:
    """The learning rate of step 0 ... steps - 1: a linear warm-up, then constant or cosine.

    The cosine falls from `learning_rate` to 0 at `steps` (Loshchilov and Hutter 2017, without
    restarts); `flat` of the way it stays constant first.
    """
    rate, steps, warm = train["learning_rate"], train["steps"], train["warmup_steps"]
    if step < warm:
        return rate * (step + 1) / warm
    if train["schedule"] == "constant":
        return rate
    if train["schedule"] != "cosine":
        raise UserError(f"train.schedule: {train['schedule']!r}: take constant or cosine")
    begin = max(warm, round(train["flat"] * steps))
    done = max(0, step - begin) / max(1, steps - begin)
    return rate * 0.5 * (1 + math.cos(math.pi * done))


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the optimiser's next step."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def clip_gradients(parameters: list[nn.Parameter], norm: float) -> None:
    """Scale the gradients to this norm where theirs is greater: torch's clip_grad_norm_.

    On a CPU, which waits for nothing, gradients below the norm are not multiplied by 1.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    found = torch.nn.utils.get_total_norm(gradients)
    # As there: what is added keeps a norm of 0 from being divided by.
    if found.device.type != "cpu" or not found + 1e-6 <= norm:
        torch.nn.utils.clip_grads_with_norm_(parameters, norm, found)


class Average:
    """Exponential average of weights: average <- decay * average + (1 - decay) * weights.

    In the first steps the decay is (1 + step) / (10 + step) at most, so that the random initial
    weights are soon forgotten (as in TensorFlow's ExponentialMovingAverage). Decay 0: the weights
    themselves.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._live = list(network.parameters())
        self._average = [p.detach().clone() for p in self._live] if decay else self._live
        self._names = [name for name, _ in network.named_parameters()]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` (from 0)."""
        if self.decay:
            weight = 1 - min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self._average, self._live, weight)

    def weights(self) -> dict[str, torch.Tensor]:
        """Name -> averaged weights; they change with the next update."""
        return dict(zip(self._names, (p.detach() for p in self._average), strict=True))

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Take up averages that a checkpoint held."""
        with torch.no_grad():
            for name, tensor in zip(self._names, self._average, strict=True):
                tensor.copy_(weights[name])


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The optimiser's state as named tensors: "0.exp_avg", "0.exp_avg_sq", "0.step" ..."""
    return {
        f"{index}.{key}": value
        for index, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def load_optimiser_tensors(
    optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Take up what `optimiser_tensors` gave, on the device and in the memory order of the weights.

    Fused optimisers go through weights and state side by side as they lie in memory: in another
    order (a file has only one) they would mix up the values without an error.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        like = parameters[int(index)]
        one_per_weight = tensor.shape == like.shape
        state.setdefault(int(index), {})[key] = (
            torch.empty_like(like, requires_grad=False).copy_(tensor) if one_per_weight else tensor
        )
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
