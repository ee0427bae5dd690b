"""The utility commands, from distort to doctor. Each imports its module at run time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from distort_pipeline.commands.options import (
    EXIT_BROKEN,
    EXIT_USER,
    JSON,
    MODEL,
    MODEL_FORMATS,
    PATH,
    STORE_PATH,
    examples,
    named_paths,
    names_in,
    parameters_in,
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


def show_json(value: object) -> None:
    """Print `value` as JSON."""
    click.echo(json.dumps(value, indent=2, default=str))


@click.command(
    epilog=examples(
        "distort photo.png distorted.png --with jpeg --severity 0.5",
        "distort photos/ distorted/ --with models/camera --seed 7",
        "distort photos/ distorted/ --with jpeg --set quality=12",
    )
)
@click.argument("source", metavar="IN", type=PATH)
@click.argument("out", type=PATH)
@click.option("--with", "name", type=MODEL, required=True, help="Generator by name or folder; see `list`.")
@click.option("--severity", type=click.FloatRange(0, 1), help="From 0 to 1.  [default: the generator's default level]")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of random distortions.")
@click.option(
    "--set", "parameters", multiple=True, metavar="NAME=VALUE", help="The true distortion with this parameter."
)
@click.option("--models", type=PATH, help="Folder of models.  [default: models]")
def distort(source: Path, out: Path, name: str, parameters: tuple[str, ...], **options: Any) -> None:
    """Distort images by a generator or a true distortion.

    IN is an image, a folder or an archive; OUT is a folder, or a .png file for one image. Nothing is replaced.
    """
    from distort_pipeline.commands import images

    show(images.distort_files(source, out, name, parameters=parameters_in(parameters), **options))


@click.command("list", epilog=examples("list", "list --json"))
@click.option("--models", type=PATH, help="Folder of models.  [default: models]")
@JSON
def list_known(models: Path | None, as_json: bool) -> None:
    """List the distortions and the generators."""
    from distort_pipeline.commands import images

    report, values = images.listed(models)
    show_json(values) if as_json else show(report)


@click.command(epilog=examples("score pristine/ distorted/", "score true/ generated/ --json"))
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@JSON
def score(a: Path, b: Path, as_json: bool) -> None:
    """Compare the statistics of two folders of images.

    JSD_NSS and the divergence of each of the twelve NSS features, in bits, between all images of A and all of B.
    """
    from distort_pipeline.commands import images

    report, values = images.score_folders(a, b)
    show_json(values) if as_json else show(report)


@click.command(epilog=examples("label corpus --metric lpips", "label corpus --table acr_trials.csv --name rating"))
@click.argument("corpus", type=STORE_PATH)
@click.option("--metric", help="Metric of pyiqa, with its weights present.")
@click.option("--device", default="cpu", show_default=True, help="PyTorch device of the metric: cpu, cuda, mps.")
@click.option("--table", type=PATH, help="CSV of ratings: the completed list of a study.")
@click.option("--name", help="Name of the label.  [default: the metric's name, or rating for a table]")
@click.option("--lower-better", is_flag=True, help="Lower ratings in the table are better.")
@click.option(
    "--workers", type=click.IntRange(0), default=0, show_default=True, help="Local worker processes for a metric."
)
def label(
    corpus: Path,
    metric: str | None,
    device: str,
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
        show(command.by_metric(corpus, metric, name=name, device=device, workers=Workers(workers)))
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
    "--tolerance",
    type=click.IntRange(0, 255),
    default=0,
    show_default=True,
    help="Largest accepted pixel difference, in 8-bit levels.",
)
@click.option("--workers", type=click.IntRange(0), help=WORKERS_HELP)
@JSON
@scheduler_options
@click.pass_context
def verify(
    ctx: click.Context,
    /,
    paths: tuple[Path, ...],
    repair: bool,
    external_pairs: tuple[str, ...],
    against: Path | None,
    as_json: bool,
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
    from distort_pipeline.commands.inputs import Inputs, known_models, manifest_beside, rebuilder
    from distort_pipeline.commands.repair import repair as repair_store
    from distort_pipeline.commands.verify import verify as verify_store

    pool = workers_of(workers or 0, scheduler, scheduler_file)
    external = named_paths(external_pairs)
    code, results = 0, []
    for path in paths:
        try:
            report = verify_store(path, root=inputs["root"], workers=pool)
            if repair and report.problems:
                say_problems(path, report.problems)
                inputs_of_store = Inputs(
                    **inputs,
                    manifest=manifest or manifest_beside(path),
                    models=known_models(models) if report.kind == "corpus" else {},
                    external=external,
                )
                report = repair_store(path, report, rebuilder(path, inputs_of_store, pool), workers=pool)
            problems = report.problems
            if against is not None:
                difference = compare(path, against, tolerance=tolerance, workers=pool)
                if not as_json:
                    click.echo(f"{path}: against {against}: {difference.summary}")
                problems += difference.problems
        except WorkersError:
            raise
        except PipelineError as error:  # of this store: the others are still checked
            click.echo(f"distort-pipeline: {error}", err=True)
            results.append({"path": path, "error": str(error)})
            code = EXIT_USER
            continue
        results.append({"path": path, "kind": report.kind, "counts": report.counts, "problems": problems})
        if not as_json:
            say_problems(path, problems)
            click.echo(f"{path}: {report.summary}")
        code = max(code, EXIT_BROKEN if problems else 0)
    if as_json:
        show_json(results)
    ctx.exit(code)


@click.command(
    epilog=examples(
        "gallery corpus --out figure --rows 3 --crop-px 160",
        "gallery corpus --columns pristine,generated,true --distortions jpeg",
        "gallery corpus --image canyon-wren-864970cc",
        "gallery corpus --sweep --crop-px 160",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--out", type=PATH, default="gallery", show_default=True, help="Folder to write.")
@click.option("--distortions", help="Comma-separated names.  [default: all]")
@click.option("--rows", type=click.IntRange(1), default=4, show_default=True, help="Samples per distortion.")
@click.option("--columns", help="Comma-separated columns, see below.  [default: all]")
@click.option(
    "--crop-px", type=click.IntRange(1), help="Side of the central crop of each sample.  [default: whole samples]"
)
@click.option("--image", help="Only samples of the image with this id.")
@click.option("--captions/--no-captions", default=True, show_default=True, help="Headings and captions of rows.")
@click.option("--sweep", is_flag=True, help="A tile at all levels, a row per distortion, instead.")
def gallery(
    corpus: Path, out: Path, distortions: str | None, columns: str | None, sweep: bool, rows: int, **options: Any
) -> None:
    """Write contact sheets of a corpus as PNG files, for figures.

    Columns: pristine, generated, true, generated residual, true residual.
    """
    from distort_pipeline.commands import gallery as command

    chosen = names_in(distortions or "")
    if sweep and columns:
        raise PipelineError("--columns are of rows of samples, --sweep has the levels as columns: give one of them")
    if sweep:
        show(command.sweep(corpus, out, distortions=chosen, **options))
    else:
        columns_shown = names_in(columns or "")
        show(command.gallery(corpus, out, distortions=chosen, columns=columns_shown, rows=rows, **options))


@click.group(epilog=examples("model export models/jpeg --format onnx"))
def model() -> None:
    """Export trained generators for other programs."""


@model.command("export", epilog=examples("model export jpeg --format onnx", "model export models/mine --format keras"))
@click.argument("name", metavar="MODEL", type=MODEL)
@click.option("--format", "model_format", type=click.Choice(MODEL_FORMATS), required=True, help="Format of the file.")
@click.option("--out", type=PATH, help="Folder to write.  [default: MODEL's name-FORMAT]")
def export_model(name: str, model_format: str, out: Path | None) -> None:
    """Write a generator as a Keras file, SavedModel or ONNX file.

    MODEL is a name in the folder `models`, a pretrained one, or a model folder. In float32, with fused batch norms,
    checked against the model.
    """
    from distort_pipeline.commands import model as command
    from distort_pipeline.commands.inputs import generator_folder

    folder = generator_folder(name)
    show(command.export_model(folder, out or Path(f"{folder.resolve().name}-{model_format}"), model_format))


@click.command(epilog=examples("doctor", "doctor --json"))
@JSON
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Check the installation and suggest remedies."""
    from distort_pipeline.commands.doctor import examine

    findings = examine()
    if as_json:
        show_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            click.echo(finding.line())
    ctx.exit(0 if all(finding.fine for finding in findings) else EXIT_BROKEN)
