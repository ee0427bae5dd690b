"""What every stage shares: its place, its settings, and errors that arrive as one line with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from distort_pipeline.errors import PipelineError
from distort_pipeline.params import Params, load_params
from distort_pipeline.records import Report

BUILD = Path("build")  # all that DVC makes; seen from the repository's root, where DVC runs its stages


def show(step: Callable[[Params], Report]) -> None:
    """Run `step` with the settings in params.yaml and print its report."""
    try:
        report = step(load_params(Path("params.yaml")))
    except PipelineError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    print(*report.lines, sep="\n", flush=True)
