"""The words beside the path: label, verify, gallery, model, doctor. Each imports its command when it runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from distort_pipeline.errors import PipelineError
from distort_pipeline.options import (
    EXIT_BROKEN,
    STORE_PATH,
    examples,
    named_path,
    names_in,
    say_problems,
    show,
    worker_options,
)


@click.command(
    epilog=examples(
        "label corpus --metric lpips",
        "label corpus --table acr_trials.csv --name rating",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--metric", help="A metric of pyiqa, where its weights are present.")
@click.option("--table", type=click.Path(path_type=Path), help="What people answered: a study's list, filled in.")
@click.option("--name", help="What the label is called.  [default: the metric's name; for a table, rating]")
@click.option("--lower-better", is_flag=True, help="For a table whose scale grows with the damage.")
@click.option("--workers", type=int, default=0, show_default=True, help="Local processes for a metric.")
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
    """Add to a finished corpus what a metric, or what people, say of its samples."""
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
@click.option("--repair", is_flag=True, help="Make damaged shards again, and no others.")
@click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    help="To repair from.  [default: the one beside the store, or manifest.jsonl]",
)
@click.option("--root", type=click.Path(path_type=Path), help="Where the manifest's images lie now, if elsewhere.")
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="To repair a corpus from.  [default: the folder models, or the pretrained generators]",
)
@click.option("--corpus", type=click.Path(path_type=Path), default=Path("corpus"), help="To repair an export from.")
@click.option(
    "--external-pairs", multiple=True, metavar="NAME=PATH", help="Your own pairs, to repair a pair store from."
)
@click.option("--against", type=STORE_PATH, help="Another corpus that should be the same.")
@click.option("--tolerance", type=int, default=0, help="By how much its pixels may differ, of 255.  [default: 0]")
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
    """Recompute every digest of a manifest, pair store, model, corpus or export.

    Names what is missing or damaged, and then exits with 1.
    """
    from distort_pipeline.commands.compare import compare
    from distort_pipeline.commands.repair import repair as mend
    from distort_pipeline.commands.verify import verify as check
    from distort_pipeline.execution import Workers
    from distort_pipeline.inputs import manifest_beside, models_or_pretrained
    from distort_pipeline.rebuild import Inputs, rebuilder

    where = Workers(workers or 0, 1, scheduler, str(scheduler_file) if scheduler_file else None)
    broken = False
    for path in paths:
        found = check(path, workers=where)
        if repair and found.problems:
            say_problems(path, found.problems)
            made_of = Inputs(
                **inputs,
                manifest=manifest or manifest_beside(path),
                **({"models": models_or_pretrained(models)} if found.kind == "corpus" else {}),
                external=dict(named_path(text) for text in external_pairs),
            )
            found = mend(path, found, rebuilder(path, made_of, where), workers=where)
        problems = found.problems
        if against is not None:
            difference = compare(path, against, tolerance=tolerance, workers=where)
            click.echo(f"{path}: against {against}: {difference.summary}")
            problems += difference.problems
        say_problems(path, problems)
        click.echo(f"{path}: {found.summary}")
        broken = broken or bool(problems)
    ctx.exit(EXIT_BROKEN if broken else 0)


@click.command(
    epilog=examples(
        "gallery corpus --out figure --rows 3 --crop-px 160",
        "gallery corpus --columns pristine,generated,true --distortions jpeg",
        "gallery corpus --image canyon-wren-864970cc",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--out", type=click.Path(path_type=Path), default=Path("gallery"), show_default=True)
@click.option("--distortions", help="Names, separated by commas.  [default: all there are]")
@click.option("--rows", type=int, default=4, show_default=True, help="Samples of each distortion.")
@click.option("--columns", help="pristine, generated, true, generated residual, true residual; all by default.")
@click.option("--crop-px", type=int, help="Only the middle of each sample, of 256 px at most.")
@click.option("--image", help="Only samples of the image of this id.")
@click.option("--captions/--no-captions", default=True, show_default=True, help="Headings and row labels.")
def gallery(corpus: Path, out: Path, distortions: str | None, columns: str | None, **options: Any) -> None:
    """Write contact sheets of a corpus as PNG files, for a paper's figure."""
    from distort_pipeline.commands.gallery import gallery as write

    show(write(corpus, out, distortions=names_in(distortions) or (), columns=names_in(columns) or (), **options))


@click.group(epilog=examples("model export models/jpeg --format onnx"))
def model() -> None:
    """Trained generators as files that other programs open."""


@model.command("export", epilog=examples("model export models/jpeg --format onnx --out jpeg-onnx"))
@click.argument("folder", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--format", "form", required=True, help="keras, saved_model or onnx.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: MODEL's name-FORMAT]")
def export_model(folder: Path, form: str, out: Path | None) -> None:
    """Write a generator, batch norms folded in, float32; checked against what it was made of."""
    from distort_pipeline.commands import model as command

    show(command.export_model(folder, out or Path(f"{folder.resolve().name}-{form}"), form))


@click.command(epilog=examples("doctor"))
def doctor() -> None:
    """Tell what is installed and found, and what to do about what is missing."""
    from distort_pipeline.commands.doctor import examine

    findings = examine()
    for finding in findings:
        click.echo(finding.line())
    sys.exit(0 if all(finding.fine for finding in findings) else EXIT_BROKEN)
