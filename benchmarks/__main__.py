"""Runs benchmarks: `python -m benchmarks [NAME ...] [--quick] [--rounds N] [--images DIR]`.

Writes results/*.json and RESULTS.md.

Each benchmark runs in a separate process, so that threads, imports and memory do not affect other figures.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import MODELS, RESULTS, SAMPLE, Options, machine, write_result
from benchmarks.results_page import read_results, render

NAMES = (
    "nss_statistics",
    "cli_start",
    "dask_overhead",
    "crops",
    "pairs",
    "training_step",
    "upsampling",
    "training_alike",
    "training_store",
    "generation",
    "shipped",
    "precision",
    "reading",
    "growth",
    "large_corpus",
    "gpu_on_paper",
)
LONG = ("growth", "large_corpus")  # only if named: `python -m benchmarks growth`
NOT_YET = ("a GPU: training step and generation in images/s, share of the matrix peak (gpu_on_paper reckons)",)


def main() -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all but {', '.join(LONG)}"
    )
    parser.add_argument("--quick", action="store_true", help="short test run; figures are shown and not stored")
    parser.add_argument("--images", type=Path, default=SAMPLE, help="folder of pristine PNG or WebP images")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of trained models (precision)")
    parser.add_argument("--rounds", type=int, help="rounds of long measurements")
    parser.add_argument("--page", action="store_true", help="only rewrite RESULTS.md")
    options = parser.parse_args()
    unknown = set(options.names) - set(NAMES)
    if unknown:
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    if not options.page:
        names = options.names or [name for name in NAMES if name not in LONG]
        if len(names) == 1:
            run_here(names[0], Options(options.quick, options.images, options.models, options.rounds))
        else:
            _run_each(names, options)
    if not options.quick:
        page = RESULTS.parent / "RESULTS.md"
        results = read_results(RESULTS, NAMES)
        present = {result["name"] for result in results}
        missing = [f"{name}: `python -m benchmarks {name}`" for name in NAMES if name not in present]
        page.write_text(render(results, [*missing, *NOT_YET]), encoding="utf-8")


def run_here(name: str, options: Options) -> None:
    """Run one benchmark in this process, print its figures and store them unless quick."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    began, started = machine(), time.monotonic()
    result = importlib.import_module(f"benchmarks.{name}").measure(options)
    seconds = time.monotonic() - started
    for figure in result.figures:
        verdict = {None: "", True: "reached", False: "MISSED"}[figure.reached]
        print(f"{name}: {figure.what} / {figure.against}: {figure.spread.median:.4g} {figure.unit} {verdict}")
    if not options.quick:
        write_result(name, result, began, seconds)


def _run_each(names: list[str], options: argparse.Namespace) -> None:
    for name in names:
        arguments = ["--images", str(options.images), "--models", str(options.models)]
        arguments += ["--quick"] if options.quick else []
        if options.rounds:
            arguments += ["--rounds", str(options.rounds)]
        subprocess.run([sys.executable, "-m", "benchmarks", name, *arguments], check=True)


if __name__ == "__main__":  # workers are spawned, and import this file again
    main()
