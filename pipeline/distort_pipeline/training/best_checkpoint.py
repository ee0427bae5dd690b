"""The weights with the best validation so far, kept on disk for a resumed training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distort_pipeline.stores.models import read_arrays, write_arrays

NAME = "best.safetensors"


class BestWeights:
    """Weights, their step and their validation figure: the lower, the better."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def offer(self, step: int, figure: float, weights: Callable[[], Mapping[str, NDArray[Any]]]) -> None:
        """Keep `weights` if `figure` is lower than all before; a repeated offer after a resume changes nothing."""
        if not self._path.is_file() or figure < float(self._metadata()["figure"]):
            write_arrays(self._path, weights(), {"step": str(step), "figure": repr(figure)})

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return the best weights."""
        return read_arrays(self._path)[0]

    def step(self) -> int:
        """Return the step of the best weights."""
        return int(self._metadata()["step"])

    def _metadata(self) -> dict[str, str]:
        return read_arrays(self._path)[1]
