"""Shared by all stages: folder, settings, and errors as a line of text with exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from distort_pipeline.commands.params import Params, load_params
from distort_pipeline.errors import PipelineError
from distort_pipeline.records import Report

BUILD = Path("build")  # all outputs; relative to the repository's root, where DVC runs stages


def show(step: Callable[[Params], Report]) -> None:
    """Run `step` with the settings of params.yaml and print its report."""
    try:
        report = step(load_params(Path("params.yaml")))
    except PipelineError as error:
        print(f"{Path(sys.argv[0]).stem}: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    print(*report.lines, sep="\n", flush=True)
