"""The settings of a training, resolved from its pairs, its distortion and its initial model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.distortions import DISTORTIONS, is_random
from distort_pipeline.errors import PipelineError
from distort_pipeline.planning.tiles import TILE_ALIGN_PX
from distort_pipeline.stores.models import read_card
from distort_pipeline.stores.pairs import PairStore

MAX_WARMUP_STEPS = 500
NOISE_CHANNELS = 3  # of a noise type: a channel for each colour, for independent colours


def learned_recipes(pairs: PairStore, distortion: str, levels: Sequence[int] | None) -> list[dict[str, Any]]:
    """Return the recipes of the `levels` of `distortion`, weakest first; of the store's first level if None.

    PipelineError for a level not in the store.
    """
    recipes = pairs.recipes(distortion)
    if levels is None:
        return recipes[:1]
    by_level = {int(recipe["level"]): recipe for recipe in recipes}
    for level in levels:
        if level not in by_level:
            available = ", ".join(map(str, sorted(by_level)))
            raise PipelineError(f"train.levels names level {level} of {distortion}; {pairs.folder} holds: {available}")
    return [by_level[level] for level in sorted(levels)]


def resolve_noise_channels(configured: int | None, distortion: str, init_from: Path | None = None) -> int:
    """Return the noise channels per scale: as configured, as in `init_from`, or by whether the distortion is random.

    >>> [resolve_noise_channels(None, name) for name in ("white_noise", "jpeg")], resolve_noise_channels(5, "")
    ([3, 0], 5)
    """
    if configured is not None:
        return configured
    if init_from is not None:
        return int(read_card(init_from)["network"]["noise_channels"])
    return NOISE_CHANNELS if distortion in DISTORTIONS.names() and is_random(distortion) else 0


def resolve_warmup_steps(configured: int | None, *, steps: int, adversarial: bool, fitted: bool) -> int:
    """Return the discriminator's warm-up steps: an untrained D would mislead a well initialised generator.

    `adversarial` is whether G learns from D at all, `fitted` whether G starts from least-squares fits.

    >>> [resolve_warmup_steps(None, steps=1000, adversarial=True, fitted=fitted) for fitted in (True, False)]
    [250, 0]
    """
    if configured is not None:
        return configured
    if not adversarial:
        return 0  # there is no D to wait for
    return min(steps // 4, MAX_WARMUP_STEPS) if fitted else 0


def require_same_networks(
    init_from: Path, *, base_filters: int, noise_channels: int, codec_prior: str | None, crop_align: int
) -> None:
    """Raise PipelineError if a training with these settings cannot continue from the model `init_from`."""
    network = read_card(init_from)["network"]
    learned = network.get("codec_prior", "none")
    for name, configured, trained in (
        # a model without a U-Net takes any width
        ("base_filters", base_filters, network["base_filters"] or base_filters),
        ("noise_channels", noise_channels, network["noise_channels"]),
        ("codec_prior", codec_prior or learned, learned),
    ):
        if configured != trained:
            raise PipelineError(
                f"train.{name} is {configured}, but --init-from {init_from} has {trained}: "
                f"set train.{name} to {trained}, or choose another model"
            )
    if learned != "none" and crop_align != TILE_ALIGN_PX:
        raise PipelineError(
            f"train.crop_align has to be {TILE_ALIGN_PX}, got {crop_align}: "
            f"the codec prior of --init-from {init_from} has blocks on this grid"
        )


def require_better_than_identity(distortion: str, figures: Mapping[str, float]) -> None:
    """Raise PipelineError if an initialization without steps is no better than the identity baseline."""
    if figures["jsd_nss"] >= figures["jsd_nss_pristine"]:
        raise PipelineError(
            f"the least-squares fit of {distortion} scores {figures['jsd_nss']:.4f} bits, the identity baseline "
            f"{figures['jsd_nss_pristine']:.4f}: with train.steps 0 the model is no better than the identity; "
            "raise train.steps or change train.noise_channels"
        )
