"""Losses of our networks and of the plain Keras form over 200 steps, with equal crops and initial weights.

Training is chaotic: two forms diverge within some steps, however exact. Each form is trained with several seeds, and
means over the last steps are compared; the bar is two standard errors of the difference. Small
networks, as the full size would take an hour; their layers are the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure, Options, Result, spread
from benchmarks.sample_store import make_manifest, make_pairs
from benchmarks.trainers import trainer_of
from distort_pipeline.data.pairs import PairStore
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.records import package_versions
from distort_pipeline.training.crops import Crops

FILTERS, BATCH, CROP_PX = 8, 8, 128
STEPS, LAST = 200, 100
SEEDS = 4
LOSSES = ("generator_loss", "discriminator_loss", "adversarial", "l1", "logit_gap")
BAR_ERRORS = 2.0
FORMS = {"plain": ("float32", True), "float32": ("float32", False), "mixed_bfloat16": ("mixed_bfloat16", False)}


def measure(options: Options) -> Result:
    """Return the differences of mean losses in standard errors."""
    pin_backend_threads(0)
    steps, last, seeds = (4, 2, 2) if options.quick else (STEPS, LAST, SEEDS)
    means: dict[str, list[dict[str, float]]] = {form: [] for form in FORMS}
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_manifest(options.images, Path(folder))
        store = make_pairs(manifest, Path(folder) / "pairs", distortions=("jpeg",))
        for seed in range(seeds):
            start: list[NDArray[np.float32]] | None = None
            for form, (precision, plain) in FORMS.items():
                losses, start = _train(store, precision, plain, seed, start, steps=steps, last=last)
                means[form].append(losses)
    figures = []
    for form in ("float32", "mixed_bfloat16"):
        for loss in means["plain"][0]:
            ours, plain_losses = ([losses[loss] for losses in means[name]] for name in (form, "plain"))
            figures.append(_figure(f"{form}: {loss}", ours, plain_losses))
    return Result(
        f"mean losses of steps {steps - last} to {steps}, {FILTERS} filters, batches of {BATCH} crops of {CROP_PX}², "
        f"{seeds} seeds",
        figures,
        [
            "The same first weights and the same crops for all forms of a seed. The full size was not compared: 200 "
            "steps of the plain form alone take the better part of an hour on two cores."
        ],
        packages=package_versions(["tensorflow", "keras"]),
    )


def _train(
    store: PairStore,
    precision: str,
    plain: bool,
    seed: int,
    start: list[NDArray[np.float32]] | None,
    *,
    steps: int,
    last: int,
) -> tuple[dict[str, float], list[NDArray[np.float32]]]:
    """Return the mean of each loss over the last steps, and the generator's first weights: `start`, if given."""
    trainer = trainer_of(FILTERS, BATCH, CROP_PX, precision, plain=plain, seed=seed)
    if start is None:
        start = trainer.generator.get_weights()
    for network in (trainer.generator, trainer.ema_generator):
        network.set_weights(start)  # the variables are the same ones in the same order
    crops = Crops(store, "jpeg", [1], crop_px=CROP_PX, crop_align=16, batch_size=BATCH, seed=seed)
    kept: dict[str, list[float]] = {}
    for batch in crops.prefetch(0, steps):
        losses = trainer.step(batch.pristine, batch.distorted, batch.severities, batch.step + 1)
        if batch.step >= steps - last:
            for name in LOSSES:
                kept.setdefault(name, []).append(float(losses[name]))
    return {name: float(np.mean(values)) for name, values in kept.items()}, start


def _figure(name: str, ours: list[float], plain: list[float]) -> Figure:
    """Return the difference of the means, in standard errors."""
    variances = (np.var(ours, ddof=1) + np.var(plain, ddof=1)) / len(ours)
    difference = abs(float(np.mean(ours) - np.mean(plain)))
    return Figure(
        name,
        "plain Keras form, float32",
        spread([difference / float(np.sqrt(variances))]),
        "standard errors",
        BAR_ERRORS,
        at_least=False,
        note=f"{np.mean(ours):.4g} and {np.mean(plain):.4g}; ± {np.std(plain, ddof=1):.2g} between seeds",
    )
