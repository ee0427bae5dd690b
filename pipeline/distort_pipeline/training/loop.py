"""The training loop: batches into steps, losses into the log, checkpoints and validations at fixed steps.

Loggers of losses and validations: TSV, which the reports read; DVCLive, which writes the same files; TensorBoard.
Another package adds one by an entry point of the group `distort_pipeline.loggers`: a function of the folder, and of the
step that a resumed training goes on from, that returns a TrainingLog.
"""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.files import arrays_digest, write_json
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import graceful_shutdown
from distort_pipeline.models.store import read_arrays, write_arrays
from distort_pipeline.process import track
from distort_pipeline.records import Registry

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: Mapping[str, NDArray[Any]]) -> None:
    """Write the state after `step` steps and drop all but the newest two."""
    write_arrays(folder / f"{step:08d}.safetensors", state, {"step": str(step), "digest": arrays_digest(state)})
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        old.unlink()


def load_checkpoint(folder: Path) -> tuple[int, dict[str, NDArray[Any]]] | None:
    """Return (steps done, state) of the newest readable checkpoint, or None where there is none."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            state, metadata = read_arrays(path)
        except PipelineError:
            continue  # damaged by a disk fault; resume from the previous checkpoint
        if arrays_digest(state) == metadata.get("digest"):  # the format itself has no checksum
            return int(metadata["step"]), state
    return None


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


@dataclass(frozen=True)
class Schedule:
    """How many steps a training has, and after how many it saves and validates."""

    label: str  # of the progress
    steps: int
    checkpoint_every: int
    validate_every: int
    loggers: tuple[str, ...] = ("tsv",)


def train(
    trainer: Trainer,
    crops: Batches,
    folder: Path,
    schedule: Schedule,
    *,
    validate: Callable[[int], Mapping[str, float]],
    goes_on: Callable[[], bool] = lambda: True,
) -> int:
    """Train as the `schedule` says in `folder`, from its newest checkpoint if any; return the first step of this run.

    It ends earlier where, after a validation, `goes_on` says no.

    A loss not finite or out of proportion raises PipelineError with the last good checkpoint. Ctrl-C saves a
    checkpoint after the current step, and then raises KeyboardInterrupt.
    """
    checkpoints, steps = folder / "checkpoints", schedule.steps
    # figure → its sum since the last logged step, and the number of summed steps
    first, sums = _resume(trainer, checkpoints)
    log = open_log(folder / "live", first or -1, schedule.loggers)
    if first and not goes_on():
        return first
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
                    raise PipelineError(_diverged(schedule.label, name, number, step, checkpoints))
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
        for batch in track(batches, total=steps, label=schedule.label, unit="steps", done=first):
            pending.append(trainer.step(*batch.inputs, batch.step))
            steps_done = batch.step + 1
            overdue = time.monotonic() - saved > CHECKPOINT_SECONDS
            stopped = stop_requested()
            # at the same steps, wherever a run was interrupted
            log_due = steps_done % LOG_EVERY == 0 or steps_done % schedule.checkpoint_every == 0 or steps_done == steps
            checkpoint_due = steps_done % schedule.checkpoint_every == 0 or steps_done == steps or stopped or overdue
            if log_due or checkpoint_due:
                accumulate(steps_done)
            if log_due:
                log_means(steps_done)
            validation_due = steps_done % schedule.validate_every == 0 or steps_done == steps
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


NAME = "best.safetensors"


class BestWeights:
    """Weights, their step and their validation figure: the lower, the better."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def offer(self, step: int, figure: float, weights: Callable[[], Mapping[str, NDArray[Any]]]) -> None:
        """Keep `weights` if `figure` is lower than all before; a repeated offer after a resume changes nothing."""
        if not self._path.is_file() or figure < float(self._metadata()["figure"]):
            write_arrays(self._path, weights(), {"step": str(step), "figure": repr(figure)})

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return the best weights."""
        return read_arrays(self._path)[0]

    def step(self) -> int:
        """Return the step of the best weights."""
        return int(self._metadata()["step"])

    def _metadata(self) -> dict[str, str]:
        return read_arrays(self._path)[1]


TIMED_STEPS = 3
FILE = "steps.json"


def stored_steps(folder: Path, plan: Callable[[], dict[str, int]]) -> dict[str, int]:
    """Return the numbers of steps, by phase, that an earlier run planned in `folder`; else plan and store them."""
    file = folder / FILE
    if file.is_file():
        return {name: int(steps) for name, steps in json.loads(file.read_text(encoding="utf-8")).items()}
    steps = plan()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, steps)
    return steps


def seconds_per_step(step: Callable[[int], object], *, gpu: bool = False) -> float:
    """Return the seconds of a step (called with its number) after a first one that compiles it.

    Without a GPU it is CPU time, divided by the cores: as fast as it would be alone on the machine.
    """
    step(0)
    clock = time.perf_counter if gpu else time.process_time
    started = clock()
    for number in range(1, TIMED_STEPS + 1):
        step(number)
    return (clock() - started) / TIMED_STEPS / (1 if gpu else cores())


def cores() -> int:
    """Return the processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


METRICS = "plots/metrics"  # folder of the TSV files, as DVCLive names it


class TrainingLog(Protocol):
    """Logs the figures of a step."""

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write `figures`, name → value, after `step` steps."""


OpenLog = Callable[[Path, int], TrainingLog]
LOGGERS: Registry[OpenLog] = Registry("logger", __name__, group="distort_pipeline.loggers")


def open_log(folder: Path, from_step: int, names: Sequence[str] = ("tsv",)) -> TrainingLog:
    """Return a log in `folder` of the loggers `names`, without the lines of an interrupted run after `from_step`.

    TSV files are written by "tsv" if no other one of `names` does, as the report of an evaluation draws them.
    """
    for path in (folder / METRICS).rglob("*.tsv"):
        _cut(path, from_step)
    written = () if {"tsv", "dvclive"} & set(names) else ("tsv",)
    return _Logs([LOGGERS.get(name)(folder, from_step) for name in (*written, *dict.fromkeys(names))])


class _Logs:
    def __init__(self, logs: Sequence[TrainingLog]) -> None:
        self._logs = logs

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for log in self._logs:
            log.log(step, figures)


@LOGGERS.add("tsv")
class TsvLog:
    """A file of steps and values for each figure: plots/metrics/NAME.tsv."""

    def __init__(self, folder: Path, _from_step: int) -> None:
        self._metrics = folder / METRICS

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line to each figure's file."""
        for name, value in figures.items():
            path = self._metrics / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            with path.open("a", newline="", encoding="utf-8") as file:
                writer = csv.writer(file, delimiter="\t", lineterminator="\n")
                if is_new:
                    writer.writerow(["step", path.stem])
                writer.writerow([step, value])


@LOGGERS.add("dvclive")
class DvcliveLog:
    """DVCLive's log, for `dvc plots` and editors; in a folder without DVC it makes a DVC project."""

    def __init__(self, folder: Path, _from_step: int) -> None:
        try:
            from dvclive import Live
        except ImportError:
            raise PipelineError("--logger dvclive needs DVCLive: pip install dvclive") from None
        self._live: Any = Live(str(folder), resume=True, save_dvc_exp=False, dvcyaml=None, monitor_system=False)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Add a line to each figure's file, and renew the summary."""
        self._live.step = step
        for name, value in figures.items():
            self._live.log_metric(name, value, timestamp=False)
        self._live.make_summary()


@LOGGERS.add("tensorboard")
class TensorboardLog:
    """Events for TensorBoard in the folder tensorboard, written by TensorFlow itself."""

    def __init__(self, folder: Path, from_step: int) -> None:
        import tensorflow as tf

        if from_step < 0:
            shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        self._tf, self._writer = tf, tf.summary.create_file_writer(str(folder / "tensorboard"))
        self._metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Write a scalar of each figure."""
        with self._writer.as_default(step=step):
            for name, value in figures.items():
                self._tf.summary.write(name, self._tf.constant(value, "float32"), metadata=self._metadata)
        self._writer.flush()


def _cut(path: Path, from_step: int) -> None:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    if not rows:
        return
    kept = [row for row in rows if (row.get("step") or "").isdigit() and int(row["step"]) <= from_step]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
