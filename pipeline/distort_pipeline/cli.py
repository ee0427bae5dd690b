"""The command line: options and parameter file → settings → step → printed report.

Each command imports its step at run time, so that `--help` starts without TensorFlow, Dask and OpenCV.
"""

from __future__ import annotations

import dataclasses
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distort_pipeline import __version__
from distort_pipeline.commands import utilities
from distort_pipeline.commands.console import is_closed_pipe, output_failure, prepare_streams
from distort_pipeline.commands.options import (
    EXIT_USER,
    EXPORT_FORMATS,
    STORE_PATH,
    examples,
    named_paths,
    names_as_typed,
    names_in,
    numbers_in,
    range_in,
    selection,
    show,
    target_in,
    with_defaults,
    worker_options,
)
from distort_pipeline.commands.params import PARAMS_KEY, Params, has_our_key, load_params, replaced
from distort_pipeline.config import (
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    IngestConfig,
    PairsConfig,
    TrainConfig,
)
from distort_pipeline.errors import PipelineError

if TYPE_CHECKING:
    from distort_pipeline.execution import Workers

PARAMS_FILE = Path("params.yaml")
EXIT_CLOSED_PIPE = 1
EXIT_INTERRUPTED = 130
RESUMABLE = ("pairs", "train", "generate", "export", "label")  # commands that keep finished work when stopped


class StepCommand(click.Command):
    """A pipeline step, whose errors name each setting as typed: the option, or the setting of a parameter file."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the step and return its result."""
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            error.args = (names_as_typed(str(error), ctx),)
            raise


class OrderedGroup(click.Group):
    """The group of commands, in order of the pipeline; prints a PipelineError as one line, with exit code 2."""

    command_class = StepCommand

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of the pipeline, as registered in this module."""
        return list(self.commands)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command line with any standard streams; lost output is an error at the end."""
        prepare_streams()
        try:
            return super().main(*args, **options)
        finally:
            if (failure := output_failure()) is not None:
                if is_closed_pipe(failure):
                    sys.exit(EXIT_CLOSED_PIPE)
                click.echo(f"distort-pipeline: standard output is incomplete: {failure.strerror}", err=True)
                sys.exit(EXIT_USER)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a SIGTERM, as sent by batch systems, stops like Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.echo(f"distort-pipeline: {error}", err=True)
            ctx.exit(EXIT_USER)
        except KeyboardInterrupt:
            next_run = "resumes from here" if ctx.invoked_subcommand in RESUMABLE else "starts over"
            click.echo(f"\ndistort-pipeline: stopped; the same command {next_run}", err=True)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # a further Ctrl-C ends exit handlers silently
            ctx.exit(EXIT_INTERRUPTED)


@click.group(
    cls=OrderedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="The pipeline: ingest → pairs → train → evaluate → generate → export. `COMMAND --help` shows examples and "
    "defaults; a parameter file changes the defaults.",
)
@click.version_option(__version__, prog_name="distort-pipeline")
@click.option(
    "--params", type=click.Path(path_type=Path), help="Parameter file.  [default: ./params.yaml if it is ours]"
)
@click.pass_context
def main(ctx: click.Context, params: Path | None) -> None:
    """Learn image distortions and make corpora of distorted images for image-quality research."""
    ctx.obj = params


def settings(ctx: click.Context) -> Params:
    """Return the settings of the file given by --params, else of our params.yaml in this folder, else the defaults."""
    path: Path | None = ctx.obj
    if path is None and PARAMS_FILE.is_file():
        if has_our_key(PARAMS_FILE):
            path = PARAMS_FILE
        else:
            click.echo(f"{PARAMS_FILE} is not used: its first key is not {PARAMS_KEY}", err=True)
    if path is None:
        return Params()
    params = load_params(path)
    click.echo(f"settings from {path}", err=True)
    return params


def workers_of(config: Any, scheduler: str | None, scheduler_file: Path | None, threads: int = 1) -> Workers:
    """Return the workers of a step, from its section and options."""
    from distort_pipeline.execution import Workers

    return Workers(config.workers, threads, scheduler, str(scheduler_file) if scheduler_file else None)


@with_defaults(IngestConfig)
@main.command(epilog=examples("ingest photos/ --out manifest.jsonl", "ingest photos.zip --val-count 44"))
@click.argument("source", required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("manifest.jsonl"),
    show_default=True,
    help="Manifest to write.",
)
@click.option("--rejected", type=click.Path(path_type=Path), help="CSV to write of rejected files and reasons.")
@click.option("--val-count", type=int, help="Exact number of validation images.")
@click.option("--val-fraction", type=float, help="Approximate fraction of validation images.")
@click.option("--min-side-px", type=int, help="Smaller images are rejected.")
@click.option("--licence", help="Licence of images without one.")
@click.option("--workers", type=int, help="Decoding threads.")
@click.pass_context
def ingest(ctx: click.Context, /, source: str | None, out: Path, rejected: Path | None, **changes: Any) -> None:
    """List the usable pristine images in a manifest.

    SOURCE is a folder, a zip or tar archive, a CSV or JSONL list, or an earlier manifest.
    """
    from distort_pipeline.steps import ingest as step

    show(step.run(replaced(settings(ctx).ingest, source=source, **changes), out, rejected))


@with_defaults(PairsConfig)
@main.command(
    epilog=examples(
        "pairs manifest.jsonl --out pairs",
        "pairs manifest.jsonl --distortions jpeg,jp2k --preset kadid --levels 1,3,5",
        "pairs manifest.jsonl --external-pairs camera=shots/degraded",
    )
)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--out", type=STORE_PATH, default=Path("pairs"), show_default=True, help="Pair store to write.")
@click.option("--root", type=click.Path(path_type=Path), help="New folder of the manifest's images, if moved.")
@click.option("--distortions", help="Comma-separated.  [default: the four, or none with external pairs]")
@click.option(
    "--external-pairs", multiple=True, metavar="NAME=PATH", help="External pairs: folder, archive or CSV; repeatable."
)
@click.option("--align", is_flag=True, default=None, help="Move pristine images by the shift of their external pairs.")
@click.option("--preset", help="five_levels, waterloo, kadid or dbcnn.  [default: paper_like]")
@click.option("--levels", help="Comma-separated levels of the preset.")
@click.option("--tile-px", type=int, help="Side of a tile, a multiple of 128.")
@click.option("--min-tile-px", type=int, help="Least side of an image for training tiles.")
@click.option("--tiles-per-image", type=int, help="Training tiles per image.")
@click.option("--seed", type=int, help="Seed of all random draws.")
@worker_options
@click.pass_context
def pairs(
    ctx: click.Context,
    /,
    manifest: Path,
    out: Path,
    root: Path | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    distortions: str | None,
    external_pairs: tuple[str, ...],
    levels: str | None,
    **changes: Any,
) -> None:
    """Make a pair store of pristine and distorted tiles."""
    from distort_pipeline.steps import pairs as step

    section = settings(ctx).pairs
    if external_pairs and distortions is None and section.distortions == PairsConfig.distortions:
        distortions = ""  # external pairs alone, unless distortions were named
    config = replaced(
        section,
        distortions=names_in(distortions),
        external=named_paths(external_pairs) or None,
        levels=numbers_in(levels),
        **changes,
    )
    show(step.run(config, manifest, out, root=root, workers=workers_of(config, scheduler, scheduler_file)))


@with_defaults(TrainConfig)
@main.command(
    epilog=examples(
        "train pairs --distortion jpeg --steps 0",
        "train pairs --distortion jpeg --steps 0 --levels 1,2,3,4,5",
        "train pairs --distortion jpeg --init-from pretrained --steps 2000 --out models/my-jpeg",
        "train pairs --distortion white_noise --steps 2000 --base-filters 16 --precision mixed_bfloat16",
    )
)
@click.argument("pair_store", metavar="PAIRS", type=STORE_PATH)
@click.option("--distortion", required=True, help="Distortion of the pair store to learn.")
@click.option("--out", type=click.Path(path_type=Path), help="Model folder to write.  [default: models/DISTORTION]")
@click.option("--init-from", help="Initial model: a folder, or 'pretrained' for the shipped model.")
@click.option("--levels", help="Comma-separated; several: multi-level.  [default: the first]")
@click.option("--steps", type=int, help="Training steps; 0: least-squares fit alone.")
@click.option("--minutes", type=float, help="As many steps as fit.  [external pairs: 20]")
@click.option("--keep-anyway", is_flag=True, default=None, help="Keep a model that the identity baseline beats.")
@click.option("--base-filters", type=int, help="Width of the generator; 64 in the paper.")
@click.option("--discriminator-filters", type=int, metavar="N", help="Width of the discriminator; 64 in the paper.")
@click.option("--batch-size", type=int, help="Crops per step.")
@click.option("--crop-px", type=int, help="Side of a crop, a multiple of 128.")
@click.option("--lambda-l1", type=float, help="Weight of the L1 term, lambda in the paper.")
@click.option("--discriminator-lr", type=float, help="Learning rate of the discriminator.")
@click.option("--checkpoint-every", type=int, help="Steps between checkpoints, at most 5 minutes.")
@click.option("--noise-channels", type=int, help="z channels per scale; 0: deterministic, as in the paper.")
@click.option("--precision", help="float32 or mixed_bfloat16.")
@click.option("--seed", type=int, help="Seed of all random draws.")
@click.option("--threads", type=int, help="Threads of TensorFlow; 0: one per core.")
@click.pass_context
def train(
    ctx: click.Context,
    /,
    pair_store: Path,
    distortion: str,
    out: Path | None,
    init_from: str | None,
    levels: str | None,
    **changes: Any,
) -> None:
    """Train the generator of one distortion.

    An interrupted training resumes from its last checkpoint.
    """
    from distort_pipeline.commands.params import pretrained
    from distort_pipeline.steps import train as step

    config = replaced(settings(ctx).train, levels=numbers_in(levels), external_steps=changes["steps"], **changes)
    start = pretrained(distortion) if init_from == "pretrained" else Path(init_from) if init_from else None
    show(step.run(config, pair_store, out or Path("models") / distortion, distortion=distortion, init_from=start))


@with_defaults(EvaluateConfig)
@main.command(epilog=examples("evaluate pairs --models models --out evaluation", "evaluate pairs --c2st-steps 0"))
@click.argument("pair_store", metavar="PAIRS", type=STORE_PATH)
@click.option(
    "--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True, help="Folder of models."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("evaluation"),
    show_default=True,
    help="Folder of the evaluation to write.",
)
@click.option("--side-by-side", type=int, help="Number of side-by-side images.")
@click.option("--c2st-steps", type=int, help="Steps of each classifier two-sample test; 0: no tests.")
@click.option("--seed", type=int, help="Seed of all random draws.")
@click.pass_context
def evaluate(ctx: click.Context, /, pair_store: Path, models: Path, out: Path, **changes: Any) -> None:
    """Compare generated with true distortions on the validation images.

    Writes a page with the paper's table, identity baseline, noise floors, NSS features, C2ST and TSTR.
    """
    from distort_pipeline.steps import evaluate as step

    show(step.run(replaced(settings(ctx).evaluate, **changes), pair_store, models, out))


@with_defaults(GenerateConfig)
@main.command(
    epilog=examples(
        "generate --count 200",
        "generate photos/ --count 5000",
        "generate manifest.jsonl --models models --count 100000",
        "generate --count 5000 --distortions jpeg,white_noise --tile-px 384",
        "generate --count 5000 --num-levels 5",
        "generate --count 5000 --severity 0.2:0.9 --composite jpeg+white_noise",
        "generate --count 5000 --target ssim=0.5:0.9",
        "generate --whole-images --count 80",
    )
)
@click.argument("images", type=click.Path(path_type=Path), required=False)
@click.option("--manifest", type=click.Path(path_type=Path), help="Same as IMAGES.")
@click.option("--models", type=click.Path(path_type=Path), help="Folder of models.  [default: models, else pretrained]")
@click.option("--out", type=STORE_PATH, default=Path("corpus"), show_default=True, help="Corpus to write.")
@click.option("--root", type=click.Path(path_type=Path), help="New folder of the manifest's images, if moved.")
@click.option("--count", type=int, help="Samples in all, split evenly over conditions.")
@click.option("--distortions", help="Comma-separated model names.  [default: all]")
@click.option("--num-levels", type=int, help="Number of levels per distortion; each tile gets all levels.")
@click.option("--severity", metavar="S or LO:HI", help="Severity of all samples, or a range to draw from; 0 to 1.")
@click.option("--target", metavar="M=Q or M=LO:HI", help="Target quality instead of a severity, such as ssim=0.8.")
@click.option("--composite", multiple=True, metavar="A+B", help="Composite distortion: apply A, then B; repeatable.")
@click.option("--tile-px", type=int, help="Side of a tile, a multiple of 128.")
@click.option("--whole-images", is_flag=True, default=None, help="Whole images instead of tiles.")
@click.option("--splits", help="Comma-separated splits: train, val, test.")
@click.option("--samples-per-shard", type=int, help="Samples per shard, batch, task and report.")
@click.option(
    "--allow-repeats", is_flag=True, default=None, help="Allow the same tile again for a deterministic model."
)
@click.option("--truth-images", type=int, help="Truly distorted images per report.")
@click.option("--precision", help="float32 or mixed_bfloat16.")
@click.option("--on-fail", help="Action on a rejected batch: flag or stop.")
@click.option("--seed", type=int, help="Seed of all random draws.")
@worker_options
@click.pass_context
def generate(
    ctx: click.Context,
    /,
    images: Path | None,
    manifest: Path | None,
    models: Path | None,
    out: Path,
    root: Path | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    distortions: str | None,
    splits: str | None,
    severity: str | None,
    target: str | None,
    composite: tuple[str, ...],
    **changes: Any,
) -> None:
    """Make a corpus of distorted tiles, with a report of every batch.

    Models trained at several levels take --num-levels, --severity and --target. With --composite, the corpus has
    composites only, unless --distortions is given.

    IMAGES is a manifest, or any source for `ingest`: a folder, an archive, a list. Default: manifest.jsonl if present,
    else the built-in photographs.
    """
    from distort_pipeline.commands.params import models_or_pretrained, resolve_inputs
    from distort_pipeline.steps import generate as step

    config = replaced(
        settings(ctx).generate,
        distortions=names_in(distortions),
        splits=names_in(splits),
        severity=range_in(severity, "--severity"),
        target=target_in(target),
        composite=composite or None,
        **changes,
    )
    workers = workers_of(config, scheduler, scheduler_file, config.threads_per_worker)
    resolved, summary = resolve_inputs(images or manifest, out, settings(ctx).ingest)
    report = step.run(config, resolved, models_or_pretrained(models), out, root=root, workers=workers)
    show(dataclasses.replace(report, lines=(*summary, *report.lines)))


@with_defaults(ExportConfig)
@main.command(
    epilog=f"Formats: {EXPORT_FORMATS}.\n\n"
    + examples(
        "export corpus --format png_folder --out images",
        "export corpus --format pyiqa_fr --label ms_ssim --select split=train",
        "export corpus --format study --limit 400 --study-sessions 30",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("export"),
    show_default=True,
    help="Folder of the export to write.",
)
@click.option("--format", help="Format of the files, see below.")
@click.option("--limit", type=int, help="Largest number of samples, split evenly over distortions.")
@click.option("--select", multiple=True, help="distortion=NAMES, level=NUMBERS or split=NAMES; repeatable.")
@click.option("--label", help="Score in formats with scores.")
@click.option("--allow-flagged", is_flag=True, default=None, help="Include rejected batches.")
@click.option("--seed", type=int, help="Seed of the trials of a study.")
@click.option("--study-sessions", type=int, help="Sessions of a study.")
@click.option("--study-trials", type=int, help="Trials per session of a study.")
@worker_options
@click.pass_context
def export(
    ctx: click.Context,
    /,
    corpus: Path,
    out: Path,
    scheduler: str | None,
    scheduler_file: Path | None,
    select: tuple[str, ...],
    **changes: Any,
) -> None:
    """Write a corpus as files for other tools."""
    from distort_pipeline.steps import export as step

    config = replaced(settings(ctx).export, **selection(select), **changes)
    show(step.run(config, corpus, out, workers=workers_of(config, scheduler, scheduler_file)))


for command in (
    utilities.label,
    utilities.verify,
    utilities.gallery,
    utilities.model,
    utilities.doctor,
):
    main.add_command(command)
