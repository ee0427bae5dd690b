"""A corpus as a map-style PyTorch dataset, for a DataLoader with any number of workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.corpora import CorpusStore, require_computed
from distort_pipeline.records import SampleRecord, derive_seed, make_rng

try:
    import torch
    from torch.utils.data import Dataset
except ImportError as error:
    from distort_pipeline.errors import PipelineError

    raise PipelineError("to_torch() needs PyTorch: pip install '.[torch]' in a clone of distort-pipeline") from error

Item = dict[str, "torch.Tensor | int | float | str"]


class TorchCorpus(Dataset):  # type: ignore[misc]
    """Samples of a corpus as dictionaries: `pristine` and `distorted`, (3, H, W) uint8 tensors, and labels.

    Labels are `sample` (the index in the corpus), `distortion`, `image`, and `labels` as floats, NaN if missing;
    `default_collate` stacks all of them. `distortions`, `splits` and `levels` select samples, all by default.
    `transform` maps each dictionary to an item of the dataset. Whole images differ in size: use `batch_size=None` or a
    `collate_fn`.

    The order is shuffled by chunks: chunks of neighbouring samples in random order, and the samples of each chunk. So
    `DataLoader(dataset, batch_size=32)` decompresses each chunk once or twice; `DataLoader(shuffle=True)` shuffles
    finer, and decompresses a chunk for each sample. `set_epoch` gives the next order; with `shuffle_seed=None` the
    order is the corpus's. Neighbours in a chunk are often of the same photograph.
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
        shuffle_seed: int | None = 0,
    ) -> None:
        require_computed(labels)
        self.folder, self.labels, self.transform = folder.resolve(), tuple(labels), transform
        self.shuffle_seed = shuffle_seed
        corpus = CorpusStore(self.folder)
        self._selected = corpus.select(distortions, splits, levels)
        self._chunks = np.split(np.arange(len(self)), np.flatnonzero(np.diff(corpus.chunk_of(self._selected))) + 1)
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that outlive an epoch
        self._order: tuple[int, NDArray[np.int64]] | None = None
        self._opened: tuple[int, CorpusStore] | None = None

    def __len__(self) -> int:
        return len(self._selected)

    def __repr__(self) -> str:
        order = "in the corpus's order"
        if self.shuffle_seed is not None:
            order = f"{len(self._chunks)} chunks shuffled with seed {self.shuffle_seed}, epoch {self._epoch.item()}"
        return f"<TorchCorpus {self.folder}: {len(self)} samples, {order}>"

    def set_epoch(self, epoch: int) -> None:
        """Shuffle anew, between two epochs: the order depends on `shuffle_seed` and `epoch` alone."""
        self._epoch.fill_(epoch)

    @property
    def indices(self) -> NDArray[np.int64]:
        """The index in the corpus of each sample, in the order of this epoch."""
        if self.shuffle_seed is None:
            return self._selected
        epoch = int(self._epoch.item())
        if self._order is None or self._order[0] != epoch:
            rng = make_rng(derive_seed(self.shuffle_seed, "epoch", epoch))
            chunks = [rng.permutation(self._chunks[number]) for number in rng.permutation(len(self._chunks))]
            self._order = epoch, self._selected[np.concatenate(chunks)]
        return self._order[1]

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
