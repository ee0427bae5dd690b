"""A small no-reference model learns to rank, and is asked how bad truly distorted photographs are."""

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

from distort_pipeline.distortions import apply
from distort_pipeline.distortions.presets import PRESETS
from distort_pipeline.pixels import Image, Images, normalize, to_uint8
from distort_pipeline.records import ImageRecord
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.stores.corpora import CorpusStore
from distort_pipeline.stores.ingested import read_ingested
from distort_pipeline.stores.manifests import read_manifest

SCALES = (0.0, 0.5, 1.0)  # pristine, half of what the distortion changed, all of it: what the model learns to order
TEST_PRESETS = {"jpeg": "waterloo", "jp2k": "waterloo", "white_noise": "waterloo", "pink_noise": "dbcnn"}
TEST_PX = 384  # of a test photograph, its middle
RATE = 1e-3


@dataclass(frozen=True)
class Material:
    """What one model is trained on: tiles (N, H, W, 3), pristine and distorted."""

    pristine: Images
    distorted: Images


def generated_material(corpus: CorpusStore, places: NDArray[np.int64]) -> Material:
    """Return the samples at `places` as the generators made them."""
    some = corpus.take(places.tolist())
    return Material(some.pristine, some.distorted)


def true_material(corpus: CorpusStore, places: NDArray[np.int64], manifest: Path, seed: int) -> Material:
    """Return the same tiles under the true distortions that the generators learned, made on the full photographs."""
    some = corpus.take(places.tolist())
    listed = read_manifest(manifest)
    images = {record.id: record for record in listed.records}
    whole: dict[tuple[str, str, int], Image] = {}
    true = np.empty_like(some.distorted)
    for place, record in enumerate(some.records):
        key = (record.image, record.distortion, record.level)
        if key not in whole:
            parameters = json.loads(record.parameters)
            rng = make_rng(derive_seed(seed, *key))
            pristine = read_ingested(listed.root, images[record.image])
            whole[key] = apply(record.distortion, pristine, parameters, rng).image
        true[place] = whole[key][record.y : record.y + record.height, record.x : record.x + record.width]
    return Material(some.pristine, true)


def spread_places(corpus: CorpusStore, per_distortion: int) -> NDArray[np.int64]:
    """Return the places of `per_distortion` training samples of each distortion, spread over the corpus."""
    own = [corpus.select([name], ["train"]) for name in corpus.distortions]
    return np.concatenate([one[np.unique(np.linspace(0, len(one) - 1, per_distortion).astype(int))] for one in own])


def build_scorer() -> keras.Model:
    """Return a model x (N, H, W, 3) in [-1, 1] → (N,): the larger, the more distorted. About 26,000 weights."""
    image = features = keras.Input((None, None, 3))
    for filters in (16, 32, 48):
        features = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(features)
    level = keras.layers.GlobalAveragePooling2D()(features)
    spread = keras.layers.GlobalAveragePooling2D()(keras.layers.Multiply()([features, features]))
    joined = keras.layers.Concatenate()([level, spread])
    hidden = keras.layers.Dense(48, activation="relu")(joined)
    return keras.Model(image, keras.layers.Flatten()(keras.layers.Dense(1)(hidden))[:, 0])


def train_scorer(material: Material, *, steps: int, batch: int, crop_px: int, seed: int) -> keras.Model:
    """Return a scorer that has learned to order the DIALS of the tiles' distortions, a logistic loss on differences."""
    keras.utils.set_random_seed(seed)
    scorer = build_scorer()
    optimiser = keras.optimizers.Adam(RATE)

    @tf.function  # type: ignore[untyped-decorator]
    def step(crops: Any) -> Any:
        with tf.GradientTape() as tape:
            scores = tf.reshape(scorer(crops, training=True), (len(SCALES), batch))
            loss = tf.reduce_mean(
                tf.stack([tf.nn.softplus(scores[low] - scores[high]) for low, high in ((0, 1), (1, 2), (0, 2))])
            )
        optimiser.apply(tape.gradient(loss, scorer.trainable_variables), scorer.trainable_variables)
        return loss

    for crops in _crops(material, steps=steps, batch=batch, crop_px=crop_px, seed=seed):
        step(crops)
    return scorer


def _crops(material: Material, *, steps: int, batch: int, crop_px: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """Yield (DIALS · batch, crop_px, crop_px, 3): random crops at the first dial, then the same ones at the next."""
    rng = make_rng(derive_seed(seed, "crops"))
    side = material.pristine.shape[1]
    for _ in range(steps):
        tiles = rng.integers(len(material.pristine), size=batch)
        corners = rng.integers(side - crop_px + 1, size=(batch, 2))
        clean, bad = (
            np.stack([part[n, y : y + crop_px, x : x + crop_px] for n, (y, x) in zip(tiles, corners, strict=True)])
            for part in (material.pristine, material.distorted)
        )
        change = bad.astype(np.float32) - clean
        # rounded to 8 bits, or a dial could be told by its fractions
        yield normalize(np.concatenate([to_uint8(clean + dial * change) for dial in SCALES]))


def validation_photographs(manifest: Path) -> list[tuple[ImageRecord, Image]]:
    """Return the validation photographs of a manifest, whole."""
    listed = read_manifest(manifest)
    return [(record, read_ingested(listed.root, record)) for record in listed.records if record.split == "val"]


def severity_correlation(
    scorer: keras.Model, photographs: Sequence[tuple[ImageRecord, Image]], distortions: Sequence[str], seed: int
) -> Mapping[str, float]:
    """Return SROCC between scores and levels (0: pristine) of truly distorted photographs, by distortion."""
    found = {}
    for name in distortions:
        levels, scores = [], []
        for record, photograph in photographs:
            for level, parameters in enumerate(({}, *PRESETS[TEST_PRESETS[name]][name])):
                rng = make_rng(derive_seed(seed, record.image_digest, name, level))
                shown = apply(name, photograph, parameters, rng).image if level else photograph
                levels.append(level)
                scores.append(float(np.asarray(scorer(normalize(_middle(shown))[None]))[0]))
        found[name] = float(spearmanr(levels, scores).statistic)
    return found


def _middle(image: Image) -> Image:
    y, x = (max(side - TEST_PX, 0) // 2 for side in image.shape[:2])
    return image[y : y + TEST_PX, x : x + TEST_PX]
