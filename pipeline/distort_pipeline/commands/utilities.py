"""The utility commands: label, verify, gallery, model, doctor. Each imports its module at run time."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from distort_pipeline.commands.options import (
    EXIT_BROKEN,
    EXIT_USER,
    PATH,
    STORE_PATH,
    examples,
    named_paths,
    names_in,
    scheduler_options,
    show,
    workers_of,
)
from distort_pipeline.config import WORKERS_HELP
from distort_pipeline.errors import PipelineError, WorkersError


def say_problems(path: Path, problems: Iterable[str]) -> None:
    """Print the problems of the store at `path`."""
    for problem in problems:
        click.echo(f"{path}: {problem}", err=True)


@click.command(epilog=examples("label corpus --metric lpips", "label corpus --table acr_trials.csv --name rating"))
@click.argument("corpus", type=STORE_PATH)
@click.option("--metric", help="Metric of pyiqa, with its weights present.")
@click.option("--table", type=PATH, help="CSV of ratings: the completed list of a study.")
@click.option("--name", help="Name of the label.  [default: the metric's name, or rating for a table]")
@click.option("--lower-better", is_flag=True, help="Lower ratings in the table are better.")
@click.option("--workers", type=int, default=0, show_default=True, help="Local worker processes for a metric.")
def label(
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
@click.option("--manifest", type=PATH, help="Manifest for --repair.  [default: the store's own]")
@click.option("--root", type=PATH, help="New folder of the manifest's images, if moved.")
@click.option("--models", type=PATH, help="Models for --repair of a corpus.  [default: models, else pretrained]")
@click.option("--corpus", type=PATH, default="corpus", show_default=True, help="Corpus for --repair of an export.")
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
@click.option("--workers", type=int, help=WORKERS_HELP)
@scheduler_options
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
    from distort_pipeline.commands.compare import compare
    from distort_pipeline.commands.inputs import Inputs, manifest_beside, models_or_pretrained, rebuilder
    from distort_pipeline.commands.repair import repair as repair_store
    from distort_pipeline.commands.verify import verify as verify_store

    pool = workers_of(workers or 0, scheduler, scheduler_file)
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
@click.option("--out", type=PATH, default="gallery", show_default=True, help="Folder to write.")
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

    show(write(corpus, out, distortions=names_in(distortions or ""), columns=names_in(columns or ""), **options))


@click.group(epilog=examples("model export models/jpeg --format onnx"))
def model() -> None:
    """Export trained generators for other programs."""


@model.command("export", epilog=examples("model export models/jpeg --format onnx --out jpeg-onnx"))
@click.argument("folder", metavar="MODEL", type=PATH)
@click.option("--format", "model_format", required=True, help="keras, saved_model or onnx.")
@click.option("--out", type=PATH, help="Folder to write.  [default: MODEL's name-FORMAT]")
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
