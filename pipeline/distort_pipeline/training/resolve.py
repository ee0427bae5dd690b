"""What the settings of a training come to, once its pairs, its distortion and its init_from are known."""

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
NOISE_CHANNELS = 3  # of a noise type: one for each colour, so that they can be independent


def learned_recipes(pairs: PairStore, distortion: str, levels: Sequence[int] | None) -> list[dict[str, Any]]:
    """Return the recipes of the `levels` of `distortion`, weakest first, of the store's first one if None.

    PipelineError if the store holds one of them not.
    """
    there = pairs.recipes(distortion)
    if levels is None:
        return there[:1]
    by_level = {int(recipe["level"]): recipe for recipe in there}
    for level in levels:
        if level not in by_level:
            held = ", ".join(map(str, sorted(by_level)))
            raise PipelineError(f"train.levels names level {level} of {distortion}; {pairs.folder} holds: {held}")
    return [by_level[level] for level in sorted(levels)]


def resolve_noise_channels(wanted: int | None, distortion: str, init_from: Path | None = None) -> int:
    """Return how many noise channels each scale gets: as `wanted`, else as `base`, else some for a random distortion.

    >>> settled_noise_channels(None, "white_noise"), settled_noise_channels(None, "jpeg"), settled_noise_channels(5, "")
    (3, 0, 5)
    """
    if wanted is not None:
        return wanted
    if init_from is not None:
        return int(read_card(init_from)["network"]["noise_channels"])
    return NOISE_CHANNELS if distortion in DISTORTIONS.names() and is_random(distortion) else 0


def resolve_warmup_steps(wanted: int | None, *, steps: int, adversarial: bool, fitted: bool) -> int:
    """Return how many steps D learns alone: an untrained D would lead a generator that starts well astray.

    `adversarial` says whether G learns from D at all, `fitted` whether it starts with what least squares say.

    >>> [settled_head_start(None, steps=1000, adversarial=True, fitted=fitted) for fitted in (True, False)]
    [250, 0]
    """
    if wanted is not None:
        return wanted
    if not adversarial:
        return 0  # there is no D to wait for
    return min(steps // 4, MAX_WARMUP_STEPS) if fitted else 0


def require_same_networks(
    init_from: Path, *, base_filters: int, noise_channels: int, codec_prior: str | None, crop_align: int
) -> None:
    """PipelineError if a training of these settings cannot go on from the trained model `base`."""
    network = read_card(init_from)["network"]
    learned = network.get("codec_prior", "none")
    for name, wanted, there in (
        # a init_from without a U-Net takes one of any width
        ("base_filters", base_filters, network["base_filters"] or base_filters),
        ("noise_channels", noise_channels, network["noise_channels"]),
        ("codec_prior", codec_prior or learned, learned),
    ):
        if wanted != there:
            raise PipelineError(
                f"train.{name} is {wanted}, but {init_from} has {there}: set it to that, or start elsewhere"
            )
    if learned != "none" and crop_align != TILE_ALIGN_PX:
        raise PipelineError(
            f"train.crop_align has to be {TILE_ALIGN_PX}, got {crop_align}: {init_from} has blocks on that grid"
        )


def require_better_than_identity(distortion: str, figures: Mapping[str, float]) -> None:
    """PipelineError if a start that is to make no step scores no better on validation tiles than the identity baseline."""
    if figures["jsd_nss"] >= figures["jsd_nss_pristine"]:
        raise PipelineError(
            f"what least squares say of {distortion} scores {figures['jsd_nss']:.4f} bits, the identity baseline "
            f"{figures['jsd_nss_pristine']:.4f}: with train.steps 0 there is nothing to gain; it takes adversarial "
            "steps, or other train.noise_channels"
        )
