"""The loop: batches into steps, losses into the log, checkpoints and validations at their turns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.interrupts import graceful_shutdown
from distort_pipeline.progress import track
from distort_pipeline.training.checkpoints import load_checkpoint, save_checkpoint
from distort_pipeline.training.crops import Crops
from distort_pipeline.training.log import open_log

LOG_EVERY = 10
OPEN_SUMS = "open_sums/"  # of a checkpoint between two steps that are logged
SUMMED = "steps"
CHECKPOINT_SECONDS = 300  # at most that much work is lost, however slow the steps
DIVERGED = 1e9  # the sum over a 1024 px crop of white against black, 8e8, is the largest figure that can be meant


class Trainer(Protocol):
    """What a backend gives the loop."""

    def step(
        self, pristine: NDArray[Any], distorted: NDArray[Any], severities: NDArray[Any], number: int
    ) -> Mapping[str, Any]:
        """Train on one batch and return the losses, as numbers or as the backend's scalars."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything that the next step depends on."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go back to a state."""


def train(
    trainer: Trainer,
    crops: Crops,
    folder: Path,
    *,
    label: str,
    steps: int,
    checkpoint_every: int,
    validate_every: int,
    validate: Callable[[int], Mapping[str, float]],
) -> int:
    """Train up to `steps` steps in `folder`, from its newest checkpoint if there is one; return the first step made.

    A loss that is not finite or out of all proportion raises PipelineError that names the last good checkpoint. Ctrl-C
    saves one after the step in hand, and then arrives as KeyboardInterrupt.
    """
    checkpoints = folder / "checkpoints"
    # figure → its sum since the last step that was logged, and how many steps those are
    first, sums = _resume(trainer, checkpoints)
    log = open_log(folder / "live", first or -1)
    if first == 0:
        log.log(0, validate(0))  # what the start scores
    pending: list[Mapping[str, Any]] = []

    def settle(step: int) -> None:
        """Turn the pending scalars into numbers, check them and add them up."""
        for losses in pending:
            sums[SUMMED] = sums.get(SUMMED, 0.0) + 1
            for name, value in losses.items():
                number = float(value)
                if not math.isfinite(number) or abs(number) > DIVERGED:
                    raise PipelineError(_diverged(label, name, number, step, checkpoints))
                sums[name] = sums.get(name, 0.0) + number
        pending.clear()

    def tell(step: int) -> None:
        """Log the means since the last time."""
        if summed := sums.pop(SUMMED, 0.0):
            log.log(step, {name: total / summed for name, total in sums.items()})
        sums.clear()

    saved = time.monotonic()
    # the reader's thread ends with the loop, also when that raises
    with graceful_shutdown() as stop_requested, closing(crops.prefetch(first, steps)) as batches:
        for batch in track(batches, total=steps, label=label, unit="steps", done=first):
            pending.append(trainer.step(batch.pristine, batch.distorted, batch.severities, batch.step))
            done = batch.step + 1
            overdue = time.monotonic() - saved > CHECKPOINT_SECONDS
            stopped = stop_requested()
            # at the same steps, wherever a run was stopped
            told = done % LOG_EVERY == 0 or done % checkpoint_every == 0 or done == steps
            at_checkpoint = done % checkpoint_every == 0 or done == steps or stopped or overdue
            if told or at_checkpoint:
                settle(done)
            if told:
                tell(done)
            if done % validate_every == 0 or done == steps:
                log.log(done, validate(done))
            if at_checkpoint:
                open_state = {f"{OPEN_SUMS}{name}": np.array(total) for name, total in sums.items()}
                save_checkpoint(checkpoints, done, {**trainer.state(), **open_state})
                saved = time.monotonic()
            if stopped and done < steps:
                raise KeyboardInterrupt
    return first


def _resume(trainer: Trainer, checkpoints: Path) -> tuple[int, dict[str, float]]:
    """Return the step to go on at, and the sums of figures that were not logged by then."""
    found = load_checkpoint(checkpoints)
    if found is None:
        return 0, {}
    step, state = found
    sums = {name.removeprefix(OPEN_SUMS): float(state.pop(name)) for name in list(state) if name.startswith(OPEN_SUMS)}
    try:
        trainer.restore(state)
    except (KeyError, ValueError) as error:
        raise PipelineError(f"the checkpoint in {checkpoints} is of other networks ({error}); delete it") from None
    return step, sums


def _diverged(label: str, name: str, value: float, step: int, checkpoints: Path) -> str:
    kept = sorted(path.name for path in checkpoints.glob("*.safetensors"))
    last = f"the last good checkpoint is {checkpoints / kept[-1]}" if kept else "no checkpoint was reached"
    return (
        f"{label} diverged: {name} was {value} within the steps up to {step}; {last}; "
        "try a lower train.generator_lr, another train.seed, or train.precision: float32"
    )
