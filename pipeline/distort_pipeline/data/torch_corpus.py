"""A corpus as a map-style PyTorch dataset, for a DataLoader with any number of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distort_pipeline.data.corpora import CorpusStore, require_computed
from distort_pipeline.records import SampleRecord, derive_seed, make_rng

try:
    import torch
    from torch.utils.data import Dataset, Sampler
except ImportError as error:
    from distort_pipeline.errors import PipelineError

    raise PipelineError("to_torch() needs PyTorch: pip install '.[torch]' in a clone of distort-pipeline") from error

Item = dict[str, Any]


class TorchCorpus(Dataset):  # type: ignore[misc]
    """Samples of a corpus as dictionaries: `pristine` and `distorted`, (3, H, W) uint8 tensors, and labels.

    Labels are `sample` (the index in the corpus), `distortion`, `image`, and `labels` as floats, NaN if missing;
    `default_collate` stacks all of them. `distortions`, `splits` and `levels` select samples, all by default.
    `transform` maps each dictionary to an item of the dataset. Whole images differ in size: use `batch_size=None` or a
    `collate_fn`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        distortions: Sequence[str] = (),
        splits: Sequence[str] = (),
        levels: Sequence[int] = (),
        labels: Sequence[str] = ("psnr", "ssim"),
        transform: Callable[[Item], Any] | None = None,
    ) -> None:
        require_computed(labels)
        self.folder, self.labels, self.transform = folder.resolve(), tuple(labels), transform
        self.indices = CorpusStore(self.folder).select(distortions, splits, levels)
        self._opened: tuple[int, CorpusStore] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        """Return one sample."""
        sample = self.corpus[int(self.indices[index])]
        return self._item(sample.pristine, sample.distorted, sample.record)

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return several samples, reading each chunk of pixels once; called by DataLoader for each batch."""
        if self.corpus.whole_images:
            return [self[index] for index in indices]
        samples = self.corpus.take([int(self.indices[index]) for index in indices])
        return [
            self._item(*sample) for sample in zip(samples.pristine, samples.distorted, samples.records, strict=True)
        ]

    def chunk_batches(self, batch_size: int, *, seed: int = 0) -> ChunkBatches:
        """Return shuffled batches for `DataLoader(batch_sampler=…)`, each of few chunks."""
        return ChunkBatches(self, batch_size, seed)

    @property
    def corpus(self) -> CorpusStore:
        """The corpus, opened once in each process, as Zarr's reader threads do not survive a fork."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), CorpusStore(self.folder))
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def _item(self, pristine: Any, distorted: Any, record: SampleRecord) -> Any:
        pixels = (torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))) for image in (pristine, distorted))
        images = dict(zip(("pristine", "distorted"), pixels, strict=True))
        item = {**images, "sample": record.sample, "distortion": record.distortion, "image": record.image}
        for name in self.labels:
            value = getattr(record, name)
            item[name] = float("nan") if value is None else float(value)
        return item if self.transform is None else self.transform(item)


class ChunkBatches(Sampler):  # type: ignore[misc]
    """Batches of indices, shuffled in each epoch by chunks: samples of a chunk stay together.

    Each chunk is decompressed for one or two batches, not for each sample. Neighbours in a chunk are often of the same
    photograph: if this matters more than speed, use `DataLoader(shuffle=True)`.
    """

    def __init__(self, dataset: TorchCorpus, batch_size: int, seed: int) -> None:
        self.batch_size, self.seed, self.epoch = batch_size, seed, 0
        chunks = dataset.corpus.chunk_of(dataset.indices)
        self._groups = np.split(np.arange(len(dataset)), np.flatnonzero(np.diff(chunks)) + 1)

    def __len__(self) -> int:
        return -(-sum(map(len, self._groups)) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the next epoch; the last may be smaller."""
        rng = make_rng(derive_seed(self.seed, "epoch", self.epoch))
        self.epoch += 1
        order = np.concatenate([rng.permutation(self._groups[number]) for number in rng.permutation(len(self._groups))])
        for start in range(0, len(order), self.batch_size):
            yield order[start : start + self.batch_size].tolist()
