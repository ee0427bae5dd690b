"""`python train.py RUN`: trains a run of params.yaml: the shared settings with the run's changes."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from distort_pipeline.commands.params import parse_section
from distort_pipeline.config import TrainConfig
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.steps import train

DISTORTION = "jpeg"


def settings_of(run: str, params: Path) -> TrainConfig:
    """Return the settings of `run` in the file `params`; PipelineError for an unknown run or invalid settings."""
    document = yaml.safe_load(params.read_text(encoding="utf-8"))
    if run not in document["runs"]:
        raise PipelineError(f"no run is called {run!r}{did_you_mean(run, document['runs'])}")
    return parse_section(TrainConfig, {**document["train"], **document["runs"][run]}, where=str(params))


if __name__ == "__main__":
    try:
        config = settings_of(sys.argv[1], Path("params.yaml"))
        report = train.run(config, Path("build/pairs"), Path("build/models") / sys.argv[1], distortion=DISTORTION)
    except PipelineError as error:
        print(f"train: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    print(*report.lines, sep="\n")
