"""Stages of learning: each generator is scored on held-out patches beside the best so far.

The score is one number of JSD_NSS, the NSS features, PSNR and a linear C2ST.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.metrics.classifier import linear_c2st, texture_features
from distort_pipeline.metrics.jsd_nss import JSD_NSS, NSS_FEATURES, jsd_bits_rows, nss_histograms
from distort_pipeline.models.card import HeldOutScores, LearningStage
from distort_pipeline.networks.composed import ComposedGenerator
from distort_pipeline.networks.overlays import record_overlays
from distort_pipeline.networks.patches import Levels, PairPatch
from distort_pipeline.training.compose_fit import bases_of, with_noise

Pixels = NDArray[np.uint8]
FEATURE_WEIGHT = 0.5  # of the mean of the twelve NSS features, in units of the identity's
C2ST_WEIGHT = 1.0  # of what a linear classifier knows in bits: 0 at chance, 1 at certainty
DELTA_PSNR_WEIGHT = 0.1  # per dB of mean delta PSNR; half of it per dB of an image's median
MOST_DB = 10.0
FLOOR_BITS = 2e-4  # divergences below are luck of the draw
CLEARLY_BETTER = 0.7  # share of the score: overlays are only as various as the pairs, a model of noise is endless
TILE_PX = 96  # that the classifier tells apart
DISTORTED = Callable[[PairPatch, int], Pixels]


class Scorer:
    """Scores generators on held-out `patches` by JSD_NSS, the NSS features, PSNR and a linear C2ST."""

    def __init__(self, patches: Sequence[PairPatch]) -> None:
        self.patches = patches
        self._true = [nss_histograms(patch.distorted) for patch in patches]
        self._identity = self._divergences([patch.pristine for patch in patches])
        self._true_features = self._features([patch.distorted for patch in patches])

    def score(self, distort: DISTORTED) -> HeldOutScores:
        """Return the scores of `distort(patch, seed)`, patches of an image under one seed."""
        generated = [distort(patch, patch.image) for patch in self.patches]
        divergences = self._divergences(generated)
        deltas = np.array(
            [
                _psnr(patch.pristine, image) - _psnr(patch.pristine, patch.distorted)
                for patch, image in zip(self.patches, generated, strict=True)
            ]
        )
        deltas = np.clip(deltas, -MOST_DB, MOST_DB)  # of an untouched image PSNR is infinite
        row = list(NSS_FEATURES).index(JSD_NSS)
        jsd, jsd_identity = divergences[:, row].mean(), self._identity[:, row].mean()
        features, features_identity = divergences.mean(), self._identity.mean()
        c2st = linear_c2st(self._true_features, self._features(generated))
        score = (
            max(jsd, FLOOR_BITS) / max(jsd_identity, FLOOR_BITS)
            + FEATURE_WEIGHT * max(features, FLOOR_BITS) / max(features_identity, FLOOR_BITS)
            + C2ST_WEIGHT * max(1 - c2st.cross_entropy_bits, 0.0)
            + DELTA_PSNR_WEIGHT * (abs(deltas.mean()) + 0.5 * np.median(np.abs(deltas)))
        )
        return HeldOutScores(
            score=float(score),
            jsd_nss=float(jsd),
            jsd_identity=float(jsd_identity),
            features=float(features),
            features_identity=float(features_identity),
            c2st_accuracy=c2st.accuracy,
            c2st_bits=c2st.cross_entropy_bits,
            delta_psnr_db=float(deltas.mean()),
            median_abs_delta_db=float(np.median(np.abs(deltas))),
        )

    def _divergences(self, images: Sequence[Pixels]) -> NDArray[np.float64]:
        """Return the divergence of each image from its true one under each feature, (images, 12)."""
        return np.stack([jsd_bits_rows(t, nss_histograms(g)) for t, g in zip(self._true, images, strict=True)])

    def _features(self, images: Sequence[Pixels]) -> list[NDArray[np.float32]]:
        """Return the features of each held-out image's tiles, (tiles, F)."""
        rows: dict[int, list[NDArray[np.float32]]] = {}
        for patch, image in zip(self.patches, images, strict=True):
            rows.setdefault(patch.image, []).append(texture_features(_tiles(image)))
        return [np.concatenate(rows[image]) for image in sorted(rows)]


def _tiles(image: Pixels) -> NDArray[np.uint8]:
    """Return tiles (N, TILE_PX, TILE_PX, 3) of `image`, apart; the whole of a smaller one."""
    side = min(TILE_PX, *image.shape[:2])
    rows, columns = (range(0, length - side + 1, side) for length in image.shape[:2])
    return np.stack([image[y : y + side, x : x + side] for y in rows for x in columns])


def _psnr(x: Pixels, y: Pixels) -> float:
    return float(10 * np.log10(255**2 / max(np.square(x.astype(np.float32) - y).mean(), 1e-2)))


class Stages:
    """The stages so far: their scores, and the best generator."""

    def __init__(self, held: Sequence[PairPatch]) -> None:
        self.held, self.scorer = held, Scorer(held)
        self.rows: list[LearningStage] = []
        self.best, self.score, self.name = ComposedGenerator(), np.inf, "nothing"
        self.started = time.process_time()

    def consider(self, name: str, generator: ComposedGenerator, *, better: float = 1.0) -> float:
        """Score `generator`, keep it if its score is below `better` of the best, and return its score."""
        scores = self.scores(generator)
        self.rows.append(LearningStage(name, scores))
        say(
            f"{name}: score {scores.score:.3f}, JSD_NSS {scores.jsd_nss:.4f} ({scores.jsd_identity:.4f}), "
            f"C2ST {scores.c2st_accuracy:.2f}, {scores.delta_psnr_db:+.2f} dB, "
            f"median {scores.median_abs_delta_db:.2f} dB, {time.process_time() - self.started:.0f} CPU-s"
        )
        if scores.score < better * self.score:
            self.best, self.score, self.name = generator, scores.score, name
        return scores.score

    def scores(self, generator: ComposedGenerator) -> HeldOutScores:
        """Return the scores of `generator` on the held-out patches."""
        return self.scorer.score(lambda patch, seed: _distorted(generator, patch, seed))

    def l1(self, generator: ComposedGenerator) -> float:
        """Return the mean absolute difference of `generator` from the held-out patches, in levels."""
        differences = [np.abs(_distorted(generator, p, p.image) - p.distorted.astype(np.float32)) for p in self.held]
        return float(np.mean([difference.mean() for difference in differences]))


def consider_noise(
    name: str,
    generator: ComposedGenerator,
    samples: Sequence[tuple[PairPatch, Levels]],
    held: Sequence[PairPatch],
    stages: Stages,
    *,
    residuals: Sequence[Levels] | None = None,
) -> ComposedGenerator:
    """Consider `generator` with the noise that it leaves, and return it."""
    patches, bases = [patch for patch, _ in samples], [base for _, base in samples]
    noisy = with_noise(generator, patches, bases, held, residuals=residuals)
    if noisy.noise is not None:
        gains = "gain per image" if len(noisy.noise.log_gains) > 1 else "one gain"
        stages.consider(f"{name}, {gains}", noisy)
    return noisy


def consider_overlays(name: str, front: ComposedGenerator, fitted: Sequence[PairPatch], stages: Stages) -> bool:
    """Consider overlays recorded from what `front` leaves of the `fitted` patches; return whether they are kept."""
    overlays = record_overlays(fitted, bases_of(front, fitted))
    if overlays is None:
        return False
    images = tuple(range(1 + max(patch.image for patch in fitted)))
    overlaid = front.with_parts(choices=front.choices if len(front.choices) > 1 else images, overlays=overlays)
    better = 1.0 if stages.best.overlays is not None else CLEARLY_BETTER
    stages.consider(f"{name} from {len(overlays.layers)} patches", overlaid, better=better)
    return stages.best is overlaid


def _distorted(generator: ComposedGenerator, patch: PairPatch, seed: int) -> Pixels:
    return generator.encode(generator.distort_part(patch.pristine, 1.0, seed, patch.position), 1.0, seed)


def say(text: str) -> None:
    """Print `text` to standard error."""
    print(text, file=sys.stderr, flush=True)
