"""A corpus as an `xarray.Dataset`: records as coordinates, pixels as lazy arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.corpora import PRISTINE, CorpusStore, consecutive, distorted_array
from distort_pipeline.errors import PipelineError

try:
    import xarray
except ImportError as error:
    raise PipelineError("to_xarray() needs xarray: pip install '.[xarray]' in a clone of distort-pipeline") from error

DIMENSIONS = ("sample", "y", "x", "channel")
PIXEL = np.dtype(np.uint8)


def xarray_corpus(corpus: CorpusStore) -> xarray.Dataset:
    """Return `pristine` and `distorted` (sample, y, x, channel) uint8, with all columns of the records as coordinates.

    Pixels are Dask arrays with the chunks of the store: a selection reads the chunks around.
    """
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
