"""A corpus as a map-style PyTorch dataset, for a DataLoader with any number of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.records import SampleRecord
from distort_pipeline.seeds import derive_seed, make_rng
from distort_pipeline.stores.corpora import CorpusStore, require_computed

try:
    import torch
    from torch.utils.data import Dataset, Sampler
except ImportError as error:
    from distort_pipeline.errors import PipelineError

    raise PipelineError("to_torch() needs PyTorch: pip install 'distort-pipeline[torch]'") from error

Item = dict[str, Any]


class TorchCorpus(Dataset):  # type: ignore[misc]
    """Samples of a corpus as dictionaries: `pristine` and `distorted`, (3, H, W) uint8 tensors, and labels.

    Labels are `sample` (its index in the corpus), `distortion`, `image`, and `labels` as floats, NaN where there is
    none; `default_collate` stacks all of them. `distortions`, `splits` and `levels` choose samples, none named: all.
    `transform` gets each dictionary and gives what the dataset gives. Whole images differ in size: with these,
    `batch_size=None` or a `collate_fn` of one's own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        distortions: Sequence[str] = (),
        splits: Sequence[str] = (),
        levels: Sequence[int] = (),
        labels: Sequence[str] = ("psnr", "ssim"),
        codec_prior: Callable[[Item], Any] | None = None,
    ) -> None:
        require_computed(labels)
        self.folder, self.labels, self.codec_prior = folder, tuple(labels), codec_prior
        self.places = CorpusStore(folder).select(distortions, splits, levels)
        self._opened: tuple[int, CorpusStore] | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        sample = self.corpus[int(self.places[index])]
        return self._item(sample.pristine, sample.distorted, sample.record)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several samples, each chunk of pixels read once: what a DataLoader asks for when it makes a batch."""
        if self.corpus.whole_images:
            return [self[index] for index in indices]
        some = self.corpus.take([int(self.places[index]) for index in indices])
        return [self._item(*parts) for parts in zip(some.pristine, some.distorted, some.records, strict=True)]

    def chunk_batches(self, batch_size: int, *, seed: int = 0) -> ChunkBatches:
        """Return batches for `DataLoader(batch_sampler=…)` that are shuffled and yet read few chunks each."""
        return ChunkBatches(self, batch_size, seed)

    @property
    def corpus(self) -> CorpusStore:
        """The corpus, opened once in each process: Zarr's reader threads do not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), CorpusStore(self.folder))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _item(self, pristine: Any, distorted: Any, record: SampleRecord) -> Any:
        pixels = (torch.from_numpy(np.ascontiguousarray(part.transpose(2, 0, 1))) for part in (pristine, distorted))
        found = dict(zip(("pristine", "distorted"), pixels, strict=True))
        item = {**found, "sample": record.sample, "distortion": record.distortion, "image": record.image}
        for name in self.labels:
            value = getattr(record, name)
            item[name] = float("nan") if value is None else float(value)
        return item if self.codec_prior is None else self.codec_prior(item)


class ChunkBatches(Sampler):  # type: ignore[misc]
    """Lists of indices in another order in each epoch, in which samples of one chunk stay together.

    So a chunk is decompressed for one batch or two, not for each of its samples. Neighbours in a chunk are often of one
    photograph: where that matters more than speed, use `DataLoader(shuffle=True)`.
    """

    def __init__(self, dataset: TorchCorpus, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        chunks = dataset.corpus.chunk_of(dataset.places)
        self._groups = np.split(np.arange(len(dataset)), np.flatnonzero(np.diff(chunks)) + 1)

    def __len__(self) -> int:
        return -(-sum(map(len, self._groups)) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the next epoch; the last one may be smaller."""
        rng = make_rng(derive_seed(self.seed, "epoch", self.epoch))
        self.epoch += 1
        order = np.concatenate([rng.permutation(self._groups[turn]) for turn in rng.permutation(len(self._groups))])
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()
