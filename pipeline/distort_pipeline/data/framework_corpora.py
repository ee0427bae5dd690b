"""A corpus as a `tf.data.Dataset`; and as an `xarray.Dataset`: records as coordinates, pixels as lazy arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.corpora import PRISTINE, CorpusStore, consecutive, distorted_array, require_computed
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import derive_seed, make_rng

if TYPE_CHECKING:
    import xarray

DIMENSIONS = ("sample", "y", "x", "channel")
PIXEL = np.dtype(np.uint8)


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
    import tensorflow as tf

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


def xarray_corpus(corpus: CorpusStore) -> xarray.Dataset:
    """Return `pristine` and `distorted` (sample, y, x, channel) uint8, with all columns of the records as coordinates.

    Pixels are Dask arrays with the chunks of the store: a selection reads the chunks around.
    """
    try:
        import xarray
    except ImportError as error:
        raise PipelineError(
            "to_xarray() needs xarray: pip install '.[xarray]' in a clone of distort-pipeline"
        ) from error
    import dask.array as da

    if corpus.whole_images:
        raise PipelineError(f"{corpus.folder} holds whole images of different sizes; read them one by one")
    table = corpus.table()
    tiles = table["tile"].to_numpy()
    pristine = _lazy(corpus, PRISTINE)
    runs = [pristine[tiles[start] : tiles[stop - 1] + 1] for start, stop in consecutive(tiles.tolist())]
    lazy = {name: _lazy(corpus, distorted_array(name)) for name in corpus.conditions}
    distorted = [lazy[name][slots] for name, slots in corpus.slots()]
    columns = {name: ("sample", table[name].to_numpy()) for name in table.column_names}
    return xarray.Dataset(
        {"pristine": (DIMENSIONS, da.concatenate(runs)), "distorted": (DIMENSIONS, da.concatenate(distorted))},
        coords={**columns, "channel": ["red", "green", "blue"]},
        attrs={"corpus_digest": corpus.metadata.digest, "licences": ", ".join(corpus.metadata.licences)},
    )


def _lazy(corpus: CorpusStore, name: str) -> Any:
    """Return an array of the corpus as a Dask array with the chunks of the store."""
    import dask.array as da

    array = corpus.array(name)
    source = _Stored(corpus.folder, name, array.shape)
    token = f"{name}-{corpus.metadata.digest[:16]}"
    return da.from_array(
        source, chunks=array.chunks, name=token, asarray=False, meta=np.empty((0,) * len(DIMENSIONS), PIXEL)
    )


@dataclass(frozen=True)
class _Stored:
    """An array of a corpus, read with the corpus's checks in any process."""

    folder: Path
    name: str
    shape: tuple[int, ...]
    dtype: Any = PIXEL
    ndim: int = len(DIMENSIONS)

    def __getitem__(self, selection: tuple[slice, ...]) -> NDArray[np.uint8]:
        rows, *rest = selection
        return (
            _opened(self.folder).tile_array(self.name).read(range(*rows.indices(self.shape[0])))[(slice(None), *rest)]
        )


@lru_cache(maxsize=4)
def _opened(folder: Path) -> CorpusStore:
    return CorpusStore(folder)
