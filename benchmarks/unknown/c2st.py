"""Two classifier two-sample tests: logistic regression on features, and the product's own network on pixels.

Lopez-Paz and Oquab, "Revisiting Classifier Two-Sample Tests", ICLR 2017. Each photograph is judged by a classifier
that was fitted on others. Beside the accuracy stands the cross-entropy of the held-out tiles, which still tells
distortions apart where every accuracy is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.stats
from numpy.typing import NDArray
from scipy.special import expit

FOLDS = 4
NETWORK_FOLDS = 2  # a fit takes most of a CPU-minute
PENALTY = 0.1  # on the squared weights of standardised features, beside the mean cross-entropy in nats
LIMIT = 4.0  # standardised features are clipped to it: tiles of an odd photograph must not decide
STEPS = 400  # of the network, as the product's `evaluate` has it
CONFIDENCE = 0.95
LEAST_PROBABILITY = 1e-4  # a cross-entropy counts no tile as more than 13 bits

Values = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Accuracy:
    """Accuracy and cross-entropy over held-out photographs; chance is 0.5 and 1 bit."""

    accuracy: float
    low: float  # 95 % interval, Student's over the photographs' own accuracies
    high: float
    cross_entropy_bits: float


def logistic_c2st(ours: Sequence[Values], others: Sequence[Values], *, seed: int) -> Accuracy:
    """Return how well features (N, F) of each photograph in `ours` are told from those in `others` by logistic fits."""
    probabilities: list[Values] = [np.empty(0)] * len(ours)
    for fitted, held_out in grouped_folds(len(ours), FOLDS, np.random.default_rng(seed)):
        rows = np.concatenate([kind[index] for kind in (ours, others) for index in fitted])
        labels = np.repeat([0.0, 1.0], [sum(len(kind[index]) for index in fitted) for kind in (ours, others)])
        scale = Standard.of(rows)
        weights, bias = fit_logistic(scale(rows), labels)
        for index in held_out:
            probabilities[index] = expit(scale(np.concatenate([ours[index], others[index]])) @ weights + bias)
    return _accuracy(probabilities, ours, others)


def network_c2st(ours: Sequence[NDArray[np.uint8]], others: Sequence[NDArray[np.uint8]], *, seed: int) -> Accuracy:
    """Return how well tiles (N, 64, 64, 3) in `ours` are told from those in `others` by the product's network."""
    from distort_pipeline.metrics.classifier import TileClassifier

    rng = np.random.default_rng(seed)
    classifier = TileClassifier(2, steps=STEPS)
    probabilities: list[Values] = [np.empty(0)] * len(ours)
    for fitted, held_out in grouped_folds(len(ours), NETWORK_FOLDS, rng):
        tiles = np.concatenate([kind[index] for kind in (ours, others) for index in fitted])
        labels = np.repeat([0, 1], [sum(len(kind[index]) for index in fitted) for kind in (ours, others)])
        classifier.fit(tiles, labels, rng)
        for index in held_out:
            logits = classifier.outputs(np.concatenate([ours[index], others[index]]))
            probabilities[index] = expit(logits[:, 1] - logits[:, 0])
    return _accuracy(probabilities, ours, others)


def grouped_folds(photos: int, count: int, rng: np.random.Generator) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (photographs to fit on, photographs to judge) of up to `count` folds; each is judged once."""
    order = rng.permutation(photos)
    for held_out in np.array_split(order, min(count, photos)):
        yield np.setdiff1d(order, held_out).tolist(), held_out.tolist()


@dataclass(frozen=True)
class Standard:
    """Takes features to mean 0 and deviation 1 of the rows it was made of, clipped to ±LIMIT."""

    mean: Values  # (F,)
    deviation: Values  # (F,)

    @classmethod
    def of(cls, rows: Values) -> Standard:
        """Return the standard of `rows` (N, F)."""
        return cls(rows.mean(axis=0), rows.std(axis=0) + 1e-6)

    def __call__(self, rows: Values) -> Values:
        """Return `rows` (N, F) standardised."""
        return np.clip((rows - self.mean) / self.deviation, -LIMIT, LIMIT).astype(np.float32)


def fit_logistic(rows: Values, labels: Values) -> tuple[Values, float]:
    """Return weights (F,) and bias of the logistic regression of `labels` (N,), 0 or 1, on `rows` (N, F)."""

    def loss(parameters: Values) -> tuple[float, Values]:
        weights, bias = parameters[:-1], parameters[-1]
        scores = rows @ weights.astype(rows.dtype) + bias
        entropy = float(np.mean(np.logaddexp(0, scores) - labels * scores))
        error = (expit(scores) - labels) / len(rows)
        gradient = np.append(error.astype(rows.dtype) @ rows + 2 * PENALTY * weights, error.sum())
        return entropy + PENALTY * float(weights @ weights), gradient

    start = np.zeros(rows.shape[1] + 1)
    optimum = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 100})
    return optimum.x[:-1], float(optimum.x[-1])


def _accuracy(probabilities: Sequence[Values], ours: Sequence[Sized], others: Sequence[Sized]) -> Accuracy:
    """Return the accuracy of `probabilities` that tiles are `others`; each photograph's begin with those of `ours`."""
    shares, entropies = [], []
    for probability, first, second in zip(probabilities, ours, others, strict=True):
        labels = np.repeat([False, True], [len(first), len(second)])
        right = np.where(labels, probability, 1 - probability)
        shares.append(float(np.mean((probability > 0.5) == labels)))
        entropies.append(float(-np.log2(np.clip(right, LEAST_PROBABILITY, 1)).mean()))
    mean = float(np.mean(shares))
    half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(shares) - 1) * scipy.stats.sem(shares))
    return Accuracy(mean, max(mean - half, 0.0), min(mean + half, 1.0), float(np.mean(entropies)))
