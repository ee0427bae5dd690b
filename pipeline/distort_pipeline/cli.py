"""The command line: options and parameter file → settings → step → printed report.

A step is imported at run time, and a utility command with its options, so that `--help` starts without TensorFlow, Dask
and OpenCV.
"""

from __future__ import annotations

import dataclasses
import re
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from click.core import ParameterSource

from distort_pipeline import __version__
from distort_pipeline.commands.options import (
    DISTORTION,
    EXIT_USER,
    PATH,
    SELECTABLE,
    STORE_PATH,
    default_map,
    examples,
    given,
    options,
    scheduler_options,
    selection,
    show,
    workers_of,
)
from distort_pipeline.commands.params import PARAMS_KEY, SECTIONS, Params, has_our_key, load_params, replaced
from distort_pipeline.config import EvaluateConfig, ExportConfig, GenerateConfig, IngestConfig, PairsConfig, TrainConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.process import is_closed_pipe, output_failure, prepare_streams

EXIT_CLOSED_PIPE = 1
EXIT_INTERRUPTED = 130
RESUMABLE = ("pairs", "train", "generate", "export", "label")  # commands that keep finished work when stopped
SELECTED = "|".join(f"{name}s" for name in SELECTABLE)  # settings of --select


class StepCommand(click.Command):
    """A pipeline step, whose errors name each setting as typed: the option, or the setting of a parameter file."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the step and return its result."""
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            error.args = (names_as_typed(str(error), ctx),)
            raise


def names_as_typed(message: str, ctx: click.Context) -> str:
    """Return an error message of a step with `--severity` for `generate.severity`, if given on the command line."""
    for parameter in ctx.command.params:
        name = parameter.name or ""
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            typed = parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name
            settings = SELECTED if name == "select" else name
            message = re.sub(rf"\b{ctx.command.name}\.({settings})\b", typed, message)
    return message


class Utility(click.Command):
    """The name and the short help of a command that lies with its options in a module of `commands`."""

    def __init__(self, name: str, module: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self._module = module

    def load(self) -> click.Command:
        """Return the command itself, called `NAME_command` in its module."""
        command: click.Command = getattr(
            import_module(f"distort_pipeline.commands.{self._module}"), f"{self.name}_command"
        )
        return command


class OrderedGroup(click.Group):
    """The group of commands, in order of the pipeline; prints a PipelineError as one line, with exit code 2."""

    command_class = StepCommand

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the commands in the order of the pipeline, as registered in this module."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return name, command and remaining arguments; only here a utility command is imported."""
        name, command, remaining = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, Utility) else command, remaining

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


PARAMS_FILE = Path("params.yaml")
ROOT_HELP = "New folder of the manifest's images, if moved."


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
    if params is None and PARAMS_FILE.is_file():
        if has_our_key(PARAMS_FILE):
            params = PARAMS_FILE
        else:
            click.echo(f"{PARAMS_FILE} is not used: its first key is not {PARAMS_KEY}", err=True)
    ctx.obj = params
    if params is not None and ctx.invoked_subcommand in SECTIONS:
        with suppress(PipelineError):  # said by `settings`, behind `--help`
            ctx.default_map = default_map(load_params(params))


def settings(ctx: click.Context) -> Params:
    """Return the settings of the file given by --params, else of our params.yaml in this folder, else the defaults."""
    path: Path | None = ctx.obj
    if path is None:
        return Params()
    params = load_params(path)
    click.echo(f"settings from {path}", err=True)
    return params


@main.command(epilog=examples("ingest photos/ --out manifest.jsonl", "ingest photos.zip --val-count 44"))
@click.argument("source", required=False)
@click.option("--out", type=PATH, default="manifest.jsonl", show_default=True, help="Manifest to write.")
@click.option("--rejected", type=PATH, help="CSV to write of rejected files and reasons.")
@options(IngestConfig)
@click.pass_context
def ingest(ctx: click.Context, /, source: str | None, out: Path, rejected: Path | None, **changes: Any) -> None:
    """List the usable pristine images in a manifest.

    SOURCE is a folder, a zip or tar archive, a CSV or JSONL list, or an earlier manifest.
    """
    from distort_pipeline.steps import ingest as step

    show(step.run(replaced(settings(ctx).ingest, source=source, **changes), out, rejected))


@main.command(
    epilog=examples(
        "pairs manifest.jsonl --out pairs",
        "pairs manifest.jsonl --distortions jpeg,jp2k --preset kadid --levels 1,3,5",
        "pairs manifest.jsonl --external-pairs camera=shots/degraded",
        "pairs manifest.jsonl --external-pairs camera=shots/iso800,shots/iso3200",
    )
)
@click.argument("manifest", type=PATH)
@click.option("--out", type=STORE_PATH, default="pairs", show_default=True, help="Pair store to write.")
@click.option("--root", type=PATH, help=ROOT_HELP)
@options(PairsConfig)
@scheduler_options
@click.pass_context
def pairs(
    ctx: click.Context,
    /,
    manifest: Path,
    out: Path,
    root: Path | None,
    scheduler: str | None,
    scheduler_file: Path | None,
    **changes: Any,
) -> None:
    """Make a pair store of pristine and distorted tiles."""
    from distort_pipeline.steps import pairs as step

    section = settings(ctx).pairs
    if given(ctx, "external") and not given(ctx, "distortions") and section.distortions == PairsConfig.distortions:
        changes["distortions"] = ()  # external pairs alone, unless distortions were named
    config = replaced(section, **changes)
    show(step.run(config, manifest, out, root=root, workers=workers_of(config.workers, scheduler, scheduler_file)))


@main.command(
    epilog=examples(
        "train pairs --distortion jpeg --steps 0",
        "train pairs --distortion jpeg --steps 0 --levels 1,2,3,4,5",
        "train pairs --distortion jpeg --init-from pretrained --steps 2000 --out models/my-jpeg",
        "train pairs --distortion white_noise --steps 2000 --base-filters 16 --precision mixed_bfloat16",
    )
)
@click.argument("pair_store", metavar="PAIRS", type=STORE_PATH)
@click.option("--distortion", required=True, type=DISTORTION, help="Distortion of the pair store to learn.")
@click.option("--out", type=PATH, help="Model folder to write.  [default: models/DISTORTION]")
@click.option("--init-from", help="Initial model: a folder, or 'pretrained' for the shipped model.")
@options(TrainConfig)
@click.pass_context
def train(
    ctx: click.Context,
    /,
    pair_store: Path,
    distortion: str,
    out: Path | None,
    init_from: str | None,
    **changes: Any,
) -> None:
    """Train the generator of one distortion.

    An interrupted training resumes from its last checkpoint.
    """
    from distort_pipeline.commands.inputs import pretrained
    from distort_pipeline.steps import train as step

    steps = changes["steps"] if given(ctx, "steps") else None
    config = replaced(settings(ctx).train, external_steps=steps, **changes)
    start = pretrained(distortion) if init_from == "pretrained" else Path(init_from) if init_from else None
    show(step.run(config, pair_store, out or Path("models") / distortion, distortion=distortion, init_from=start))


@main.command(epilog=examples("evaluate pairs --models models --out evaluation", "evaluate pairs --c2st-steps 0"))
@click.argument("pair_store", metavar="PAIRS", type=STORE_PATH)
@click.option("--models", type=PATH, default="models", show_default=True, help="Folder of models.")
@click.option("--out", type=PATH, default="evaluation", show_default=True, help="Folder of the evaluation to write.")
@options(EvaluateConfig)
@click.pass_context
def evaluate(ctx: click.Context, /, pair_store: Path, models: Path, out: Path, **changes: Any) -> None:
    """Compare generated with true distortions on validation images.

    Writes a page with the paper's table, identity baseline, noise floors, NSS features, C2ST and TSTR.
    """
    from distort_pipeline.steps import evaluate as step

    show(step.run(replaced(settings(ctx).evaluate, **changes), pair_store, models, out))


@main.command(
    epilog=examples(
        "generate --count 200",
        "generate photos/ --count 5000",
        "generate manifest.jsonl --models models --count 100000",
        "generate --count 5000 --distortions jpeg,white_noise --tile-px 384",
        "generate --count 5000 --num-levels 5",
        "generate --count 5000 --severity 0.2:0.7 --composite jpeg+white_noise",
        "generate --count 5000 --target ssim=0.5:0.9",
        "generate --whole-images --count 80",
    )
)
@click.argument("images", type=PATH, required=False)
@click.option("--manifest", type=PATH, help="Same as IMAGES.")
@click.option("--models", type=PATH, help="Folder of models.  [default: models, else pretrained]")
@click.option("--out", type=STORE_PATH, default="corpus", show_default=True, help="Corpus to write.")
@click.option("--root", type=PATH, help=ROOT_HELP)
@options(GenerateConfig)
@click.option("--dry-run", is_flag=True, help="Say samples, bytes and seconds; write nothing.")
@scheduler_options
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
    dry_run: bool,
    **changes: Any,
) -> None:
    """Make a corpus of distorted tiles, with a report of every batch.

    Models trained at several levels make all their levels, or take --num-levels, --severity or --target. With
    --composite, the corpus has composites only, unless --distortions is given.

    IMAGES is a manifest, or any source for `ingest`: a folder, an archive, a list. Default: manifest.jsonl if present,
    else the built-in photographs.
    """
    from distort_pipeline.commands.inputs import models_for, resolve_inputs
    from distort_pipeline.steps import generate as step
    from distort_pipeline.steps.corpus_plan import estimate

    params = settings(ctx)
    config = replaced(params.generate, **changes)
    workers = workers_of(config.workers, scheduler, scheduler_file, threads=config.threads_per_worker)
    if dry_run:
        with TemporaryDirectory() as folder:
            resolved, summary = resolve_inputs(images or manifest, Path(folder) / "corpus", params.ingest)
            report = estimate(config, resolved, models_for(config.model_names, models), out, root=root)
        show(dataclasses.replace(report, lines=(*summary, *report.lines)))
        return
    resolved, summary = resolve_inputs(images or manifest, out, params.ingest)
    report = step.run(config, resolved, models_for(config.model_names, models), out, root=root, workers=workers)
    show(dataclasses.replace(report, lines=(*summary, *report.lines)))


@main.command(
    epilog=examples(
        "export corpus --format png_folder --out images",
        "export corpus --format pyiqa_fr --label ms_ssim --select split=train",
        "export corpus --format study --limit 400 --study-sessions 30",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--out", type=PATH, default="export", show_default=True, help="Folder of the export to write.")
@click.option("--select", multiple=True, help="distortion=NAMES, level=NUMBERS or split=NAMES; repeatable.")
@options(ExportConfig)
@scheduler_options
@click.pass_context
def export(
    ctx: click.Context,
    /,
    corpus: Path,
    out: Path,
    select: tuple[str, ...],
    scheduler: str | None,
    scheduler_file: Path | None,
    **changes: Any,
) -> None:
    """Write a corpus as files for other tools."""
    from distort_pipeline.steps import export as step

    config = replaced(settings(ctx).export, **selection(select), **changes)
    show(step.run(config, corpus, out, workers=workers_of(config.workers, scheduler, scheduler_file)))


for utility in (
    Utility("distort", "images", "Distort images by a generator or a true distortion."),
    Utility("list", "images", "List the distortions and the generators."),
    Utility("score", "images", "Compare the statistics of two folders of images."),
    Utility("label", "label", "Add a metric or people's ratings to the samples of a corpus."),
    Utility("verify", "verify", "Compare the files of stores with their checksums."),
    Utility("gallery", "gallery", "Write contact sheets of a corpus as PNG files, for figures."),
    Utility("model", "model", "Export trained generators for other programs."),
    Utility("doctor", "doctor", "Check the installation and suggest remedies."),
):
    main.add_command(utility)
