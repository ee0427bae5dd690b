"""The utility commands: label, verify, gallery, model, doctor. Each imports its module at run time.

`verify --against` compares two corpora of the same plan within a tolerance: the same models on another processor give
other low bits and so other digests. Records and pristine tiles must be equal; distorted pixels may differ by a few
8-bit levels.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np

from distort_pipeline.commands.options import (
    EXIT_BROKEN,
    EXIT_USER,
    STORE_PATH,
    examples,
    named_paths,
    names_in,
    say_problems,
    show,
    worker_options,
)
from distort_pipeline.data.corpora import PRISTINE, CorpusStore, distorted_array, open_corpus
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers, run_tasks, track
from distort_pipeline.metrics.full_reference import COMPUTED
from distort_pipeline.records import SampleRecord

PIXEL_FIELDS = ("pixel_digest", "clipped", *COMPUTED)  # fields computed from pixels
TARGET_FIELDS = ("severity", "parameters")  # also computed from pixels if a target was requested
FIELDS = tuple(field.name for field in fields(SampleRecord))


@dataclass(frozen=True)
class BatchPair:
    """A batch of two corpora."""

    left: Path
    right: Path
    name: str


@dataclass(frozen=True)
class Difference:
    """The difference between the distorted pixels of two corpora, or of one batch."""

    values: int = 0
    different: int = 0
    largest: int = 0  # 8-bit levels
    problems: tuple[str, ...] = ()

    def with_(self, other: Difference) -> Difference:
        """Return the difference over the pixels of both."""
        return Difference(
            self.values + other.values,
            self.different + other.different,
            max(self.largest, other.largest),
            self.problems + other.problems,
        )

    @property
    def summary(self) -> str:
        """The difference in one line."""
        share = self.different / self.values if self.values else 0.0
        return f"{share:.3%} of {self.values} pixel values differ, by at most {self.largest} of 255"


def compare(left: Path, right: Path, *, tolerance: int = 0, workers: Workers | None = None) -> Difference:
    """Return the difference between two corpora, with a problem for each batch above `tolerance` 8-bit levels.

    PipelineError if settings, models or images differ.
    """
    corpora = [open_corpus(folder) for folder in (left, right)]
    if corpora[0].metadata.settings != corpora[1].metadata.settings:
        raise PipelineError(f"{left} and {right} cannot be compared: their settings, models or images differ")
    tasks = [BatchPair(left.resolve(), right.resolve(), name) for name in corpora[0].batch_names()]
    total = Difference()
    results = run_tasks(compare_batch, tasks, workers or Workers())
    for task, difference in track(results, total=len(tasks), label="compare", unit="batches"):
        total = total.with_(difference)
        if difference.largest > tolerance:
            total = total.with_(Difference(problems=(f"{task.name}: {difference.summary}",)))
    return total


def compare_batch(task: BatchPair) -> tuple[BatchPair, Difference]:
    """Return the task and the difference of its batch."""
    left, right = open_corpus(task.left), open_corpus(task.right)
    records = left.batch_records(task.name)
    if list(map(_planned, records)) != list(map(_planned, right.batch_records(task.name))):
        return task, Difference(problems=(f"{task.name}: the records differ",))
    problems: tuple[str, ...] = ()
    tiles = sorted({record.tile for record in records})
    if _difference(left, right, PRISTINE, tiles).different:
        problems = (f"{task.name}: the pristine tiles differ",)
    column = distorted_array(left.condition_of(records[0]))
    difference = _difference(left, right, column, [record.slot for record in records])
    return task, difference.with_(Difference(problems=problems))


def _planned(record: SampleRecord) -> list[object]:
    """Return the planned fields of a record, known before any pixel."""
    computed = PIXEL_FIELDS if record.target is None else (*PIXEL_FIELDS, *TARGET_FIELDS)
    return [getattr(record, name) for name in FIELDS if name not in computed]


def _difference(left: CorpusStore, right: CorpusStore, column: str, numbers: Iterable[int]) -> Difference:
    total = Difference()
    indices = list(numbers)
    for image, other in zip(left.images(column, indices), right.images(column, indices), strict=True):
        levels_8bit = np.abs(image.astype(np.int16) - other)
        total = total.with_(Difference(levels_8bit.size, int(np.count_nonzero(levels_8bit)), int(levels_8bit.max())))
    return total


@click.command(
    epilog=examples(
        "label corpus --metric lpips",
        "label corpus --table acr_trials.csv --name rating",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--metric", help="Metric of pyiqa, with its weights present.")
@click.option("--table", type=click.Path(path_type=Path), help="CSV of ratings: the completed list of a study.")
@click.option("--name", help="Name of the label.  [default: the metric's name, or rating for a table]")
@click.option("--lower-better", is_flag=True, help="Lower ratings in the table are better.")
@click.option("--workers", type=int, default=0, show_default=True, help="Local worker processes for a metric.")
@click.pass_context
def label(
    ctx: click.Context,  # noqa: ARG001
    /,
    corpus: Path,
    metric: str | None,
    table: Path | None,
    name: str | None,
    lower_better: bool,
    workers: int,
) -> None:
    """Add a metric or people's ratings to the samples of a corpus."""
    from distort_pipeline.commands import label as command
    from distort_pipeline.execution import Workers

    if (metric is None) == (table is None):
        raise PipelineError("give either --metric or --table")
    if metric is not None:
        show(command.by_metric(corpus, metric, name=name, workers=Workers(workers)))
    elif table is not None:
        show(command.by_table(corpus, table, name=name or "rating", lower_better=lower_better))


@click.command(
    epilog=examples(
        "verify corpus",
        "verify pairs models/jpeg",
        "verify corpus --repair --manifest manifest.jsonl --models models",
        "verify corpus --against corpus-of-the-other-machine --tolerance 1",
    )
)
@click.argument("paths", nargs=-1, required=True, type=STORE_PATH)
@click.option("--repair", is_flag=True, help="Rebuild damaged shards only.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="Manifest for --repair.  [default: the store's own]",
)
@click.option("--root", type=click.Path(path_type=Path), help="New folder of the manifest's images, if moved.")
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="Models for --repair of a corpus.  [default: models, else pretrained]",
)
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    default=Path("corpus"),
    show_default=True,
    help="Corpus for --repair of an export.",
)
@click.option(
    "--external-pairs",
    multiple=True,
    metavar="NAME=PATH",
    help="External pairs for --repair of a pair store; repeatable.",
)
@click.option("--against", type=STORE_PATH, help="Corpus to compare with, pixel by pixel.")
@click.option(
    "--tolerance", type=int, default=0, show_default=True, help="Largest accepted pixel difference, in 8-bit levels."
)
@worker_options
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    repair: bool,
    external_pairs: tuple[str, ...],
    against: Path | None,
    tolerance: int,
    manifest: Path | None,
    models: Path | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    **inputs: Any,
) -> None:
    """Compare the files of stores with their checksums.

    PATHS are manifests, pair stores, models, corpora or exports.

    Prints missing or damaged files and exits with code 1 if there are any, with code 2 if a store cannot be checked or
    repaired. `--repair` rebuilds damaged shards.
    """
    from distort_pipeline.commands.params import Inputs, manifest_beside, models_or_pretrained, rebuilder
    from distort_pipeline.commands.repair import repair as repair_store
    from distort_pipeline.commands.verify import verify as verify_store
    from distort_pipeline.execution import Workers

    pool = Workers(workers or 0, 1, scheduler, str(scheduler_file) if scheduler_file else None)
    external = named_paths(external_pairs)
    code = 0
    for path in paths:
        try:
            report = verify_store(path, root=inputs["root"], workers=pool)
            if repair and report.problems:
                say_problems(path, report.problems)
                inputs_of_store = Inputs(
                    **inputs,
                    manifest=manifest or manifest_beside(path),
                    **({"models": models_or_pretrained(models)} if report.kind == "corpus" else {}),
                    external=external,
                )
                report = repair_store(path, report, rebuilder(path, inputs_of_store, pool), workers=pool)
            problems = report.problems
            if against is not None:
                difference = compare(path, against, tolerance=tolerance, workers=pool)
                click.echo(f"{path}: against {against}: {difference.summary}")
                problems += difference.problems
        except WorkersError:
            raise
        except PipelineError as error:  # of this store: the others are still checked
            click.echo(f"distort-pipeline: {error}", err=True)
            code = EXIT_USER
            continue
        say_problems(path, problems)
        click.echo(f"{path}: {report.summary}")
        code = max(code, EXIT_BROKEN if problems else 0)
    ctx.exit(code)


@click.command(
    epilog=examples(
        "gallery corpus --out figure --rows 3 --crop-px 160",
        "gallery corpus --columns pristine,generated,true --distortions jpeg",
        "gallery corpus --image canyon-wren-864970cc",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("gallery"), show_default=True, help="Folder to write."
)
@click.option("--distortions", help="Comma-separated names.  [default: all]")
@click.option("--rows", type=int, default=4, show_default=True, help="Samples per distortion.")
@click.option("--columns", help="Comma-separated columns, see below.  [default: all]")
@click.option("--crop-px", type=int, help="Side of the central crop of each sample.  [default: whole samples]")
@click.option("--image", help="Only samples of the image with this id.")
@click.option("--captions/--no-captions", default=True, show_default=True, help="Headings and captions of rows.")
def gallery(corpus: Path, out: Path, distortions: str | None, columns: str | None, **options: Any) -> None:
    """Write contact sheets of a corpus as PNG files, for figures.

    Columns: pristine, generated, true, generated residual, true residual.
    """
    from distort_pipeline.commands.gallery import gallery as write

    show(write(corpus, out, distortions=names_in(distortions) or (), columns=names_in(columns) or (), **options))


@click.group(epilog=examples("model export models/jpeg --format onnx"))
def model() -> None:
    """Export trained generators for other programs."""


@model.command("export", epilog=examples("model export models/jpeg --format onnx --out jpeg-onnx"))
@click.argument("folder", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--format", "model_format", required=True, help="keras, saved_model or onnx.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: MODEL's name-FORMAT]")
def export_model(folder: Path, model_format: str, out: Path | None) -> None:
    """Write a generator as a Keras file, SavedModel or ONNX file.

    In float32, with fused batch norms, checked against the model.
    """
    from distort_pipeline.commands import model as command

    show(command.export_model(folder, out or Path(f"{folder.resolve().name}-{model_format}"), model_format))


@click.command(epilog=examples("doctor"))
def doctor() -> None:
    """Check the installation and suggest remedies."""
    from distort_pipeline.commands.doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(finding.line())
    sys.exit(0 if all(finding.fine for finding in findings) else EXIT_BROKEN)
