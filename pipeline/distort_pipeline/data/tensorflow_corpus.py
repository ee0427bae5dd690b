"""A corpus as a `tf.data.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from distort_pipeline.data.corpora import CorpusStore, require_computed
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import derive_seed, make_rng


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

    Labels are float32, NaN if missing. Without `shuffle_seed`, samples are in the corpus's order. Otherwise chunks of
    neighbouring samples are shuffled in each epoch; follow with `.shuffle(n)` for a finer shuffle.
    """
    if corpus.whole_images:
        raise PipelineError(f"{corpus.folder} holds whole images of different sizes; read them one by one")
    require_computed(labels)
    indices = corpus.select(distortions, splits, levels)
    groups = np.split(indices, np.flatnonzero(np.diff(corpus.chunk_of(indices))) + 1)
    epoch = iter(range(2**31))

    def chunks() -> Iterator[dict[str, NDArray[Any]]]:
        order: Any = range(len(groups))
        if shuffle_seed is not None:
            order = make_rng(derive_seed(shuffle_seed, "epoch", next(epoch))).permutation(len(groups))
        for number in order:
            samples = corpus.take(groups[number].tolist())
            yield {
                "pristine": samples.pristine,
                "distorted": samples.distorted,
                "sample": np.array([record.sample for record in samples.records], np.int64),
                "distortion": np.array([record.distortion for record in samples.records], object),
                **{
                    name: np.array([getattr(record, name) for record in samples.records], np.float32) for name in labels
                },
            }

    side = corpus.metadata.tile_px
    pixels = tf.TensorSpec((None, side, side, 3), tf.uint8)
    signature = {
        "pristine": pixels,
        "distorted": pixels,
        "sample": tf.TensorSpec((None,), tf.int64),
        "distortion": tf.TensorSpec((None,), tf.string),
        **{name: tf.TensorSpec((None,), tf.float32) for name in labels},
    }
    dataset = tf.data.Dataset.from_generator(chunks, output_signature=signature).prefetch(2).unbatch()
    return dataset.apply(tf.data.experimental.assert_cardinality(len(indices)))
