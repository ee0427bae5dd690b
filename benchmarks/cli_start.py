"""Start-up time of `distort-pipeline --help` and `ingest --help`, against an empty Python."""

from __future__ import annotations

import subprocess
import sys
from functools import partial

from benchmarks.harness import Figure, Options, Result, interleaved, ratios, spread
from distort_pipeline.records import package_versions

BAR_SECONDS = 0.4
HEAVY = ("tensorflow", "dask", "distributed", "cv2")
CODE = "import sys; sys.argv = ['distort-pipeline', *sys.argv[1:]]; from distort_pipeline.cli import main; main()"


def measure(options: Options) -> Result:
    """Return wall seconds of both commands, and ratios to `python -c pass`."""
    ours = {"--help": ["--help"], "ingest --help": ["ingest", "--help"]}
    commands = {
        "python -c pass": ["-c", "pass"],
        **{name: ["-c", CODE, *arguments] for name, arguments in ours.items()},
    }
    seconds = interleaved(
        {name: partial(_run, command) for name, command in commands.items()}, 3 if options.quick else 15
    )
    figures = []
    for name in ours:
        figures.append(Figure(f"`{name}`", "wall seconds", spread(seconds[name]), "s", BAR_SECONDS, at_least=False))
        figures.append(Figure(f"`{name}`", "`python -c pass`", ratios(seconds[name], seconds["python -c pass"])))
    loaded = {name: _loaded(arguments) for name, arguments in ours.items()}
    remarks = [
        f"`{name}` imports {', '.join(modules) or 'none'} of {', '.join(HEAVY)}." for name, modules in loaded.items()
    ]
    return Result("start of the command line", figures, remarks, packages=package_versions(["click", "numpy"]))


def _run(arguments: list[str]) -> None:
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


def _loaded(arguments: list[str]) -> list[str]:
    """Return the heavy libraries imported by a command."""
    report = f"print(*sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    code = f"import atexit, sys; atexit.register(lambda: {report})"
    completed = subprocess.run(
        [sys.executable, "-c", f"{code}; {CODE}", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    return completed.stderr.decode().split()
