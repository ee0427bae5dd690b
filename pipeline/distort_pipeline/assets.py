"""Files shipped with the package: twenty photographs, and a pretrained generator of each distortion in the paper."""

from __future__ import annotations

import sys
from pathlib import Path

from distort_pipeline.errors import PipelineError

PRETRAINED = Path(__file__).parent / "pretrained"
SAMPLES = (
    Path(sys.prefix) / "share" / "distort-pipeline" / "sample",  # installed from a wheel
    Path(__file__).parents[2] / "data" / "sample",  # in a checkout
)


def sample_folder() -> Path:
    """Return the folder of the built-in photographs; PipelineError if this installation has none."""
    for folder in SAMPLES:
        if folder.is_dir():
            return folder
    raise PipelineError("this installation lacks the built-in photographs; name a folder of your own")


def pretrained(distortion: str) -> Path:
    """Return the folder of the pretrained generator of `distortion`; PipelineError if none is shipped."""
    folder = PRETRAINED / distortion
    if not (folder / "store.json").is_file():
        shipped = ", ".join(sorted(path.parent.name for path in PRETRAINED.glob("*/store.json")))
        raise PipelineError(f"there is no pretrained generator of {distortion}, only of: {shipped}")
    return folder
