"""Checkpoints: the whole state of a training in a single file, the newest two kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from distort_pipeline.errors import PipelineError
from distort_pipeline.stores.models import arrays_digest, read_arrays, write_arrays

KEPT = 2


def save_checkpoint(folder: Path, step: int, state: Mapping[str, NDArray[Any]]) -> None:
    """Write the state after `step` steps and drop all but the newest two."""
    write_arrays(folder / f"{step:08d}.safetensors", state, {"step": str(step), "digest": arrays_digest(state)})
    for old in sorted(folder.glob("*.safetensors"))[:-KEPT]:
        old.unlink()


def load_checkpoint(folder: Path) -> tuple[int, dict[str, NDArray[Any]]] | None:
    """Return (steps done, state) of the newest readable checkpoint, or None where there is none."""
    for path in sorted(folder.glob("*.safetensors"), reverse=True):
        try:
            state, metadata = read_arrays(path)
        except PipelineError:
            continue  # damaged by a disk fault; resume from the previous checkpoint
        if arrays_digest(state) == metadata.get("digest"):  # the format itself has no checksum
            return int(metadata["step"]), state
    return None
