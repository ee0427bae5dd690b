"""`distort-pipeline WORD`: options and parameter file → settings → step; prints the step's report.

Each word imports its step when it runs, so that `--help` starts without TensorFlow, Dask and OpenCV.
"""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from distort_pipeline import __version__, utility_commands
from distort_pipeline.config import (
    EvaluateConfig,
    ExportConfig,
    GenerateConfig,
    IngestConfig,
    PairsConfig,
    TrainConfig,
)
from distort_pipeline.errors import PipelineError
from distort_pipeline.options import (
    EXPORT_FORMATS,
    STORE_PATH,
    ends_in,
    examples,
    named_path,
    names_in,
    numbers_in,
    selection,
    show,
    target_in,
    with_defaults,
    worker_options,
)
from distort_pipeline.params import PARAMS_KEY, Params, load_params, replaced, says_it_is_ours

if TYPE_CHECKING:
    from distort_pipeline.execution import Workers

PARAMS_FILE = Path("params.yaml")
EXIT_USER = 2
EXIT_INTERRUPTED = 130
GOING_ON = ("pairs", "train", "generate", "export", "label")  # words that keep what they have done when stopped


class OrderedGroup(click.Group):
    """The group of words, in the path's order: turns what a user can cause into one line and exit code 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the words in the order in which they stand here, which is the path's."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the word; a SIGTERM, as batch systems send it, stops like Ctrl-C."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except PipelineError as error:
            click.echo(f"distort-pipeline: {error}", err=True)
            ctx.exit(EXIT_USER)
        except KeyboardInterrupt:
            next_time = "goes on where this one was" if ctx.invoked_subcommand in GOING_ON else "begins again"
            click.echo(f"\ndistort-pipeline: stopped; the same command {next_time}", err=True)
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_DFL)  # one more ends what libraries do at exit, without a word
            ctx.exit(EXIT_INTERRUPTED)


@click.group(
    cls=OrderedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="The path: ingest → pairs → train → evaluate → generate → export. `WORD --help` has examples, and defaults, "
    "which a parameter file changes.",
)
@click.version_option(__version__, prog_name="distort-pipeline")
@click.option("--params", type=click.Path(path_type=Path), help="Parameter file; ./params.yaml is used if it is ours.")
@click.pass_context
def main(ctx: click.Context, params: Path | None) -> None:
    """Learn how images go bad, and make corpora of distorted images for image-quality research."""
    ctx.obj = params


def settings(ctx: click.Context) -> Params:
    """Return the settings of the parameter file that was named, or of ours in this folder, or the defaults."""
    named: Path | None = ctx.obj
    if named is None and PARAMS_FILE.is_file():
        if says_it_is_ours(PARAMS_FILE):
            named = PARAMS_FILE
        else:
            click.echo(f"{PARAMS_FILE} is not used: its first key is not {PARAMS_KEY}", err=True)
    if named is None:
        return Params()
    params = load_params(named)
    click.echo(f"settings from {named}", err=True)
    return params


def workers_of(config: Any, scheduler: str | None, scheduler_file: Path | None, threads: int = 1) -> Workers:
    """Return where tasks run."""
    from distort_pipeline.execution import Workers

    return Workers(config.workers, threads, scheduler, str(scheduler_file) if scheduler_file else None)


@with_defaults(IngestConfig)
@main.command(epilog=examples("ingest photos/ --out manifest.jsonl", "ingest photos.zip --val-count 44"))
@click.argument("source", required=False)
@click.option("--out", type=click.Path(path_type=Path), default=Path("manifest.jsonl"), show_default=True)
@click.option("--rejected", type=click.Path(path_type=Path), help="Where to list what is no use, with reasons.")
@click.option("--val-count", type=int, help="How many images are for validation, exactly.")
@click.option("--val-fraction", type=float, help="Which fraction is, about.")
@click.option("--min-side-px", type=int, help="Smaller images are rejected.")
@click.option("--licence", help="Licence of images that come without one.")
@click.option("--workers", type=int, help="Threads that decode.")
@click.pass_context
def ingest(ctx: click.Context, /, source: str | None, out: Path, rejected: Path | None, **changes: Any) -> None:
    """List pristine images in a manifest.

    SOURCE is a folder, a zip or tar archive, a CSV or JSONL list, or an earlier manifest.
    """
    from distort_pipeline.steps import ingest as step

    show(step.run(replaced(settings(ctx).ingest, source=source, **changes), out, rejected))


@with_defaults(PairsConfig)
@main.command(
    epilog=examples(
        "pairs manifest.jsonl --out pairs",
        "pairs manifest.jsonl --distortions jpeg,jp2k --preset kadid --levels 1,3,5",
        "pairs manifest.jsonl --distortions '' --external-pairs camera=shots/degraded",
    )
)
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--out", type=STORE_PATH, default=Path("pairs"), show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="Where the manifest's images lie now, if elsewhere.")
@click.option("--distortions", help="Names, separated by commas; '' for none of ours.")
@click.option("--external-pairs", multiple=True, metavar="NAME=PATH", help="Your own pairs: a folder or a CSV.")
@click.option("--preset", help="Whose levels: paper_like, ladder, waterloo, kadid, dbcnn.")
@click.option("--levels", help="Level numbers of the preset, separated by commas.")
@click.option("--tile-px", type=int)
@click.option("--min-tile-px", type=int, help="Images smaller than this give no training tile.")
@click.option("--tiles-per-image", type=int)
@click.option("--seed", type=int)
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
    """Make the pair store: pristine tiles, each beside its distorted ones."""
    from distort_pipeline.steps import pairs as step

    config = replaced(
        settings(ctx).pairs,
        distortions=names_in(distortions),
        external=dict(named_path(text) for text in external_pairs) or None,
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
@click.option("--distortion", required=True, help="Which of the pair store's distortions to learn.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of the model.  [default: models/DISTORTION]")
@click.option("--init-from", help="Folder of a trained model to start from, or 'pretrained' for the shipped one.")
@click.option("--levels", help="Several make a dial: G takes a severity.  [default: the pairs' first level]")
@click.option("--steps", type=int, help="0: only what least squares read off the pairs, a minute or two.")
@click.option("--base-filters", type=int, help="Width of the generator; the paper's is 64.")
@click.option("--discriminator-filters", type=int)
@click.option("--batch-size", type=int, help="Crops a step.")
@click.option("--crop-px", type=int, help="A multiple of 128.")
@click.option("--lambda-l1", type=float, help="The paper's lambda.")
@click.option("--discriminator-lr", type=float, help="Learning rate of the discriminator; the paper's is 0.0001.")
@click.option("--checkpoint-every", type=int, help="Steps; every five minutes there is one in any case.")
@click.option("--noise-channels", type=int, help="z channels a scale; 0 is the paper's deterministic generator.")
@click.option("--precision", help="float32 or mixed_bfloat16.")
@click.option("--seed", type=int)
@click.option("--threads", type=int, help="Of TensorFlow; 0: one for each core.")
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
    """Train the generator of one distortion; an interrupted training goes on from its checkpoint."""
    from distort_pipeline.assets import pretrained
    from distort_pipeline.steps import train as step

    config = replaced(settings(ctx).train, levels=numbers_in(levels), **changes)
    start = pretrained(distortion) if init_from == "pretrained" else Path(init_from) if init_from else None
    show(step.run(config, pair_store, out or Path("models") / distortion, distortion=distortion, init_from=start))


@with_defaults(EvaluateConfig)
@main.command(epilog=examples("evaluate pairs --models models --out evaluation", "evaluate pairs --c2st-steps 0"))
@click.argument("pair_store", metavar="PAIRS", type=STORE_PATH)
@click.option("--models", type=click.Path(path_type=Path), default=Path("models"), show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("evaluation"), show_default=True)
@click.option("--side_by_side", type=int, help="How many images are shown side by side.")
@click.option(
    "--c2st-steps",
    type=int,
    help="Of each classifier that tries to tell generated from true; 0 leaves them out, which saves minutes.",
)
@click.option("--seed", type=int)
@click.pass_context
def evaluate(ctx: click.Context, /, pair_store: Path, models: Path, out: Path, **changes: Any) -> None:
    """Hold the generators against the true distortions on validation images: the paper's table, and more."""
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
@click.option("--manifest", type=click.Path(path_type=Path), help="The same as IMAGES.")
@click.option("--models", type=click.Path(path_type=Path), help="[default: models, else the pretrained generators]")
@click.option("--out", type=STORE_PATH, default=Path("corpus"), show_default=True)
@click.option("--root", type=click.Path(path_type=Path), help="Where the manifest's images lie now, if elsewhere.")
@click.option("--count", type=int, help="Distorted tiles in all, split evenly over the models and their levels.")
@click.option("--distortions", help="Names of models, separated by commas.  [default: all there are]")
@click.option("--num-levels", type=int, help="How many strengths of each distortion, every tile at all of them.")
@click.option(
    "--severity", metavar="S or LO:HI", help="From 0 to 1, for all samples, or for each its own out of a range."
)
@click.option("--target", metavar="M=Q or M=LO:HI", help="A quality instead of a severity, such as ssim=0.8.")
@click.option("--composite", multiple=True, metavar="A+B", help="B on what A left; can be given again.")
@click.option("--tile-px", type=int, help="A multiple of 128.")
@click.option("--whole-images", is_flag=True, default=None, help="Whole images instead of tiles.")
@click.option("--splits", help="Which photographs: train, val, test, separated by commas.")
@click.option("--samples-per-shard", type=int, help="One batch is one shard, one task and one report.")
@click.option("--allow-repeats", is_flag=True, default=None, help="Let deterministic models see a tile again.")
@click.option("--truth-images", type=int, help="Images a batch whose true distortion is made for its report.")
@click.option("--precision", help="float32 or mixed_bfloat16.")
@click.option("--on-fail", help="flag or stop, when a batch is rejected.")
@click.option("--seed", type=int)
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

    Levels, severities and qualities can be asked of models that have learned several levels. With a mix there are only
    mixes, unless distortions are named.

    IMAGES is a manifest, or anything that `ingest` takes: a folder, an archive, a list. Without it, that is
    manifest.jsonl, and where there is none, the built-in photographs.
    """
    from distort_pipeline.inputs import models_or_pretrained, resolve_inputs
    from distort_pipeline.steps import generate as step

    config = replaced(
        settings(ctx).generate,
        distortions=names_in(distortions),
        splits=names_in(splits),
        severity=ends_in(severity, "--severity"),
        target=target_in(target),
        composite=composite or None,
        **changes,
    )
    workers = workers_of(config, scheduler, scheduler_file, config.threads_per_worker)
    listed = resolve_inputs(images or manifest, out, settings(ctx).ingest)
    show(step.run(config, listed, models_or_pretrained(models), out, root=root, workers=workers))


@with_defaults(ExportConfig)
@main.command(
    epilog=examples(
        "export corpus --format png_folder --out images",
        "export corpus --format pyiqa_fr --label ms_ssim --select split=train",
        "export corpus --format study --limit 400 --study-sessions 30",
    )
)
@click.argument("corpus", type=STORE_PATH)
@click.option("--out", type=click.Path(path_type=Path), default=Path("export"), show_default=True)
@click.option("--format", help=f"Which files to write: {EXPORT_FORMATS}.")
@click.option("--limit", type=int, help="How many samples at most, as many of each distortion.")
@click.option("--select", multiple=True, help="distortion=NAMES, level=NUMBERS or split=NAMES; can be given again.")
@click.option("--label", help="The score of formats that carry one.")
@click.option("--allow-flagged", is_flag=True, default=None, help="Also batches that are rejected.")
@click.option("--seed", type=int, help="Of a study's trials.")
@click.option("--study-sessions", type=int)
@click.option("--study-trials", type=int, help="In each session.")
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
    """Write a corpus as files that other tools open."""
    from distort_pipeline.steps import export as step

    config = replaced(settings(ctx).export, **selection(select), **changes)
    show(step.run(config, corpus, out, workers=workers_of(config, scheduler, scheduler_file)))


for word in (
    utility_commands.label,
    utility_commands.verify,
    utility_commands.gallery,
    utility_commands.model,
    utility_commands.doctor,
):
    main.add_command(word)
