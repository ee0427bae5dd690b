"""Common parts of the benchmarks: interleaved timing, figures with spread, machine description, JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from distort_pipeline.records import package_versions

RESULTS = Path(__file__).parent / "results"
SAMPLE = Path("data/sample")
MODELS = Path("build/models")
SUFFIXES = (".png", ".webp")  # of pristine images


@dataclass(frozen=True)
class Options:
    """Options of a benchmark; figures of a `quick` test run are not stored."""

    quick: bool = False
    images: Path = SAMPLE
    models: Path = MODELS  # trained ones
    rounds: int | None = None  # of long measurements; None: the benchmark's default

    def rounds_or(self, usual: int) -> int:
        """Return the number of rounds: 1 if quick, else `rounds`, or `usual`."""
        return 1 if self.quick else self.rounds or usual


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    runs: int
    minimum: float
    median: float
    maximum: float


@dataclass(frozen=True)
class Figure:
    """A measured number, with an optional bar: `bar` at least, or at most."""

    what: str
    against: str
    spread: Spread
    unit: str = "×"
    bar: float | None = None
    at_least: bool = True
    every: bool = False  # whether the bar applies to every run instead of the median
    note: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        if self.bar is None:
            return None
        if self.at_least:
            return (self.spread.minimum if self.every else self.spread.median) >= self.bar
        return (self.spread.maximum if self.every else self.spread.median) <= self.bar


@dataclass(frozen=True)
class Result:
    """The outcome of one benchmark: figures, remarks, and missing measurements."""

    title: str
    figures: Sequence[Figure]
    remarks: Sequence[str] = ()
    not_measured: Sequence[str] = ()
    packages: Mapping[str, str] = field(default_factory=dict)


def interleaved(
    forms: Mapping[str, Callable[[], object]], rounds: int, *, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Return seconds of each form, interleaved (A B A B …), `rounds` of each after a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for repetition in range(rounds + 1):
        for name, form in forms.items():
            started = clock()
            form()
            if repetition:
                seconds[name].append(clock() - started)
    return seconds


def ratios(above: Iterable[float], below: Iterable[float]) -> Spread:
    """Return the spread of above / below, each of a pair measured next to the other.

    >>> ratios([2.0, 9.0, 4.0], [1.0, 3.0, 1.0])
    Spread(runs=3, minimum=2.0, median=3.0, maximum=4.0)
    """
    return spread([first / second for first, second in zip(above, below, strict=True)])


def spread(values: Sequence[float]) -> Spread:
    """Return number, minimum, median and maximum of `values`."""
    return Spread(len(values), min(values), statistics.median(values), max(values))


def machine() -> dict[str, Any]:
    """Return processor, cores, AVX-512 BF16, AMX and load of the machine, without names."""
    cpuinfo = Path("/proc/cpuinfo")
    described = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    facts = dict(line.split(":", 1) for line in described.splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "processor": facts.get("model name", platform.machine()),
        "cores": os.cpu_count(),
        "avx512_bf16": "avx512_bf16" in flags,
        "amx": "amx_tile" in flags,
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 1),
    }


def read_images(folder: Path, count: int | None = None) -> list[NDArray[np.uint8]]:
    """Return the first `count` images of `folder`, 8-bit RGB, each (H, W, 3)."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)[:count]
    if not paths:
        raise FileNotFoundError(f"no {', '.join(SUFFIXES)} in {folder}; name a folder of them with --images")
    return [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]


def cut_tiles(images: Iterable[NDArray[np.uint8]], count: int, tile_px: int = 256) -> NDArray[np.uint8]:
    """Return `count` tiles (count, tile_px, tile_px, 3), in rows and columns of each image, repeated if too few."""
    tiles = [
        image[y : y + tile_px, x : x + tile_px]
        for image in images
        for y in range(0, image.shape[0] - tile_px + 1, tile_px // 2)
        for x in range(0, image.shape[1] - tile_px + 1, tile_px // 2)
    ]
    return np.stack([tiles[number % len(tiles)] for number in range(count)])


def write_result(name: str, result: Result, began: Mapping[str, Any], seconds: float, folder: Path = RESULTS) -> None:
    """Write the result of the benchmark `name` into `folder`, with date, machine and versions."""
    figures = [{**asdict(figure), "reached": figure.reached} for figure in result.figures]
    written = {
        "name": name,
        "date": date.today().isoformat(),
        "machine": dict(began),
        "seconds": round(seconds, 1),
        **asdict(result),
        "figures": figures,
        "packages": dict(result.packages) or package_versions(["numpy", "opencv-python-headless", "distort-pipeline"]),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(_rounded(written), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    return value
