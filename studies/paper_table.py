"""The paper's Table I by the paper's own network, from random weights, without any fit: `studies/paper_table.md`.

    python -m studies.paper_table PHOTOS OUT [--steps 3000] [--mean-steps 600] [--adversarial-steps 1000] [--page]

The four distortions of the paper at one level, two trainings of each with the same U-Net:

- *paper*: hinge loss and λ L1 of the paper, its PatchGAN, batch norm, Adam (`training/gan.py`);
- *recipe*: what learning from pairs uses (`training/compact.py`): a head that starts at 0, ℓ1 towards the true image
  first, then a paired relativistic loss with gradient penalties against a discriminator without batch norm, the best
  of the validated weights.

PHOTOS is the folder of `make unknown`: 48 photographs to learn from and 24 to judge on, listed there by digest. A
stopped run resumes. With --page only the page is written, from OUT/figures.json.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import click
import cv2
import numpy as np
import tensorflow as tf

from benchmarks.unknown.photos import Part, choose
from distort_pipeline.distortions import apply, is_random
from distort_pipeline.distortions.presets import parameters
from distort_pipeline.metrics.full_reference import psnr
from distort_pipeline.metrics.jsd_nss import jsd_nss
from distort_pipeline.models.store import assign_weights, weights_of
from distort_pipeline.networks.backend import keras, ops, pin_backend_threads
from distort_pipeline.networks.compact import POSITION_CHANNELS, CompactBody, CompactSize
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.generator import Architecture, UNet, build_generator
from distort_pipeline.networks.inputs import BLOCKS, GeneratorInputs
from distort_pipeline.networks.patches import FREE_CHANNELS, LATENTS, PairPatch, TilePosition, cut_patches
from distort_pipeline.networks.predictor import Predictor
from distort_pipeline.records import Image, derive_seed, make_rng
from distort_pipeline.training import compact
from distort_pipeline.training.compact import AdversarialTrainer, CompactCrops, CompactNetwork, CompactSettings
from distort_pipeline.training.gan import GANConfig, make_trainer
from distort_pipeline.training.loop import BestWeights, Schedule, train
from distort_pipeline.training.stages import Scorer

DISTORTIONS = ("jpeg", "jp2k", "white_noise", "pink_noise")
NAMES = {"jpeg": "JPEG", "jp2k": "JP2K", "white_noise": "white noise", "pink_noise": "pink noise"}
TABLE_I = (  # of the paper: rows generated, columns true, in the order of DISTORTIONS
    (0.0107, 0.0043, 0.2191, 0.0470),
    (0.0116, 0.0031, 0.2321, 0.0541),
    (0.1847, 0.2149, 0.0008, 0.0959),
    (0.0195, 0.0317, 0.1377, 0.0062),
)
FILTERS, CROP_PX, BATCH, SEED = 16, 128, 8, 0
NOISE_CHANNELS = 3  # of random distortions
JUDGED_PX = 512  # the middle of each judging photograph, a multiple of the network's 128
HELD_PX = 256  # of the patches that validate
HELD_EVERY = 6  # of the learning photographs, every sixth validates the recipe
PAGE = Path(__file__).with_suffix(".md")
STRIPS, SHOWN, STRIP_PX = Path(__file__).with_name("paper_table.webp"), 4, 192
RECIPES = ("paper", "recipe")
SEEN = """\
In so few steps the paper's training stays near the pristine image: its discriminator, given the plain pair, does not
notice what is missing. The recipe comes to the paper's figure for pink noise and near it for white noise; by eye white
noise is right and too weak, and pink noise has a pattern that repeats every 16 px (its mean over the photographs
deviates by 6 levels), to which JSD_NSS is blind. Neither learns to quantise as JPEG and JPEG 2000 do. This is why
codecs are fitted in their own transform, and unknown distortions by small models first."""


@dataclass(frozen=True)
class Budget:
    """Numbers of steps."""

    paper: int
    mean: int
    adversarial: int


def true_of(distortion: str, image: Image, seed: int) -> Image:
    """Return the true distortion of `image`."""
    return apply(distortion, image, parameters("paper_like", distortion, 1), make_rng(seed)).image


def true_pairs(distortion: str, images: Sequence[Image], *, seed: int) -> list[tuple[Image, Image]]:
    """Return (pristine, distorted) of all `images`."""
    return [(image, true_of(distortion, image, derive_seed(seed, number))) for number, image in enumerate(images)]


@dataclass(frozen=True)
class GANBatch:
    """The crops of one step as the paper's trainer takes them."""

    step: int
    inputs: tuple[Any, ...]


class GANCrops:
    """The crops of the recipe, as 8-bit pixels with a severity of 1."""

    def __init__(self, crops: CompactCrops) -> None:
        self.crops = crops

    def prefetch(self, first: int, last: int) -> Generator[GANBatch, None, None]:
        """Yield the batches of steps `first` to `last` - 1."""
        severities = np.ones((BATCH, 1), np.float32)
        for step in range(first, last):
            crops = self.crops.at(step)
            pixels = (crops[name].astype(np.uint8) for name in ("pristine", "distorted"))
            yield GANBatch(step, (*pixels, severities))


Distort = Callable[[Image, int], Image]


def by_the_paper(distortion: str, patches: Sequence[PairPatch], budget: Budget, folder: Path) -> Distort:
    """Train as the paper does, and return the generator of the last step."""
    channels = NOISE_CHANNELS if is_random(distortion) else 0
    trainer, _ = make_trainer(
        GANConfig(
            base_filters=FILTERS, discriminator_filters=FILTERS, noise_channels=channels, discriminator_input="plain",
            precision="float32", crop_px=CROP_PX, batch_size=BATCH, generator_lr=3e-4, discriminator_lr=1e-4,
            beta_1=0.5, beta_2=0.999, lambda_l1=0.1, l1_scale=2.0, l1_reduction="mean", ema_decay=0.999, seed=SEED,
        )
    )  # fmt: skip
    crops = CompactCrops(
        patches, [p.pristine.astype(np.float32) for p in patches], crop_px=CROP_PX, batch=BATCH, seed=0
    )
    schedule = Schedule(f"{distortion}, paper", budget.paper, checkpoint_every=250, validate_every=budget.paper)
    train(trainer, GANCrops(crops), folder, schedule, validate=lambda _: {})  # type: ignore[arg-type]
    model = build_generator(Architecture(FILTERS, channels))
    assign_weights(model, weights_of(trainer.ema_generator))
    return Predictor(model, noise_channels=channels, batch_size=1).distort_image


def unet_body(size: CompactSize | None = None, precision: str = "float32", *, channels: int) -> keras.Model:  # noqa: ARG001
    """Return the paper's U-Net as the network of a learned generator, with free noise at its seven scales."""
    base, pristine = keras.Input((None, None, 3), name="base"), keras.Input((None, None, 3), name="pristine")
    noise = keras.Input((None, None, 3 + FREE_CHANNELS), name="noise")
    latent, position = keras.Input((LATENTS,)), keras.Input((None, None, POSITION_CHANNELS))
    free = noise[..., 3:]
    sides = [2**scale for scale in reversed(range(BLOCKS))]  # of the means: coarsest first; unit variance again
    noises = tuple(side * (ops.average_pool(free, side, side) if side > 1 else free) for side in sides)
    inputs = GeneratorInputs(pristine, noises if channels else ())
    residuals = UNet(FILTERS, starts_at_zero=True, precision=precision)(inputs)
    output = keras.layers.Add(dtype="float32")(residuals) if len(residuals) > 1 else ops.cast(residuals[0], "float32")
    return keras.Model([base, pristine, noise, latent, position], output, name="unet")


def by_the_recipe(distortion: str, patches: Sequence[PairPatch], budget: Budget, folder: Path) -> Distort:
    """Train the same U-Net as learning from pairs does, and return the best of the validated generators."""
    channels = int(is_random(distortion))
    held = [p for p in patches if p.image % HELD_EVERY == 0 and min(p.pristine.shape[:2]) >= HELD_PX]
    fitted = [p for p in patches if p.image % HELD_EVERY]
    bases = [p.pristine.astype(np.float32) for p in fitted]
    rms = float(np.sqrt(np.mean([np.square(p.distorted - b).mean() for p, b in zip(fitted, bases, strict=True)])))
    crops = CompactCrops(fitted, bases, crop_px=CROP_PX, batch=BATCH, seed=SEED)
    settings = CompactSettings(seed=SEED)
    with patch.object(compact, "new_body", lambda **options: unet_body(**options, channels=channels)):
        network = CompactNetwork(settings, residual_scale=rms, jpeg=None)
    mean = compact.MeanTrainer(network, settings, steps=budget.mean)
    schedule = Schedule(f"{distortion}, mean", budget.mean, checkpoint_every=200, validate_every=budget.mean)
    train(mean, crops, folder / "mean", schedule, validate=lambda _: {})
    generator = ComposedGenerator(body=CompactBody(network.averaged, noise_scale=rms, stochastic=True))
    scorer, best = Scorer([_middle(p) for p in held[:: max(len(held) // 12, 1)]]), BestWeights(folder)
    trainer = AdversarialTrainer(network, settings, steps=budget.adversarial)

    def restored() -> list[Any]:
        weights = best.weights()
        return [weights[variable.path] for variable in network.averaged.variables]

    def validate(step: int) -> Mapping[str, float]:
        scores = scorer.score(lambda p, seed: generator.distort_part(p.pristine, 1.0, seed, p.position))
        best.offer(step, scores.score, lambda: {v.path: np.array(v) for v in network.averaged.variables})
        trainer.validated(scores.score, restored)
        return {"score": scores.score, "jsd_nss": scores.jsd_nss, "delta_psnr_db": scores.delta_psnr_db}

    schedule = Schedule(f"{distortion}, adversary", budget.adversarial, checkpoint_every=100, validate_every=100)
    train(trainer, crops, folder / "adversary", schedule, validate=validate, goes_on=lambda: trainer.goes_on)
    compact.assign(network.averaged, restored())
    return lambda image, seed: generator.distort_part(image, 1.0, seed, TilePosition(0, 0, *image.shape[:2]))


def _middle(piece: PairPatch) -> PairPatch:
    inside = (slice(HELD_PX), slice(HELD_PX))
    return replace(piece, pristine=piece.pristine[inside], distorted=piece.distorted[inside])


def judged(generated: Mapping[str, Sequence[Image]], pristine: Sequence[Image], true: Any) -> dict[str, Any]:
    """Return the table of JSD_NSS, means over photographs, and ΔPSNR of the diagonal."""
    table = {
        made: {of: fmean(jsd_nss(t, g) for t, g in zip(true[of], images, strict=True)) for of in DISTORTIONS}
        for made, images in generated.items()
    }
    strength = {
        made: fmean(psnr(x, g) - psnr(x, t) for x, g, t in zip(pristine, images, true[made], strict=True))
        for made, images in generated.items()
    }
    return {"jsd_nss": table, "delta_psnr_db": strength}


def photographs(folder: Path, part: Part) -> list[Image]:
    """Return the photographs of a part."""
    return [image for photo, image in choose(folder) if photo.part == part]


@click.command()
@click.argument("photos", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--steps", default=3000, show_default=True, help="of the paper's training")
@click.option("--mean-steps", default=600, show_default=True)
@click.option("--adversarial-steps", default=1000, show_default=True)
@click.option("--page", is_flag=True, help="only write the page")
def main(photos: Path, out: Path, steps: int, mean_steps: int, adversarial_steps: int, page: bool) -> None:
    """Train both ways, judge, and write the page."""
    figures = out / "figures.json"
    if not page:
        measure(photos, out, Budget(steps, mean_steps, adversarial_steps), figures)
    PAGE.write_text(render(json.loads(figures.read_text(encoding="utf-8"))), encoding="utf-8")


def measure(photos: Path, out: Path, budget: Budget, figures: Path) -> None:
    """Train and judge whatever is not in the file `figures` yet."""
    pin_backend_threads(0)
    learn = photographs(photos, "learn")
    pristine = [_centre(image) for image in photographs(photos, "judge")]
    true = {
        name: [true_of(name, image, derive_seed(1, number)) for number, image in enumerate(pristine)]
        for name in DISTORTIONS
    }
    generated: dict[str, dict[str, list[Image]]] = {recipe: {} for recipe in RECIPES}
    minutes: dict[str, dict[str, float]] = {recipe: {} for recipe in RECIPES}
    for name in DISTORTIONS:
        patches = cut_patches(true_pairs(name, learn, seed=0), 384)
        for recipe, training in (("paper", by_the_paper), ("recipe", by_the_recipe)):
            folder = out / name / recipe
            images, spent = folder / "judged.npz", time.process_time()
            if not images.is_file():
                tf.keras.backend.clear_session()
                distort = training(name, patches, budget, folder)
                made = [distort(image, derive_seed(2, number)) for number, image in enumerate(pristine)]
                np.savez_compressed(images, images=np.stack(made), minutes=np.array((time.process_time() - spent) / 60))
            with np.load(images) as stored:
                generated[recipe][name], minutes[recipe][name] = list(stored["images"]), float(stored["minutes"])
    rows = {recipe: judged(generated[recipe], pristine, true) for recipe in RECIPES}
    rows["identity"] = {
        "jsd_nss": {of: fmean(jsd_nss(t, x) for t, x in zip(true[of], pristine, strict=True)) for of in DISTORTIONS}
    }
    figures.write_text(
        json.dumps({"budget": asdict(budget), "minutes": minutes, "photographs": len(pristine), **rows}, indent=1),
        encoding="utf-8",
    )
    shown = [pristine]
    for name in DISTORTIONS:
        shown += [true[name], *(generated[recipe][name] for recipe in RECIPES)]
    numbers = np.linspace(0, len(pristine) - 1, SHOWN).round().astype(int)
    inside = (slice((JUDGED_PX - STRIP_PX) // 2, (JUDGED_PX + STRIP_PX) // 2),) * 2
    pixels = np.concatenate([np.concatenate([column[row][inside] for column in shown], axis=1) for row in numbers])
    cv2.imwrite(str(STRIPS), pixels[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, 90])


def _centre(image: Image) -> Image:
    y, x = ((side - JUDGED_PX) // 2 // 16 * 16 for side in image.shape[:2])
    return np.ascontiguousarray(image[y : y + JUDGED_PX, x : x + JUDGED_PX])


def render(figures: Mapping[str, Any]) -> str:
    """Return the page."""
    budget, minutes = figures["budget"], figures["minutes"]
    return "\n".join(
        [
            "# The paper's Table I by the paper's own network",
            "",
            f"Written by `python -m studies.paper_table`. G(x) = x + U(x) of {FILTERS} filters (the paper has 64) from "
            f"random weights, no fit, no codec's transform; 48 photographs, crops of {CROP_PX} px, batches of {BATCH}, "
            f"judged on the middle {JUDGED_PX} px of {figures['photographs']} photographs of other sources. Random "
            "distortions get noise maps, which the paper does not mention. JPEG has quality 12, JPEG 2000 ratio 150, "
            "white noise σ 19, pink noise σ 25. One run each, on two cores.",
            "",
            f"- **paper**: the paper's losses and discriminator, {budget['paper']} steps, weights of the last;",
            f"- **recipe**: the same U-Net, its last kernel zero at first, {budget['mean']} steps of ℓ1 and up to "
            f"{budget['adversarial']} of a paired relativistic loss with gradient penalties, matched features and a "
            "discriminator without batch norm; the best of validations on held-out photographs of the 48.",
            "",
            "JSD_NSS in bits; rows generated, columns true; in brackets Table I of the paper.",
            "",
            *(line for recipe in RECIPES for line in _table(recipe, figures)),
            "",
            "| CPU-minutes | " + " | ".join(NAMES[name] for name in DISTORTIONS) + " |",
            "|---|" + "---:|" * len(DISTORTIONS),
            *(
                f"| {recipe} | " + " | ".join(f"{minutes[recipe][name]:.0f}" for name in DISTORTIONS) + " |"
                for recipe in RECIPES
            ),
            "",
            SEEN,
            "",
            "Beside the paper's figures 2 and 3: pristine, then for JPEG, JPEG 2000, white and pink noise the true "
            "distortion, *paper*, *recipe*; the middle 192 px of four photographs.",
            "",
            f"![pristine, and true, paper, recipe of each distortion]({STRIPS.name})",
            "",
        ]
    )


def _table(recipe: str, figures: Mapping[str, Any]) -> list[str]:
    rows = [
        "",
        f"| {recipe} | " + " | ".join(NAMES[name] for name in DISTORTIONS) + " | ΔPSNR, dB |",
        "|---|" + "---:|" * (len(DISTORTIONS) + 1),
    ]
    for made, printed in zip(DISTORTIONS, TABLE_I, strict=True):
        cells = []
        for of, paper in zip(DISTORTIONS, printed, strict=True):
            value = f"{figures[recipe]['jsd_nss'][made][of]:.4f}"
            cells.append(f"**{value}** ({paper:.4f})" if made == of else f"{value} ({paper:.4f})")
        strength = figures[recipe]["delta_psnr_db"][made]
        rows.append(f"| {NAMES[made]} | " + " | ".join(cells) + f" | {strength:+.2f} |")
    identity = " | ".join(f"{figures['identity']['jsd_nss'][of]:.4f}" for of in DISTORTIONS)
    return [*rows, f"| *identity baseline* | {identity} | – |"]


if __name__ == "__main__":
    main()
