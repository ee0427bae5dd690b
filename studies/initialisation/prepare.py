"""Trains the compact network on many synthetic distortions at once: one body, a head for each.

python -m studies.initialisation.prepare PHOTOS OUT [--tasks 96] [--steps 4000]
PHOTOS is a folder of photographs; those listed in benchmarks/unknown/photos.csv are left out. OUT/body.safetensors
holds the average of the body's weights, its head at zero. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.unknown.photos import centre, read_list
from distort_pipeline.data.files import write_csv
from distort_pipeline.data.images import image_digest
from distort_pipeline.models.store import write_arrays
from distort_pipeline.networks.backend import bfloat16_is_faster, keras, ops
from distort_pipeline.networks.compact import NetworkBatch, network_inputs, new_body
from distort_pipeline.networks.patches import FREE_CHANNELS, GRID_PX, LATENTS
from distort_pipeline.process import prefetch
from distort_pipeline.training.compact import CompactBatch, Inputs, Part, State, make_update
from distort_pipeline.training.loop import Schedule, train
from studies.initialisation.tasks import Levels, Stage, draw_distortion

CROP_PX, BATCH, MARGIN_PX = 96, 8, 32
WINDOW_PX = 5  # of the filters that make the base, as fitted parts would
FITTED_CROPS = 12
LEAST_RESIDUAL = 0.5  # levels, rms: distortions that filters explain teach nothing
LIST = Path(__file__).with_name("photographs.csv")  # those of the weights in the package
RATE, WARM_STEPS, DECAY = 1e-3, 200, 0.999


@dataclass(frozen=True)
class Task:
    """A distortion, the filters that explain most of it, and the rms of what they leave, in levels."""

    distort: Stage
    filters: NDArray[np.float32]  # (3, 26): WINDOW_PX², then a constant
    residual_scale: float

    def base(self, levels: Levels) -> Levels:
        """Return what the filters make of `levels` (H, W, 3)."""
        planes = []
        for channel, row in enumerate(self.filters):
            kernel = row[:-1].reshape(WINDOW_PX, WINDOW_PX)
            planes.append(cv2.filter2D(levels[..., channel], -1, kernel, borderType=cv2.BORDER_REFLECT_101) + row[-1])
        return np.stack(planes, axis=-1)


class Crops:
    """Crops of photographs under random distortions; those of a step are of one task."""

    def __init__(self, photos: Sequence[NDArray[np.uint8]], tasks: int, seed: int) -> None:
        self.photos, self.seed = photos, seed
        self.tasks: list[Task] = []
        number = 0
        while len(self.tasks) < tasks:
            rng = np.random.default_rng([seed, number])
            number += 1
            task = self._task(rng)
            if task.residual_scale >= LEAST_RESIDUAL:
                self.tasks.append(task)

    def prefetch(self, first: int, last: int) -> Generator[CompactBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1."""
        yield from prefetch((CompactBatch(n, (self.at(n),)) for n in range(first, last)), 2, name="crops")

    def at(self, step: int) -> Inputs:
        """Return the crops of `step`."""
        rng = np.random.default_rng([self.seed, 1, step])
        number = int(rng.integers(len(self.tasks)))
        task, rows = self.tasks[number], [self._crop(rng) for _ in range(BATCH)]
        inside = slice(MARGIN_PX, MARGIN_PX + CROP_PX)
        pristine = [levels[inside, inside] for levels, _, _ in rows]
        return {
            "pristine": np.stack(pristine),
            "base": np.stack([task.base(levels)[inside, inside] for levels, _, _ in rows]),
            "distorted": np.stack([task.distort(levels, rng)[inside, inside] for levels, _, _ in rows]),
            "offsets": np.array([offset for _, offset, _ in rows], np.float32),
            "sizes": np.array([size for _, _, size in rows], np.float32),
            "residual_scale": np.array(task.residual_scale, np.float32),
            "task": np.array(number, np.int32),
        }

    def _crop(self, rng: np.random.Generator) -> tuple[Levels, tuple[int, int], tuple[int, int]]:
        """Return levels with a margin around the crop, the crop's place in its image, and the image's size."""
        side = CROP_PX + 2 * MARGIN_PX
        photo = self.photos[int(rng.integers(len(self.photos)))]
        y, x = (GRID_PX * int(rng.integers(0, (length - side) // GRID_PX + 1)) for length in photo.shape[:2])
        levels = photo[y : y + side, x : x + side].astype(np.float32)
        if rng.uniform() < 0.5:  # mirrored; the place in the grid stays, the place in the image is then another's
            levels = np.ascontiguousarray(levels[:, ::-1])
        return levels, (y + MARGIN_PX, x + MARGIN_PX), (photo.shape[0], photo.shape[1])

    def _task(self, rng: np.random.Generator) -> Task:
        """Return a random distortion with its filters, fitted by least squares."""
        distort = draw_distortion(rng)
        crops = [self._crop(rng)[0] for _ in range(FITTED_CROPS)]
        targets = [distort(levels, rng) for levels in crops]
        filters, squares = [], []
        for channel in range(3):
            rows = np.concatenate([_windows(levels[..., channel]) for levels in crops])
            values = np.concatenate([target[2:-2, 2:-2, channel].ravel() for target in targets])
            gram = rows.T @ rows + 1e-3 * np.eye(rows.shape[1])
            row = np.linalg.solve(gram, rows.T @ values)
            filters.append(row)
            squares.append(np.square(rows @ row - values).mean())
        return Task(distort, np.array(filters, np.float32), float(np.sqrt(np.mean(squares))))


def _windows(plane: Levels) -> NDArray[np.float64]:
    """Return the neighbourhood of each pixel, and a constant: (pixels, 26)."""
    windows = np.lib.stride_tricks.sliding_window_view(plane, (WINDOW_PX, WINDOW_PX))
    rows = windows.reshape(-1, WINDOW_PX**2).astype(np.float64)
    return np.concatenate([rows, np.ones((len(rows), 1))], axis=1)


class SeveralHeads(keras.Model):  # type: ignore[misc]
    """The compact network, with a last convolution of its own for each task."""

    def __init__(self, tasks: int, precision: str) -> None:
        super().__init__()
        self.body = new_body(precision=precision)
        head = self.body.get_layer("head")
        head.trainable = False  # in its place are those of the tasks
        self.features = keras.Model(self.body.inputs, head.input)
        self.kernels = self.add_weight(shape=(tasks, *head.kernel.shape), initializer="zeros", name="kernels")
        self.biases = self.add_weight(shape=(tasks, head.bias.shape[0]), initializer="zeros", name="biases")
        self.shuffle = self.body.layers[-1]

    def call(self, inputs: Any, task: Any) -> Any:
        """Return the residual of `task` in units of [-1, 1]."""
        chosen = ops.one_hot(task, self.kernels.shape[0])
        kernel, bias = ops.tensordot(chosen, self.kernels, 1), ops.tensordot(chosen, self.biases, 1)
        return self.shuffle(ops.conv(self.features(inputs), kernel, padding="same") + bias)


class Trainer:
    """Trains body and heads by ℓ1, in units of each task's residual."""

    def __init__(self, tasks: int, steps: int) -> None:
        keras.utils.set_random_seed(0)
        precision = "mixed_bfloat16" if bfloat16_is_faster() else "float32"
        self.steps = steps
        self.network, self.averaged = SeveralHeads(tasks, precision), SeveralHeads(tasks, "float32")
        self.averaged.set_weights(self.network.get_weights())
        self.optimizer = keras.optimizers.Adam(RATE, 0.9, 0.99)
        self.optimizer.build(self.network.trainable_variables)
        self._update = make_update([Part(self.network, self.optimizer, self.averaged)], self._losses)

    def step(self, inputs: Inputs, number: int) -> Mapping[str, Any]:
        """Train on the crops of step `number`, and return the loss."""
        cosine = 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * number / self.steps))
        self.optimizer.learning_rate.assign(RATE * cosine * min(1.0, (number + 1) / WARM_STEPS))
        return self._update(inputs, (True,), min(DECAY, number / (number + 10)))

    def state(self) -> State:
        """Return the whole state for the next step."""
        return {f"{number:04d}": np.array(variable) for number, variable in enumerate(self._variables())}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Restore a state."""
        for number, variable in enumerate(self._variables()):
            variable.assign(state[f"{number:04d}"])

    def _variables(self) -> list[Any]:
        return [*self.network.variables, *self.averaged.variables, *self.optimizer.variables]

    def _losses(self, batch: Mapping[str, Any]) -> tuple[tuple[Any], Mapping[str, Any]]:
        scale, task = batch["residual_scale"], batch["task"]
        nothing = ops.zeros_like(batch["base"])
        free, latent = nothing[..., :FREE_CHANNELS], ops.zeros((BATCH, LATENTS))
        given = NetworkBatch(batch["pristine"], batch["base"], nothing, free, latent, batch["offsets"], batch["sizes"])
        # every head in units of its residual: tasks count alike
        residual = scale * self.network(network_inputs(given, 1.0), task)
        loss = ops.mean(ops.abs(batch["base"] + residual - batch["distorted"])) / scale
        unexplained = ops.mean(ops.abs(batch["base"] - batch["distorted"])) / scale
        return (loss,), {"l1": loss, "l1_of_base": unexplained}


def read_photos(folder: Path) -> dict[tuple[str, str], NDArray[np.uint8]]:
    """Return the photographs of `folder` that benchmarks/unknown does not use, by digest and file name.

    Each is cut to at most 768 by 1,024 px.
    """
    used = {photo.digest for photo in read_list()}
    photos = {}
    for path in sorted(folder.iterdir()):
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None or min(image.shape[:2]) < CROP_PX + 2 * MARGIN_PX:
            continue
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        if (digest := image_digest(image)) not in used:
            photos[digest, path.name] = np.ascontiguousarray(centre(image))
    return photos


def main() -> None:
    """Train, and write the averaged body."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", type=int, default=96)
    parser.add_argument("--steps", type=int, default=4000)
    options = parser.parse_args()
    photos = read_photos(options.photos)
    write_csv(LIST, ("digest", "file"), sorted(photos))
    crops = Crops(list(photos.values()), options.tasks, seed=0)
    print(f"{len(photos)} photographs, {options.tasks} tasks", flush=True)
    trainer = Trainer(options.tasks, options.steps)
    schedule = Schedule("initialisation", options.steps, 1000, options.steps)
    train(trainer, crops, options.out, schedule, validate=lambda _: {})
    body = trainer.averaged.body
    weights = {v.path: np.zeros_like(v) if "head/" in v.path else np.array(v) for v in body.variables}
    facts = {"photographs": len(photos), "distortions": options.tasks, "steps": options.steps}
    write_arrays(options.out / "body.safetensors", weights, {name: str(value) for name, value in facts.items()})


if __name__ == "__main__":
    main()
