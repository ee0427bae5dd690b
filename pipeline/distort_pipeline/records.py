"""What all modules share: rows written by the steps, seeds of samples, types of pixel arrays, registries.

Seeds belong to samples: the same draw on any worker, in any order, on any day. Pixels are stored as 8-bit sRGB;
networks take [-1, 1].
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError, did_you_mean

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"  # what a JSON file can hold


@dataclass(frozen=True)
class ImageRecord:
    """An accepted pristine image: a row of a manifest."""

    id: str  # unique in its manifest, safe as a file name: made of the path's stem and the digest
    path: str  # relative to the source root, POSIX; members of archives as archive.zip/inner/name.png
    image_digest: str  # SHA-256 over the decoded 8-bit RGB pixels and their shape: identity, split, seeds
    file_digest: str  # SHA-256 of the file: integrity
    width: int
    height: int
    mode: str  # the mode of the file before it became 8-bit RGB, as Pillow names it
    licence: str
    source: str  # origin, as given by its list or folder
    split: str  # train, val or test


@dataclass(frozen=True)
class Rejected:
    """A rejected file and the reason."""

    path: str
    reason: str


@dataclass(frozen=True)
class PairRecord:
    """A pair of a pair store: a distorted tile or image and its pristine counterpart."""

    split: str
    shard: int
    slot: int  # index of the pristine tile along its array; in the val split, 0
    image: str  # ImageRecord.id
    image_digest: str
    y: int  # offset of the tile in the full image, px
    x: int
    height: int  # valid extent of the tile, px: smaller than the tile in a small image
    width: int
    distortion: str
    level: int
    level_index: int  # index along the level axis of the distortion's array
    seed: int
    parameters: str  # canonical JSON of the values used
    facts: str  # canonical JSON of outcomes: bytes reached, flags


@dataclass(frozen=True)
class TileRecord:
    """A pristine reference tile of a corpus."""

    tile: int  # index into the corpus's pristine tiles
    image: str
    image_digest: str
    split: str
    y: int
    x: int
    height: int
    width: int


@dataclass(frozen=True)
class SampleRecord:
    """A generated tile of a corpus."""

    sample: int  # index over the whole corpus
    distortion: str
    batch: int  # number within its condition
    slot: int  # index along the array of the condition
    tile: int  # TileRecord.tile
    image: str
    split: str
    y: int
    x: int
    height: int
    width: int
    level: int  # from 1, the lowest severity; in a corpus of one level, the number of the learned level
    severity: float  # on the scale of the distortion, from 0, the pristine image; of a composite, on each scale
    parameters: str  # canonical JSON: parameters of the true distortion at this severity; {} for external pairs
    target: float | None  # requested value of the metric in generate.target; none where a severity was requested
    draw: int
    seed: int
    model: str  # digest of the generator; of a composite, all digests joined by +
    precision: str
    pixel_digest: str  # SHA-256 over the shape and the pixels of the sample
    psnr: float | None  # dB against the pristine tile; none if identical
    ssim: float | None
    ms_ssim: float | None  # none if a side is below 176 px
    gmsd: float | None  # lower is better
    clipped: float  # fraction of pixel values at 0 or 255 that are not so in the pristine tile


CONDITION_LABELS = ("severity", "level")  # numbers in a SampleRecord that say how much was asked for, as labels


@dataclass(frozen=True)
class Judgement:
    """A statistic of a batch beside its threshold: of its components, that farthest out."""

    statistic: str
    group: str
    unit: str
    difference: float  # generated minus true; of histograms, the divergence
    threshold: float
    tolerance: float

    @property
    def accepted(self) -> bool:
        """Whether the difference is within the threshold."""
        return abs(self.difference) <= self.threshold

    @property
    def excess(self) -> float:
        """The difference in multiples of the threshold."""
        return abs(self.difference) / self.threshold

    def __str__(self) -> str:
        sign = "" if self.group == "distribution" or self.statistic.startswith("spread") else "+"
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.group}: {self.statistic} {self.difference:{sign}.4g}{unit}, accepted up to {self.threshold:.4g}"


@dataclass(frozen=True)
class ModelVerdict:
    """The verdict of an evaluation on one generator."""

    state: str  # good, bad or unknown
    objections: str  # '' without any
    nearest: str  # the true distortion nearest to it
    images: int  # validation images
    c2st: str | None = None  # good, bad or unknown: inconclusive; None if not tested, as the accuracy
    c2st_accuracy: float | None = None  # chance is 0.5
    c2st_low: float | None = None  # of the 95 % interval over images
    c2st_high: float | None = None


@dataclass(frozen=True)
class Report:
    """The outcome of a step, as counts that add up and as lines of text."""

    step: str
    counts: Mapping[str, int | float | str]
    lines: tuple[str, ...] = field(default_factory=tuple)


def row(record: Any) -> dict[str, Any]:
    """Return a record as a mapping, in the order of its fields."""
    return {column.name: getattr(record, column.name) for column in dataclasses.fields(record)}


def canonical(value: object) -> str:
    """Return the canonical JSON text of `value`: sorted keys, no spaces, no NaN.

    >>> canonical({"b": 1, "a": [1.5, None]})
    '{"a":[1.5,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """Return the SHA-256 of the canonical JSON of `value`, in hexadecimal."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def digest_rows(records: Iterable[Any]) -> str:
    """Return the SHA-256 over the canonical lines of `records`, in order."""
    sha = hashlib.sha256()
    for record in records:
        sha.update(canonical(row(record)).encode() + b"\n")
    return sha.hexdigest()


Part = str | int | float


def derive_seed(*parts: Part) -> int:
    """Return a 63-bit seed that depends on all `parts`, their types and their order.

    >>> derive_seed(1, "jpeg") == derive_seed(1, "jpeg")
    True
    >>> derive_seed(1, "2") == derive_seed("1", 2)
    False
    """
    digest = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # 63 bits: fits the signed integers of Parquet and NumPy


def sample_seed(seed: int, image_digest: str, distortion: str, level: int, draw: int = 0) -> int:
    """Return the seed of a sample: an image under a distortion at a level, drawn for the `draw`-th time."""
    return derive_seed(seed, image_digest, distortion, level, draw)


def make_rng(seed: int) -> np.random.Generator:
    """Return NumPy's PCG64 generator started from `seed`."""
    return np.random.Generator(np.random.PCG64(seed))


Image: TypeAlias = NDArray[np.uint8]  # (H, W, 3), sRGB, RGB order
Images: TypeAlias = NDArray[np.uint8]  # (N, H, W, 3), sRGB, RGB order
NetworkPixels: TypeAlias = NDArray[np.float32]  # (N, H, W, 3) in [-1, 1]
Grey: TypeAlias = NDArray[np.floating[Any]]  # (H, W) on 0-255

LEVELS_PER_UNIT = 127.5  # 8-bit levels in one unit of the networks' range


def normalize(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return 8-bit `pixels` on the networks' range [-1, 1].

    >>> normalize(np.array([0, 255], np.uint8)).tolist()
    [-1.0, 1.0]
    """
    values = pixels.astype(np.float32)
    values /= np.float32(LEVELS_PER_UNIT)  # in place, here and below: allocation costs more than arithmetic
    values -= np.float32(1)
    return values


def denormalize(values: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return network `values` as 8-bit pixels, rounded and clipped.

    >>> denormalize(np.array([-1.2, 0.0, 1.0], np.float32)).tolist()
    [0, 128, 255]
    """
    levels_8bit = np.asarray(values, np.float32) + np.float32(1)
    levels_8bit *= np.float32(LEVELS_PER_UNIT)
    return to_uint8(levels_8bit)


def to_uint8(levels_8bit: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Return `levels_8bit` rounded (halves to even) and clipped to 8 bits.

    >>> to_uint8(np.array([-3.0, 1.5, 300.0])).tolist()
    [0, 2, 255]
    """
    rounded = np.rint(levels_8bit)
    np.clip(rounded, 0, 255, out=rounded)
    return rounded.astype(np.uint8)


Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """The named entries of a module or folder, whose files are imported at the first use of a name, and of others.

    Other packages add theirs as entry points of `group`: name = "module:object". A failed import stops the run: a
    silently missing entry would change a corpus unnoticed.
    """

    def __init__(self, kind: str, package: str, *, group: str) -> None:
        self.kind, self.group = kind, group
        self._package = package
        self._entries: dict[str, Entry] = {}
        self._packages: dict[str, tuple[str, str]] = {}  # of other packages' entries: name and version
        self._loaded = False

    def add(self, name: str) -> Callable[[Entry], Entry]:
        """Return a decorator that registers an entry as `name`."""

        def register(entry: Entry) -> Entry:
            if name in self._entries:
                raise ValueError(f"two {self.kind}s are called {name!r}")
            self._entries[name] = entry
            return entry

        return register

    def get(self, name: str) -> Entry:
        """Return the entry called `name`; PipelineError with the nearest known name if there is none."""
        self._load()
        if name not in self._entries:
            raise PipelineError(f"no {self.kind} is called {name!r}{did_you_mean(name, self._entries)}")
        return self._entries[name]

    def names(self) -> tuple[str, ...]:
        """Return every registered name, sorted."""
        self._load()
        return tuple(sorted(self._entries))

    def _load(self) -> None:
        if self._loaded:
            return
        package = importlib.import_module(self._package)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ()), f"{self._package}."):
            importlib.import_module(module.name)
        for point in entry_points(group=self.group):
            origin = ("", "") if point.dist is None else (point.dist.name, point.dist.version)
            if self._packages.get(point.name) == origin:
                continue  # the failed import of another one is tried again
            if point.name in self._entries:
                other = self._packages.get(point.name, ("distort-pipeline", ""))[0]
                raise PipelineError(
                    f"two {self.kind}s are called {point.name!r}, of {other} and of {origin[0]}: uninstall one of them"
                )
            self._entries[point.name] = point.load()
            self._packages[point.name] = origin
        self._loaded = True

    def package_of(self, name: str) -> dict[str, str]:
        """Return the package of the entry `name`, and its version; empty for our own entries."""
        self._load()
        return dict([self._packages[name]]) if name in self._packages else {}


TILE_ALIGN_PX = 16  # tiles keep the phase of JPEG's 8 px grid and of its 16 px chroma grid
CANDIDATES_AT_MOST = 4096  # candidate offsets of an image; keeps planning linear for huge images


@dataclass(frozen=True)
class Tile:
    """A square of an image: its offset and its extent inside the image, px."""

    y: int
    x: int
    height: int
    width: int


def spread_tiles(height: int, width: int, *, tile_px: int, count: int, align_px: int, seed: int) -> list[Tile]:
    """Return up to `count` different tiles of an image, by farthest-point sampling.

    Offsets are multiples of `align_px`. In an image smaller than a tile, the tile starts at 0 and its extent is the
    size of the image.

    >>> [(tile.y, tile.x) for tile in spread_tiles(256, 256, tile_px=256, count=4, align_px=16, seed=0)]
    [(0, 0)]
    """
    rows = np.arange(0, max(height - tile_px, 0) + 1, align_px)
    columns = np.arange(0, max(width - tile_px, 0) + 1, align_px)
    ys, xs = (axis.ravel() for axis in np.meshgrid(rows, columns, indexing="ij"))
    rng = make_rng(seed)
    if ys.size > max(CANDIDATES_AT_MOST, count):
        candidates = np.sort(rng.choice(ys.size, max(CANDIDATES_AT_MOST, count), replace=False))
        ys, xs = ys[candidates], xs[candidates]
    chosen = [int(rng.integers(ys.size))]
    nearest = np.full(ys.size, np.inf)
    while len(chosen) < min(count, ys.size):
        y, x = ys[chosen[-1]], xs[chosen[-1]]
        nearest = np.minimum(nearest, np.maximum(np.abs(ys - y), np.abs(xs - x)))
        chosen.append(int(np.argmax(nearest)))
    return [
        Tile(int(ys[i]), int(xs[i]), min(tile_px, height - int(ys[i])), min(tile_px, width - int(xs[i])))
        for i in chosen
    ]


def offsets_available(height: int, width: int, *, tile_px: int, align_px: int) -> int:
    """Return the number of different aligned tiles completely inside an image.

    >>> offsets_available(256, 272, tile_px=256, align_px=16), offsets_available(255, 900, tile_px=256, align_px=16)
    (2, 0)
    """
    if min(height, width) < tile_px:
        return 0
    return ((height - tile_px) // align_px + 1) * ((width - tile_px) // align_px + 1)


# packages that decide bytes, besides the libraries of codecs
DECIDING = (
    *("distort-pipeline", "numpy", "scipy", "opencv-python-headless", "pillow", "glymur", "numcodecs", "zarr"),
    *("pyarrow", "keras", "tensorflow", "jax"),
)


def package_versions(names: Sequence[str]) -> dict[str, str]:
    """Return name → version of the packages in `names` that are installed."""
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
