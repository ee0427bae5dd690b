"""The pixels of a corpus while it is made, and its truth.

Arrays are created, reference tiles read, and samples written. The truth are statistics of the true distortions, and
pixels of a few examples, one file for each shard: batches of fixed severity share the file of their shard of reference
tiles; a batch of varying severity, or of a composite, has a file of its own.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.data.arrays import (
    PixelDigest,
    TileArray,
    create_group,
    create_samples,
    open_group,
    pixel_digest,
    read_image,
    write_image,
    write_shard,
    write_table,
)
from distort_pipeline.data.conditions import Tiles
from distort_pipeline.data.corpora import PRISTINE, distorted_array, files_of, image_array
from distort_pipeline.data.corpus_metadata import ConditionMetadata, CorpusMetadata, ModelMetadata
from distort_pipeline.data.files import arrays_digest, write_bytes
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.manifests import Manifest, read_manifest
from distort_pipeline.data.plans import CorpusPlan, PlannedSample
from distort_pipeline.data.sources import read_ingested
from distort_pipeline.distortions import EXACTLY, apply, codec_versions
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.acceptance import TileStatistics
from distort_pipeline.metrics.jsd_nss import JSD_NSS_ROW
from distort_pipeline.records import Image, ImageRecord, Images, SampleRecord, derive_seed, digest_rows, make_rng

if TYPE_CHECKING:
    from distort_pipeline.data.pairs import PairStore
    from distort_pipeline.networks.wavelets import Significances


def create_arrays(work: Path, plan: CorpusPlan, *, tile_px: int | None, per_shard: int, per_chunk: int) -> None:
    """Create the arrays of all tiles of a corpus unless present; none for whole images, whose `tile_px` is None."""
    group = create_group(work)
    if tile_px is None:
        return
    slots = {distorted_array(batch.condition.name): batch.samples[-1].slot + 1 for batch in plan.batches}
    for name, count in {PRISTINE: plan.tiles[-1].number + 1, **slots}.items():
        create_samples(group, name, slots=count, tile_px=tile_px, per_shard=per_shard, per_chunk=per_chunk)


class StoredTiles:
    """The pristine tiles of a batch, read from the corpus group by group; a whole image is a group of its own."""

    def __init__(
        self,
        work: Path,
        samples: Sequence[PlannedSample],
        *,
        group_size: int,
        significances: Significances | None,
        whole_images: bool,
    ) -> None:
        self._work, self._samples, self._group_size, self._significances = work, samples, group_size, significances
        self._tiles = None if whole_images else TileArray(work, open_group(work)[PRISTINE])

    def __iter__(self) -> Iterator[Tiles]:
        for first in range(0, len(self._samples), self._group_size):
            samples = self._samples[first : first + self._group_size]
            yield Tiles(
                self._read([sample.tile.number for sample in samples]),
                [sample.seed for sample in samples],
                [sample.requested for sample in samples],
                None if self._significances is None else self._significances[first : first + len(samples)],
            )

    def _read(self, numbers: Sequence[int]) -> Images:
        if self._tiles is None:
            return np.stack([read_image(self._work, image_array(PRISTINE, number)) for number in numbers])
        return self._tiles.read(numbers)


class ShardWriter:
    """Writes a shard of a corpus: consecutive slots of a column of pixels, their records, and the ledger's entry.

    Whole images are written one by one, tiles as one file at the end.
    """

    def __init__(self, work: Path, name: str, column: str, slots: Sequence[int], *, whole_images: bool) -> None:
        self.work, self.name = work, name
        self._column, self._slots, self._whole_images = column, slots, whole_images
        self._written, self._digest = 0, PixelDigest()
        self._tiles: list[Image] = []

    def add(self, image: Image) -> str:
        """Add the pixels of the next slot; return their digest."""
        self._digest.add(image)
        if self._whole_images:
            write_image(self.work, image_array(self._column, self._slots[self._written]), image)
        else:
            self._tiles.append(image)
        self._written += 1
        return pixel_digest([image])

    def finish(self, records: Sequence[Any], files: Sequence[Path], **fields: object) -> LedgerEntry:
        """Write the rest, then the entry of the ledger, with these further `files` and `fields`; return the entry."""
        if self._tiles:
            write_shard(self.work, open_group(self.work)[self._column], (self._slots[0],), np.stack(self._tiles))
        table = self.work / "records" / f"{self.name}.parquet"
        write_table(table, records, type(records[0]))
        pixels = files_of(self.work, self._column, self._slots, whole_images=self._whole_images)
        digests = {"pixels": self._digest.hexdigest(), "records": digest_rows(records)}
        return Ledger(self.work).note(self.name, {**digests, **fields}, [*pixels, table, *files])


TRUTHS_IN_MEMORY = 4  # batches of several levels read the same one after another
EXAMPLE_PX = 256  # side of the central crop of a whole image


@dataclass(frozen=True)
class Truth:
    """Statistics of the true distortions of one shard of reference tiles, or of samples of one batch.

    `pristine` (n, 103) are the JSD_NSS histograms of all tiles (empty for a batch). `rows` (m,) are the indices, of
    tiles in the shard or samples in the batch, with true distortions: by distortion, histograms of the NSS features
    (m, 12, 103) and `statistics` of each tile; `redrawn`, the same of a second draw of random distortions.
    `example_rows` (e,) and `examples` by distortion are pixels for side-by-sides. `significances` (n, 18) are of the
    tiles' whole images, see `networks/wavelets.py`; None if unused.
    """

    first_tile: int
    pristine: NDArray[np.int64]
    rows: NDArray[np.int64]
    histograms: Mapping[str, NDArray[np.int64]]
    statistics: Mapping[str, TileStatistics]
    redrawn: Mapping[str, TileStatistics]
    example_rows: NDArray[np.int64]
    examples: Mapping[str, NDArray[np.uint8]]
    significances: Significances | None

    def jsd_nss(self, distortion: str) -> NDArray[np.int64]:
        """Return the histograms of JSD_NSS of a distortion, (m, 103)."""
        return self.histograms[distortion][:, JSD_NSS_ROW].astype(np.int64)


def write_truth_arrays(work: Path, name: str, arrays: Mapping[str, NDArray[Any]]) -> tuple[Path, str]:
    """Write the named arrays of the truth file of the shard or batch `name`; return the file and their digest."""
    buffer = io.BytesIO()
    save: Any = np.savez_compressed  # the stub mistakes the arrays for options
    save(buffer, **arrays)
    path = _truth_path(work, name)
    write_bytes(path, buffer.getvalue())
    return path, arrays_digest(arrays)


def read_truth(work: Path, name: str) -> Truth:
    """Return the truth of the shard of reference tiles, or of the batch, called `name`; the last ones are kept."""
    path = _truth_path(work, name)
    try:
        found = path.stat()
    except OSError:
        return truth_of(read_truth_arrays(work, name))  # which says what is wrong
    return _read_truth(work, name, (found.st_ino, found.st_mtime_ns, found.st_size))


@lru_cache(maxsize=TRUTHS_IN_MEMORY)
def _read_truth(work: Path, name: str, version: tuple[int, ...]) -> Truth:  # noqa: ARG001
    return truth_of(read_truth_arrays(work, name))


def truth_of(arrays: Mapping[str, NDArray[Any]]) -> Truth:
    """Return the truth in the named arrays of a truth file."""

    def by_distortion(kind: str) -> dict[str, NDArray[Any]]:
        return {name.split("/", 1)[1]: array for name, array in arrays.items() if name.startswith(f"{kind}/")}

    def tile_statistics(kind: str, histograms: str) -> dict[str, TileStatistics]:
        stored = by_distortion(kind)
        return {name: TileStatistics(values, arrays[f"{histograms}/{name}"]) for name, values in stored.items()}

    return Truth(
        int(arrays["first_tile"]),
        arrays["pristine"],
        arrays["rows"],
        by_distortion("histogram"),
        tile_statistics("statistics", "histogram"),
        tile_statistics("redrawn_statistics", "redrawn_histogram"),
        arrays["example_rows"],
        by_distortion("example"),
        arrays.get("significances"),
    )


def read_truth_arrays(work: Path, name: str) -> dict[str, NDArray[Any]]:
    """Return the named arrays of the truth file of a shard or batch; PipelineError if missing or damaged."""
    path = _truth_path(work, name)
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored)
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise PipelineError(f"{path} is missing or damaged: {error}") from None


def middle(image: Image) -> Image:
    """Return the central crop of an image, EXAMPLE_PX on both sides, padded with mid-grey."""
    height, width = image.shape[:2]
    y, x = max(height - EXAMPLE_PX, 0) // 2, max(width - EXAMPLE_PX, 0) // 2
    crop = image[y : y + EXAMPLE_PX, x : x + EXAMPLE_PX]
    if crop.shape[:2] == (EXAMPLE_PX, EXAMPLE_PX):
        return crop
    padded = np.full((EXAMPLE_PX, EXAMPLE_PX, 3), 128, np.uint8)
    padded[: crop.shape[0], : crop.shape[1]] = crop
    return padded


def _truth_path(work: Path, name: str) -> Path:
    return work / "truth" / f"{name}.npz"


IMAGES_IN_MEMORY = 4  # truly distorted: consecutive samples are of one image
Step = tuple[str, str, int]  # distortion, JSON of its parameters, seed


@dataclass(frozen=True)
class TrueSamples:
    """Makes the true distortions of the samples of a corpus."""

    metadata: CorpusMetadata
    root: Path  # of the images
    images: dict[str, ImageRecord]  # by id
    pairs: PairStore | None = None  # with the validation pairs of external distortions

    @classmethod
    def open(cls, metadata: CorpusMetadata, manifest_path: Path, pairs_path: Path | None = None) -> TrueSamples:
        """Return the true samples of a corpus.

        PipelineError for another manifest, pairs of other images, or other codecs than its own.
        """
        from distort_pipeline.data.pairs import open_pairs

        manifest: Manifest = read_manifest(manifest_path)
        if manifest.digest != metadata.manifest_digest:
            raise PipelineError(f"{manifest_path} is not the manifest of the corpus: its digest differs")
        used = codec_versions(model.distortion for model in metadata.models.values() if not model.external)
        others = {name: version for name, version in used.items() if metadata.codecs.get(name) != version}
        if others:
            named = ", ".join(f"{name} {metadata.codecs.get(name)} (here {other})" for name, other in others.items())
            raise PipelineError(f"the corpus was made with {named}: its true distortions need the same versions")
        pairs = None if pairs_path is None else open_pairs(pairs_path)
        if pairs is not None and pairs.metadata.manifest_digest != manifest.digest:
            raise PipelineError(f"{pairs_path} is not of the images of the corpus: the digest of its manifest differs")
        return cls(metadata, manifest.root, {image.id: image for image in manifest.records}, pairs)

    def true(self, record: SampleRecord, condition: ConditionMetadata) -> Image:
        """Return the true distortion of a sample; PipelineError without one, or if its image changed since ingest."""
        model = self.metadata.models[condition.models[0]]
        if model.external and len(condition.models) == 1:
            return self._partner(record, model)
        image = _distorted(self.root, self.images[record.image], self._steps(record, condition))
        return image[record.y : record.y + record.height, record.x : record.x + record.width].copy()

    def _partner(self, record: SampleRecord, model: ModelMetadata) -> Image:
        """Return the tile of a sample from the partner of its image, a validation image of the pair store."""
        if self.pairs is None:
            raise PipelineError(
                f"sample {record.sample} has no true distortion without the pairs of {model.distortion}: name their "
                "store, --pairs or open_corpus(path, pairs='pairs')"
            )
        level = next((each.level for each in model.levels if abs(each.severity - record.severity) < EXACTLY), None)
        key = (record.image, model.distortion, level)
        pair = next((p for p in self.pairs.records("val") if (p.image, p.distortion, p.level) == key), None)
        if pair is None:
            raise PipelineError(
                f"sample {record.sample} has no true distortion: at severity {record.severity:g} of "
                f"{model.distortion}, {record.image} is no validation image of {self.pairs.folder}; choose those with "
                "--select split=val"
            )
        y, x = record.y - pair.y, record.x - pair.x  # pairs that were moved onto each other have a smaller extent
        if min(y, x) < 0 or y + record.height > pair.height or x + record.width > pair.width:
            raise PipelineError(f"sample {record.sample} is outside the part of {record.image} that its partner shows")
        partner = self.pairs.val_image(pair.image, pair.distortion, pair.level)
        return partner[y : y + record.height, x : x + record.width].copy()

    def _steps(self, record: SampleRecord, condition: ConditionMetadata) -> tuple[Step, ...]:
        """Return the distortions of a sample in the order of application."""
        values = json.loads(record.parameters)
        steps = []
        for index, name in enumerate(condition.models):
            model = self.metadata.models[name]
            own = values
            if len(condition.models) > 1:  # named with the models of a composite
                own = {key.removeprefix(f"{name} "): at for key, at in values.items() if key.startswith(f"{name} ")}
            if model.external or not own:
                raise PipelineError(
                    f"sample {record.sample} has no true distortion: nothing can make that of {name} at severity "
                    f"{record.severity:g}"
                )
            steps.append((model.distortion, json.dumps(own), derive_seed(record.seed, "true", index)))
        return tuple(steps)


@lru_cache(maxsize=IMAGES_IN_MEMORY)
def _distorted(root: Path, image: ImageRecord, steps: tuple[Step, ...]) -> Image:
    distorted = read_ingested(root, image)
    for distortion, parameters, seed in steps:
        distorted = apply(distortion, distorted, json.loads(parameters), make_rng(seed)).image
    return distorted
