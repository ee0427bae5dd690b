"""A small no-reference model learns to rank, and scores truly distorted photographs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.stats import spearmanr

from distort_pipeline.data.corpora import CorpusStore
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.distortions import apply
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.records import Image, ImageRecord, Images, derive_seed, make_rng, normalize, to_uint8

SCALES = (0.0, 0.5, 1.0)  # of the residual: pristine, half and full, the order to learn
TEST_PRESETS = {"jpeg": "waterloo", "jp2k": "waterloo", "white_noise": "waterloo", "pink_noise": "dbcnn"}
TEST_PX = 384  # centre crop of a test photograph
RATE = 1e-3


@dataclass(frozen=True)
class Material:
    """Training tiles (N, H, W, 3), pristine and distorted."""

    pristine: Images
    distorted: Images


def generated_material(corpus: CorpusStore, indices: NDArray[np.int64]) -> Material:
    """Return the generated samples at `indices`."""
    samples = corpus.take(indices.tolist())
    return Material(samples.pristine, samples.distorted)


def true_material(corpus: CorpusStore, indices: NDArray[np.int64], manifest: Path, seed: int) -> Material:
    """Return the same tiles under the learned true distortions, applied to the full photographs."""
    samples = corpus.take(indices.tolist())
    listed = read_manifest(manifest)
    images = {record.id: record for record in listed.records}
    distorted: dict[tuple[str, str, int], Image] = {}
    true = np.empty_like(samples.distorted)
    for index, record in enumerate(samples.records):
        key = (record.image, record.distortion, record.level)
        if key not in distorted:
            parameters = json.loads(record.parameters)
            rng = make_rng(derive_seed(seed, *key))
            pristine = read_ingested(listed.root, images[record.image])
            distorted[key] = apply(record.distortion, pristine, parameters, rng).image
        true[index] = distorted[key][record.y : record.y + record.height, record.x : record.x + record.width]
    return Material(samples.pristine, true)


def spread_indices(corpus: CorpusStore, per_distortion: int) -> NDArray[np.int64]:
    """Return the indices of `per_distortion` training samples of each distortion, evenly spread over the corpus."""
    by_distortion = [corpus.select([name], ["train"]) for name in corpus.distortions]
    return np.concatenate(
        [indices[np.unique(np.linspace(0, len(indices) - 1, per_distortion).astype(int))] for indices in by_distortion]
    )


def build_scorer() -> keras.Model:
    """Return a model x (N, H, W, 3) in [-1, 1] → (N,): larger means more distorted. About 26,000 weights."""
    image = features = keras.Input((None, None, 3))
    for filters in (16, 32, 48):
        features = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(features)
    level = keras.layers.GlobalAveragePooling2D()(features)
    spread = keras.layers.GlobalAveragePooling2D()(keras.layers.Multiply()([features, features]))
    joined = keras.layers.Concatenate()([level, spread])
    hidden = keras.layers.Dense(48, activation="relu")(joined)
    return keras.Model(image, keras.layers.Flatten()(keras.layers.Dense(1)(hidden))[:, 0])


def train_scorer(material: Material, *, steps: int, batch_size: int, crop_px: int, seed: int) -> keras.Model:
    """Return a scorer trained to order the SCALES of the tiles' residuals, with a logistic loss on differences."""
    keras.utils.set_random_seed(seed)
    scorer = build_scorer()
    optimiser = keras.optimizers.Adam(RATE)

    @tf.function  # type: ignore[untyped-decorator]
    def step(crops: Any) -> Any:
        with tf.GradientTape() as tape:
            scores = tf.reshape(scorer(crops, training=True), (len(SCALES), batch_size))
            loss = tf.reduce_mean(
                tf.stack([tf.nn.softplus(scores[low] - scores[high]) for low, high in ((0, 1), (1, 2), (0, 2))])
            )
        optimiser.apply(tape.gradient(loss, scorer.trainable_variables), scorer.trainable_variables)
        return loss

    for crops in _crops(material, steps=steps, batch_size=batch_size, crop_px=crop_px, seed=seed):
        step(crops)
    return scorer


def _crops(
    material: Material, *, steps: int, batch_size: int, crop_px: int, seed: int
) -> Iterator[NDArray[np.float32]]:
    """Yield (SCALES · batch_size, crop_px, crop_px, 3): the same random crops at each scale."""
    rng = make_rng(derive_seed(seed, "crops"))
    side = material.pristine.shape[1]
    for _ in range(steps):
        tiles = rng.integers(len(material.pristine), size=batch_size)
        corners = rng.integers(side - crop_px + 1, size=(batch_size, 2))
        clean, distorted = (
            np.stack([pixels[n, y : y + crop_px, x : x + crop_px] for n, (y, x) in zip(tiles, corners, strict=True)])
            for pixels in (material.pristine, material.distorted)
        )
        residual = distorted.astype(np.float32) - clean
        # rounded to 8 bits, so that fractions do not reveal the scale
        yield normalize(np.concatenate([to_uint8(clean + scale * residual) for scale in SCALES]))


def validation_images(manifest: Path) -> list[tuple[ImageRecord, Image]]:
    """Return the full validation photographs of a manifest."""
    listed = read_manifest(manifest)
    return [(record, read_ingested(listed.root, record)) for record in listed.records if record.split == "val"]


def severity_correlation(
    scorer: keras.Model, images: Sequence[tuple[ImageRecord, Image]], distortions: Sequence[str], seed: int
) -> Mapping[str, float]:
    """Return SRCC between scores and levels (0: pristine) of truly distorted photographs, by distortion."""
    correlations = {}
    for name in distortions:
        levels, scores = [], []
        for record, image in images:
            for level, parameters in enumerate(({}, *PRESETS[TEST_PRESETS[name]][name])):
                rng = make_rng(derive_seed(seed, record.image_digest, name, level))
                distorted = apply(name, image, parameters, rng).image if level else image
                levels.append(level)
                scores.append(float(np.asarray(scorer(normalize(_centre(distorted))[None]))[0]))
        correlations[name] = float(spearmanr(levels, scores).statistic)
    return correlations


def _centre(image: Image) -> Image:
    y, x = (max(side - TEST_PX, 0) // 2 for side in image.shape[:2])
    return image[y : y + TEST_PX, x : x + TEST_PX]
