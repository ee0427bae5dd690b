"""The training loop: batches into steps, losses into the log, checkpoints and validations at fixed steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.interrupts import graceful_shutdown
from distort_pipeline.progress import track
from distort_pipeline.training.checkpoints import load_checkpoint, save_checkpoint
from distort_pipeline.training.log import open_log

LOG_EVERY = 10
OPEN_SUMS = "open_sums/"  # prefix in a checkpoint between two logged steps
SUMMED = "steps"
CHECKPOINT_SECONDS = 300  # the most work that an interruption can lose, however slow the steps
DIVERGED = 1e9  # the sum over a 1024 px crop of white against black, 8e8, is the largest valid figure


class Trainer(Protocol):
    """The training step and state of a backend."""

    def step(self, *inputs: Any) -> Mapping[str, Any]:
        """Train on a batch's inputs and its step's number; return the losses, as numbers or the backend's scalars."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Return the whole state for the next step."""

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a state."""


class Batch(Protocol):
    """The crops of one step."""

    @property
    def step(self) -> int:
        """The number of the step."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What the trainer's step takes, but for its number."""


class Batches(Protocol):
    """Crops by step, the same after a resume."""

    def prefetch(self, first: int, last: int) -> Generator[Batch, None, None]:
        """Yield the batches of steps `first` to `last` - 1."""


def train(
    trainer: Trainer,
    crops: Batches,
    folder: Path,
    *,
    label: str,
    steps: int,
    checkpoint_every: int,
    validate_every: int,
    validate: Callable[[int], Mapping[str, float]],
    goes_on: Callable[[], bool] = lambda: True,
) -> int:
    """Train up to `steps` steps in `folder`, from its newest checkpoint if any; return the first step of this run.

    It ends earlier where, after a validation, `goes_on` says no.

    A loss not finite or out of proportion raises PipelineError with the last good checkpoint. Ctrl-C saves a
    checkpoint after the current step, and then raises KeyboardInterrupt.
    """
    checkpoints = folder / "checkpoints"
    # figure → its sum since the last logged step, and the number of summed steps
    first, sums = _resume(trainer, checkpoints)
    log = open_log(folder / "live", first or -1)
    if first == 0:
        log.log(0, validate(0))  # the initialization's score
    pending: list[Mapping[str, Any]] = []

    def accumulate(step: int) -> None:
        """Convert the pending scalars into numbers, check and sum up."""
        for losses in pending:
            sums[SUMMED] = sums.get(SUMMED, 0.0) + 1
            for name, value in losses.items():
                number = float(value)
                if not math.isfinite(number) or abs(number) > DIVERGED:
                    raise PipelineError(_diverged(label, name, number, step, checkpoints))
                sums[name] = sums.get(name, 0.0) + number
        pending.clear()

    def log_means(step: int) -> None:
        """Log the means since the last logged step."""
        if summed := sums.pop(SUMMED, 0.0):
            log.log(step, {name: total / summed for name, total in sums.items()})
        sums.clear()

    saved = time.monotonic()
    # the reader's thread ends with the loop, also after an exception
    with graceful_shutdown() as stop_requested, closing(crops.prefetch(first, steps)) as batches:
        for batch in track(batches, total=steps, label=label, unit="steps", done=first):
            pending.append(trainer.step(*batch.inputs, batch.step))
            steps_done = batch.step + 1
            overdue = time.monotonic() - saved > CHECKPOINT_SECONDS
            stopped = stop_requested()
            # at the same steps, wherever a run was interrupted
            log_due = steps_done % LOG_EVERY == 0 or steps_done % checkpoint_every == 0 or steps_done == steps
            checkpoint_due = steps_done % checkpoint_every == 0 or steps_done == steps or stopped or overdue
            if log_due or checkpoint_due:
                accumulate(steps_done)
            if log_due:
                log_means(steps_done)
            validation_due = steps_done % validate_every == 0 or steps_done == steps
            if validation_due:
                log.log(steps_done, validate(steps_done))
                checkpoint_due = checkpoint_due or not goes_on()
            if checkpoint_due:
                open_state = {f"{OPEN_SUMS}{name}": np.array(total) for name, total in sums.items()}
                save_checkpoint(checkpoints, steps_done, {**trainer.state(), **open_state})
                saved = time.monotonic()
            if stopped and steps_done < steps:
                raise KeyboardInterrupt
            if validation_due and not goes_on():
                break
    return first


def _resume(trainer: Trainer, checkpoints: Path) -> tuple[int, dict[str, float]]:
    """Return the step to resume at, and the sums of figures not yet logged."""
    checkpoint = load_checkpoint(checkpoints)
    if checkpoint is None:
        return 0, {}
    step, state = checkpoint
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
