"""`python -m stages.evaluate`: evaluates the models on the validation images; metrics.json is kept in git."""

from __future__ import annotations

import shutil

from distort_pipeline.commands.params import Params
from distort_pipeline.records import Report
from distort_pipeline.steps import evaluate
from stages.face import BUILD, show


def run(params: Params) -> Report:
    """Run the step, and copy its metrics to the repository's root."""
    report = evaluate.run(params.evaluate, BUILD / "pairs", BUILD / "models", BUILD / "evaluation")
    shutil.copyfile(BUILD / "evaluation" / "metrics.json", "metrics.json")
    return report


if __name__ == "__main__":
    show(run)
