"""The weights that validated best so far, kept on disk so that a resumed training knows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distort_pipeline.stores.models import read_arrays, write_arrays

NAME = "best.safetensors"


class BestWeights:
    """Weights, the step they are of and the figure that they scored: the lower, the better."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def offer(self, step: int, figure: float, weights: Callable[[], Mapping[str, NDArray[Any]]]) -> None:
        """Keep `weights` if `figure` is lower than all before; what is offered again after a resume changes nothing."""
        if not self._path.is_file() or figure < float(self._metadata()["figure"]):
            write_arrays(self._path, weights(), {"step": str(step), "figure": repr(figure)})

    def weights(self) -> dict[str, NDArray[Any]]:
        """Return the best weights."""
        return read_arrays(self._path)[0]

    def step(self) -> int:
        """Return the step that they are of."""
        return int(self._metadata()["step"])

    def _metadata(self) -> dict[str, str]:
        return read_arrays(self._path)[1]
