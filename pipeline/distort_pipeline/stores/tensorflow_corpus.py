"""A corpus as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from distort_pipeline.errors import PipelineError
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.stores.corpora import CorpusStore, require_computed


def tensorflow_corpus(
    corpus: CorpusStore,
    *,
    distortions: Sequence[str] = (),
    splits: Sequence[str] = (),
    levels: Sequence[int] = (),
    labels: Sequence[str] = ("psnr", "ssim"),
    shuffle_seed: int | None = None,
) -> Any:
    """Return a dataset of dictionaries: `pristine` and `distorted` (H, W, 3) uint8, `sample`, `distortion`, `labels`.

    Labels are float32, NaN where there is none. Without `shuffle_seed` samples come in the corpus's order. With it,
    chunks of neighbouring samples come in another order in each epoch; `.shuffle(n)` behind it mixes them further.
    """
    if corpus.whole_images:
        raise PipelineError(f"{corpus.folder} holds whole images of different sizes; read them one by one")
    require_computed(labels)
    places = corpus.select(distortions, splits, levels)
    groups = np.split(places, np.flatnonzero(np.diff(corpus.chunk_of(places))) + 1)
    epoch = iter(range(2**31))

    def chunks() -> Iterator[dict[str, Any]]:
        order: Any = range(len(groups))
        if shuffle_seed is not None:
            order = make_rng(derive_seed(shuffle_seed, "epoch", next(epoch))).permutation(len(groups))
        for turn in order:
            some = corpus.take(groups[turn].tolist())
            yield {
                "pristine": some.pristine,
                "distorted": some.distorted,
                "sample": np.array([record.sample for record in some.records], np.int64),
                "distortion": np.array([record.distortion for record in some.records], object),
                **{name: np.array([getattr(record, name) for record in some.records], np.float32) for name in labels},
            }

    side = corpus.metadata["tile_px"]
    pixels = tf.TensorSpec((None, side, side, 3), tf.uint8)
    signature = {
        "pristine": pixels,
        "distorted": pixels,
        "sample": tf.TensorSpec((None,), tf.int64),
        "distortion": tf.TensorSpec((None,), tf.string),
        **{name: tf.TensorSpec((None,), tf.float32) for name in labels},
    }
    dataset = tf.data.Dataset.from_generator(chunks, output_signature=signature).prefetch(2).unbatch()
    return dataset.apply(tf.data.experimental.assert_cardinality(len(places)))
