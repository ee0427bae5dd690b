"""How near a generator is on held-out images, in one number relative to the identity baseline: for selection."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.statistics.divergence import jsd_bits_rows
from distort_pipeline.statistics.nss_features import JSD_NSS, NSS_FEATURES, nss_histograms

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]
CROP_PX = 384
DELTA_PSNR_WEIGHT = 0.1  # per dB of mean delta PSNR, beside JSD_NSS and features in units of the identity's
FEATURE_WEIGHT = 0.5
MOST_DB = 10.0
FLOOR_BITS = 2e-4  # divergences below are luck of the draw


class Scorer:
    """Scores generators by JSD_NSS, the twelve features and PSNR on `held` images, at most 384 px of each."""

    def __init__(self, held: Sequence[Pair]) -> None:
        self.held = [(x[:CROP_PX, :CROP_PX], y[:CROP_PX, :CROP_PX]) for x, y in held]
        self._sizes = [x.shape[:2] for x, _ in held]
        self._true = [nss_histograms(y) for _, y in self.held]
        self._identity = self._divergences([x for x, _ in self.held])

    def score(
        self, distort: Callable[[NDArray[np.uint8], int, tuple[int, int]], NDArray[np.uint8]]
    ) -> dict[str, float]:
        """Return figures of `distort(image, seed, sides of its image)`; the identity scores 3, half for strength."""
        made = [distort(x, n, self._sizes[n]) for n, (x, _) in enumerate(self.held)]
        own = self._divergences(made)
        deltas = np.array([_psnr(x, g) - _psnr(x, y) for (x, y), g in zip(self.held, made, strict=True)])
        deltas = np.clip(deltas, -MOST_DB, MOST_DB)  # of an untouched image PSNR is infinite
        jsd_nss_row = list(NSS_FEATURES).index(JSD_NSS)
        jsd, jsd_identity = own[:, jsd_nss_row].mean(), self._identity[:, jsd_nss_row].mean()
        features, features_identity = own.mean(), self._identity.mean()
        score = (
            max(jsd, FLOOR_BITS) / max(jsd_identity, FLOOR_BITS)
            + FEATURE_WEIGHT * max(features, FLOOR_BITS) / max(features_identity, FLOOR_BITS)
            + DELTA_PSNR_WEIGHT * (abs(deltas.mean()) + 0.5 * np.median(np.abs(deltas)))
        )
        return {
            "score": float(score),
            "jsd_nss": float(jsd),
            "jsd_identity": float(jsd_identity),
            "features": float(features),
            "features_identity": float(features_identity),
            "delta_psnr_db": float(deltas.mean()),
            "median_abs_delta_db": float(np.median(np.abs(deltas))),
        }

    def _divergences(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return the divergence of each image from its true one under each feature, (images, 12)."""
        return np.stack([jsd_bits_rows(t, nss_histograms(g)) for t, g in zip(self._true, images, strict=True)])


def _psnr(x: NDArray[np.uint8], y: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / max(np.square(x.astype(np.float32) - y).mean(), 1e-2)))
