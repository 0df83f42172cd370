"""The training loop: tiles, loss, optimiser step, running average, validation, checkpoints.

Imports torch, numpy and scipy only; the data comes in as arrays, so that a fold can be trained
where nothing else is installed. On the CPU, the same seed, data, settings and number of threads
give the same weights, bit for bit, whether the training ran through or was cut and resumed.
"""

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from slideunet import checkpoints
from slideunet.device import choose_precision, seed_all
from slideunet.elastic import Sample, sample_geometry, warp
from slideunet.errors import UserError
from slideunet.geometry import grid_px
from slideunet.grey import sample_grey, vary_grey
from slideunet.loss import weighted_cross_entropy
from slideunet.network import UNet, build, initialise
from slideunet.optimisation import (
    Average,
    clip_gradients,
    learning_rate,
    load_optimiser_tensors,
    make_optimiser,
    optimiser_tensors,
    set_learning_rate,
)
from slideunet.progress import Progress
from slideunet.ranks import ALONE, Ranks
from slideunet.sampling import Sampler, step_seed
from slideunet.training_data import AnnotatedImage, Trained, check_images, fingerprint
from slideunet.validation import validate
from slideunet.whole_image import for_inference

log = logging.getLogger("unet-slides")

# On a GPU the host runs ahead of the device; it waits for the losses once in so many steps.
FETCH_EVERY_STEPS = 50
# Rows of the history, at most, besides those of validations: points of the learning curve.
ROWS = 100
# What a step's random numbers are for (sampling.step_seed).
AUGMENTATION, DROPOUT = 1, 2


def train(
    images: Sequence[AnnotatedImage],
    validation: Sequence[AnnotatedImage],
    settings: dict,
    class_weights: Sequence[float],
    folder: Path,
    device: torch.device | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    on_row: Callable[[dict], None] = lambda row: None,
    ranks: Ranks = ALONE,
    start: dict[str, torch.Tensor] | None = None,
) -> Trained | None:
    """Train a network; goes on from the last checkpoint in `folder` where there is one.

    Parameters
    ----------
    settings : config sections network, augment and train
    class_weights : w_c, one per class
    folder : for checkpoints; must exist
    should_stop : asked after each step; once true, the state is saved and None returned
    on_row : called with each row of the history (of a resumed training with the earlier ones too)
    ranks : which of the processes this is, where several share each step; rank 0 returns, the
        others' histories and weights are those of their shares
    start : weights to go on from, by name; those not among them are drawn

    Raises UserError where the loss is NaN or infinite, or the folder's checkpoints are of another
    training.
    """
    training = Training(images, validation, settings, class_weights, folder, device, ranks, start)
    for row in training.history:
        on_row(row)
    return training.run(should_stop, on_row)


class Training:
    """The state of one training between two steps."""

    def __init__(
        self, images, validation, settings, class_weights, folder, device=None, ranks=ALONE,
        start=None,
    ):  # fmt: skip
        check_images(images, validation, len(class_weights))
        self.device, self.ranks = device or torch.device("cpu"), ranks
        self.settings, self.folder, self.validation = settings["train"], Path(folder), validation
        torch.backends.cudnn.benchmark = True  # all tiles have one shape: find its best kernels
        self.precision = _precision(self.settings["precision"], self.device)
        self.network = build(settings["network"], len(images[0].image), len(class_weights))
        initialise(self.network, torch.Generator().manual_seed(self.settings["seed"]))
        self.network.load_state_dict(start or {}, strict=False)
        self.network.to(self.device, memory_format=torch.channels_last).train()
        self.shared_network = ranks.wrap(self.network)
        self._parameters = list(self.network.parameters())
        self.optimiser = make_optimiser(self._parameters, self.settings)
        self.average = Average(self.network, self.settings["average_decay"])
        self.weight_of = torch.zeros(256, device=self.device)
        self.weight_of[: len(class_weights)] = torch.tensor([float(w) for w in class_weights])
        self.augment, self.input_px = settings["augment"], self.settings["input_px"]
        self.output_px = _output_px(self.network, self.input_px)
        shapes = [image.target.shape for image in images]
        self.sampler = Sampler(shapes, self.input_px, self.settings["seed"])
        # All images stay on the device: a step copies nothing to it but a few numbers.
        self.images = [
            [
                torch.from_numpy(np.ascontiguousarray(array)).to(self.device)
                for array in (image.image, image.target, image.border)
            ]
            for image in images
        ]
        self.step_number = 0  # steps done
        self.history: list[dict] = []
        self.best: dict[str, torch.Tensor] = {}
        self.best_step, self.best_score = 0, -1.0
        self._pending: list[torch.Tensor] = []  # losses still on the device
        self._losses: list[float] = []  # since the last row of the history
        self._fingerprint = fingerprint(images, validation, settings, class_weights)
        self._restore()

    def run(self, should_stop: Callable, on_row: Callable) -> Trained | None:
        """Step until the end; None where it was asked to stop, after saving its state."""
        steps = self.settings["steps"]
        progress = Progress(self.step_number, steps, "training")
        while self.step_number < steps or self._row_is_due():
            if not self._row_is_due():  # it is when a stop cut a validation short
                self.step()
            if self._row_is_due():
                row = self.report(should_stop)
                if row is not None:
                    on_row(row)
            done = self.step_number
            stopping = self.ranks.agree(should_stop()) and (done < steps or self._row_is_due())
            if stopping or done == steps or done % self.settings["checkpoint_every_steps"] == 0:
                self.save()
            if stopping:
                return None
            progress.show(done, f"loss {self._losses[-1]:.4f}" if self._losses else "")
        progress.close()
        last = _copy(self.average.weights())
        if not self.validation:
            return Trained(last, last, steps, self.history)
        return Trained(last, self.best, self.best_step, self.history)

    def step(self) -> None:
        """One gradient step."""
        step = self.step_number
        x, target, border = self.tiles(step)
        seed_all(self.device, step_seed(self.settings["seed"], step, DROPOUT) + self.ranks.rank)
        with torch.autocast(self.device.type, self.precision, self.precision != torch.float32):
            scores = self.shared_network(x)
        loss = weighted_cross_entropy(scores, target, border, self.weight_of)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.settings["gradient_clip_norm"]:
            clip_gradients(self._parameters, self.settings["gradient_clip_norm"])
        set_learning_rate(self.optimiser, learning_rate(step, self.settings))
        self.optimiser.step()
        self.average.update(step)
        self.step_number += 1
        self._pending.append(loss.detach())
        if self.device.type == "cpu" or len(self._pending) >= FETCH_EVERY_STEPS:
            self._fetch()

    def tiles(self, step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What a step learns from, made on the device.

        Returns images (B, C, input_px, input_px) float32, targets (B, output_px, output_px) int64
        and border terms (B, output_px, output_px) float32, B this process's share of the batch.
        """
        generator = torch.Generator().manual_seed(
            step_seed(self.settings["seed"], step, AUGMENTATION)
        )
        draws = self.sampler.draw(step, self.settings["batch"])
        samples = [
            Sample(*self.images[d.image], d.centre_px, sample_geometry(generator, self.augment))
            for d in draws
        ]
        channels = len(self.images[0][0])
        greys = [sample_grey(generator, self.augment, channels) for _ in draws]
        x, target, border = warp(self.ranks.share(samples), self.input_px, self.output_px)
        vary_grey(x, self.ranks.share(greys))
        return x.contiguous(memory_format=torch.channels_last), target.long(), border

    def _row_is_due(self) -> bool:
        """Whether the step just done wants a row in the history and has none yet."""
        done, steps = self.step_number, self.settings["steps"]
        wanted = self._validates() or done % -(-steps // ROWS) == 0
        return done > 0 and wanted and not (self.history and self.history[-1]["step"] == done)

    def _validates(self) -> bool:
        done = self.step_number
        return done % self.settings["validate_every_steps"] == 0 or done == self.settings["steps"]

    def report(self, should_stop: Callable) -> dict | None:
        """A new row of the history, with a validation where one is due; None if asked to stop."""
        self._fetch()
        row = {
            "step": self.step_number,
            "loss": math.fsum(self._losses) / len(self._losses),
            "learning_rate": learning_rate(self.step_number - 1, self.settings),
        }
        if self._validates():
            if not all(tensor.isfinite().all() for tensor in self.average.weights().values()):
                raise _diverged(self.step_number, "its weights are not finite")
            if self.validation and self.ranks.rank == 0:
                network = for_inference(
                    self.network, self.average.weights(), self.device, self.precision
                )
                measured = validate(network, self.validation, should_stop)
                if measured is None:
                    return None
                row |= measured
                if row["validation_iou"] > self.best_score:
                    self.best_score, self.best_step = row["validation_iou"], self.step_number
                    self.best = _copy(self.average.weights())
            log.info("%s", ", ".join(f"{key} {value:.5g}" for key, value in row.items()))
        self._losses = []
        self.history.append(row)
        return row

    def _fetch(self) -> None:
        """Bring the losses to the host. NaN or infinity ends the training here."""
        if not self._pending:
            return
        losses = self.ranks.mean(torch.stack(self._pending)).tolist()
        for step, loss in enumerate(losses, start=self.step_number - len(losses) + 1):
            if not math.isfinite(loss):
                raise _diverged(step, f"the loss is {loss}")
        self._losses += losses
        self._pending = []

    def save(self) -> None:
        """Write a checkpoint, never of weights whose losses nobody has looked at."""
        self._fetch()
        if self.ranks.rank:
            return
        groups = {
            "network": self.network.state_dict(),
            "average": self.average.weights(),
            "best": self.best,
            "optimiser": optimiser_tensors(self.optimiser),
        }
        state = {
            "best_score": self.best_score,
            "best_step": self.best_step,
            "fingerprint": self._fingerprint,
            "history": self.history,
            "losses": self._losses,
        }
        checkpoints.save(self.folder, self.step_number, groups, state)

    def _restore(self) -> None:
        found = checkpoints.load_latest(self.folder)
        if found is None:
            return
        groups, state = found
        if state["fingerprint"] != self._fingerprint:
            raise UserError(
                f"{self.folder}: its checkpoints are of another training (other images, settings "
                "or weights): remove them, or train in another folder"
            )
        self.network.load_state_dict(groups["network"])
        self.average.load(groups["average"])
        self.best = {
            name: tensor.to(self.device) for name, tensor in groups.get("best", {}).items()
        }
        load_optimiser_tensors(self.optimiser, groups["optimiser"])
        self.step_number, self.history = state["step"], state["history"]
        self.best_step, self.best_score = state["best_step"], state["best_score"]
        self._losses = state["losses"]
        log.info("going on from step %d", self.step_number)


def _output_px(network: UNet, input_px: int) -> int:
    """The output's side. UserError where the input tile's does not fit the network."""
    try:
        side = network.output_px(input_px)
    except ValueError as error:
        raise UserError(f"train.input_px: {error}") from None
    if network.padded and input_px % grid_px(network.depth):
        raise UserError(
            f"train.input_px: a padded network of depth {network.depth} takes multiples of "
            f"{grid_px(network.depth)} px, not {input_px}"
        )
    return side


def _precision(name: str, device: torch.device) -> torch.dtype:
    """As config says; `auto` is float32 where only float16 is fast: its gradients would vanish."""
    precision = choose_precision(name, device)
    return torch.float32 if precision == torch.float16 else precision


def _copy(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in weights.items()}


def _diverged(step: int, what: str) -> UserError:
    return UserError(
        f"training diverged at step {step}: {what}; lower train.learning_rate, set "
        "train.gradient_clip_norm, or set train.precision to float32"
    )
