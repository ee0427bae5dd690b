"""Compares one generator of all distortions with four separate generators on the validation images of a pair store.

    python -m studies.one_generator PAIRS [--steps N] [--out FOLDER]

PAIRS has five levels (`pairs --preset five_levels --levels 1,2,3,4,5`). Compared are (a) the four pretrained
generators of the package, which were fitted; (b) four small U-Nets, each conditioned on the severity of one distortion
and trained for N / 4 steps; (c) one such U-Net, conditioned on the severities of all four distortions and trained for N
steps, with composites of codec and white noise in a quarter of its crops. Trained weights are stored in FOLDER; a
stopped run resumes there, also with a larger N. Prints Markdown: JSD_NSS in bits at each level and of composites, and
size and time of each generator.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import click

from distort_pipeline.commands.inputs import PRETRAINED
from distort_pipeline.data.pairs import PairStore, open_pairs
from distort_pipeline.distortions import apply, is_random
from distort_pipeline.models.store import WEIGHTS, load_generator, read_arrays, weights_of, write_arrays
from distort_pipeline.networks.backend import pin_backend_threads
from distort_pipeline.networks.wavelets import Significances
from distort_pipeline.records import Image, Images, PairRecord, derive_seed, make_rng
from distort_pipeline.training.crops import Crops
from distort_pipeline.training.gan import GANConfig
from distort_pipeline.training.loop import train
from distort_pipeline.training.validation import delta_psnr_db, summary, validation_tiles
from studies.conditioned import CompositeCrops, Conditioned, ConditionedTrainer, OneKind, conditioned

KINDS = ("jpeg", "jp2k", "white_noise", "pink_noise")
COMPOSITE = ("jpeg", "white_noise")
COMPOSITE_LEVELS = (2, 4)  # of both, since a composite has one severity
ALL = "all"
FILTERS = 16
CROPS = {"crop_px": 128, "crop_align": 16, "batch_size": 8}
PRECISION = "mixed_bfloat16"  # of training; evaluation is in float32
CHECKPOINT_EVERY = 500
TILES = 96  # four from each of 24 images
TIMED_TILES = 16  # two batches
ROUNDS = 3
NOISE_CHANNELS = 3
HALF_BYTES = 2  # of a weight as pretrained generators are packed
SEED = 0


class Distorter(Protocol):
    """A generator, or several generators in sequence."""

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted, each with its seed and severity.

        `significances` (N, 18) describe the images of these tiles.
        """


@dataclass(frozen=True)
class Sequential:
    """Distorters applied in sequence, as in `generate --composite`."""

    distorters: Sequence[Distorter]

    def distort(
        self,
        images: Images,
        seeds: Sequence[int],
        severities: Sequence[float],
        significances: Significances | None = None,
    ) -> Images:
        """Return `images` (N, H, W, 3) distorted in sequence, at equal severities."""
        outputs = self.distorters[0].distort(images, seeds, severities, significances)
        for step, distorter in enumerate(self.distorters[1:], start=1):
            outputs = distorter.distort(outputs, [derive_seed(seed, step) for seed in seeds], severities)
        return outputs


@dataclass(frozen=True)
class Row:
    """Results at one level: bits of the identity baseline, and (bits, delta PSNR in dB) of each distorter."""

    distortion: str
    severity: float
    parameters: str
    pristine: float
    scores: tuple[tuple[float, float], ...]


class CompositeTruth:
    """The validation images of a pair store under JPEG, then white noise of the same level."""

    def __init__(self, pairs: PairStore) -> None:
        self._pairs, self.folder = pairs, pairs.folder

    def records(self, split: str) -> list[PairRecord]:
        """Return the records of the store."""
        return self._pairs.records(split)

    def validation(self, distortion: str, level: int) -> Iterator[tuple[PairRecord, Image, Image]]:
        """Yield (record, pristine, composite) for each full validation image."""
        (noise,) = (recipe for recipe in self._pairs.recipes(COMPOSITE[1]) if recipe["level"] == level)
        for record, pristine, distorted in self._pairs.validation(distortion, level):
            rng = make_rng(derive_seed(SEED, "mixed truth", record.image_digest, level))
            yield record, pristine, apply(COMPOSITE[1], distorted, noise["parameters"], rng).image


def settings(name: str, kinds: Sequence[str], levels: int) -> GANConfig:
    """Return the networks of the U-Net `name`: settings of params.yaml, with noise for random kinds."""
    return GANConfig(
        base_filters=FILTERS,
        discriminator_filters=FILTERS,
        noise_channels=NOISE_CHANNELS if any(is_random(kind) for kind in kinds) else 0,
        discriminator_input="scaled_residual",
        precision=PRECISION,
        crop_px=CROPS["crop_px"],
        batch_size=CROPS["batch_size"],
        generator_lr=3e-4,
        discriminator_lr=4e-4,
        beta_1=0.5,
        beta_2=0.999,
        lambda_l1=0.1,
        l1_scale=2.0,
        l1_reduction="mean",
        ema_decay=0.999,
        seed=derive_seed(SEED, name) % 2**31,
        levels=levels,
        kinds=len(kinds),
    )


def train_unet(pairs: PairStore, name: str, kinds: Sequence[str], folder: Path, *, steps: int) -> Conditioned:
    """Return the U-Net `name` of `kinds` after `steps` steps in `folder`, resuming from its newest checkpoint."""
    networks = settings(name, kinds, len(pairs.levels(kinds[0])))
    if _steps_of(folder / WEIGHTS) != steps:
        _train(pairs, name, kinds, networks, folder, steps)
    return conditioned(
        read_arrays(folder / WEIGHTS)[0],
        kinds,
        base_filters=FILTERS,
        levels=networks.levels,
        noise_channels=networks.noise_channels,
    )


def _steps_of(weights: Path) -> int | None:
    return int(read_arrays(weights)[1]["steps"]) if weights.exists() else None


def _train(pairs: PairStore, name: str, kinds: Sequence[str], networks: GANConfig, folder: Path, steps: int) -> None:
    """Train for `steps` steps and write the EMA weights into `folder`."""
    trainer = ConditionedTrainer(networks, kinds)
    crops: Any  # the loop needs `prefetch` only
    if len(kinds) > 1:
        crops = CompositeCrops(pairs, kinds, seed=networks.seed, **CROPS)
    else:
        crops = Crops(pairs, kinds[0], pairs.levels(kinds[0]), seed=networks.seed, **CROPS)
    train(
        trainer,
        crops,
        folder,
        label=name,
        steps=steps,
        checkpoint_every=CHECKPOINT_EVERY,
        validate_every=steps,
        validate=lambda _: {},
    )
    write_arrays(folder / WEIGHTS, weights_of(trainer.ema_generator), {"steps": str(steps)})


def train_unets(pairs: PairStore, out: Path, steps: int) -> dict[str, Conditioned]:
    """Return (b) by kind, `steps` / 4 each, and (c) as "all", `steps`."""
    singles = {kind: train_unet(pairs, kind, (kind,), out / kind, steps=steps // len(KINDS)) for kind in KINDS}
    return {**singles, ALL: train_unet(pairs, ALL, KINDS, out / ALL, steps=steps)}


def scores_of(
    pairs: PairStore | CompositeTruth, distortion: str, level: int, severity: float, distorters: Sequence[Distorter]
) -> tuple[float, tuple[tuple[float, float], ...]]:
    """Return JSD_NSS of pristine to true in bits, and (JSD_NSS, delta PSNR in dB) of each distorter, image means."""
    store: Any = pairs
    tiles = validation_tiles(store, distortion, level, severity=severity, count=TILES, seed=SEED)
    scores = []
    for distorter in distorters:
        predictor: Any = distorter
        histograms, generated = tiles.histograms(predictor, derive_seed(SEED, distortion))
        figures = summary(histograms)
        scores.append((figures["jsd_nss"], delta_psnr_db(tiles, generated)))
    return figures["jsd_nss_pristine"], tuple(scores)


def rows(
    pairs: PairStore, pretrained: Mapping[str, Distorter], singles: Mapping[str, Conditioned], joint: Conditioned
) -> Iterator[Row]:
    """Yield a row for each level of each kind, and for each composite; distorters are (a), (b) and (c)."""
    for kind in KINDS:
        recipes = pairs.recipes(kind)
        for rank, recipe in enumerate(recipes, start=1):
            distorters: list[Distorter] = [pretrained[kind], OneKind(singles[kind], (kind,)), OneKind(joint, (kind,))]
            severity = rank / len(recipes)
            yield Row(
                kind, severity, _parameters(recipe), *scores_of(pairs, kind, recipe["level"], severity, distorters)
            )
    for level in COMPOSITE_LEVELS:
        recipes = [recipe for kind in COMPOSITE for recipe in pairs.recipes(kind) if recipe["level"] == level]
        composers: list[Distorter] = [
            Sequential([pretrained[kind] for kind in COMPOSITE]),
            Sequential([OneKind(singles[kind], (kind,)) for kind in COMPOSITE]),
            OneKind(joint, COMPOSITE),
        ]
        severity = level / len(pairs.levels(COMPOSITE[0]))
        scores = scores_of(CompositeTruth(pairs), COMPOSITE[0], level, severity, composers)
        yield Row("+".join(COMPOSITE), severity, ", ".join(map(_parameters, recipes)), *scores)


def _parameters(recipe: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.removesuffix('_8bit')} {value:g}" for name, value in recipe["parameters"].items())


def divergence_table(results: Sequence[Row]) -> list[str]:
    """Return the Markdown table of the rows, with means over the levels of each distortion."""
    lines = [
        "| distortion | severity | | pristine | (a) four, fitted | (b) four U-Nets | (c) one U-Net |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    for distortion in dict.fromkeys(row.distortion for row in results):
        group = [row for row in results if row.distortion == distortion]
        lines += [_line(row) for row in group]
        lines.append(f"| {distortion} | mean | | {fmean(row.pristine for row in group):.4f} | {_means(group)} |")
    pure = [row for row in results if "+" not in row.distortion]
    lines.append(f"| all four | mean | | {fmean(row.pristine for row in pure):.4f} | {_means(pure)} |")
    return lines


def _line(row: Row) -> str:
    scores = " | ".join(f"{bits:.4f} ({delta_psnr:+.1f} dB)" for bits, delta_psnr in row.scores)
    return f"| {row.distortion} | {row.severity:.1f} | {row.parameters} | {row.pristine:.4f} | {scores} |"


def _means(group: Sequence[Row]) -> str:
    return " | ".join(
        f"**{fmean(row.scores[index][0] for row in group):.4f}**" for index in range(len(group[0].scores))
    )


def seconds_per_tile(distorters: Mapping[str, Distorter], tiles: Images) -> dict[str, float]:
    """Return the CPU seconds of each distorter over all threads, the minimum over interleaved rounds.

    Wall time would depend on the load of the machine.
    """
    seeds, severities = list(range(len(tiles))), [0.6] * len(tiles)
    seconds: dict[str, list[float]] = {name: [] for name in distorters}
    for _ in range(ROUNDS + 1):
        for name, distorter in distorters.items():
            started = time.process_time()
            distorter.distort(tiles, seeds, severities)
            seconds[name].append((time.process_time() - started) / len(tiles))
    return {name: min(times[1:]) for name, times in seconds.items()}  # the first round compiles


def cost_table(counts: Mapping[str, int], megabytes: Mapping[str, float], seconds: Mapping[str, float]) -> list[str]:
    """Return the Markdown table of size and time of generators; time only for composites."""
    lines = ["| generator | weights | MB | CPU ms a tile |", "|---|---:|---:|---:|"]
    for name, cpu_seconds in seconds.items():
        sizes = f"{counts[name]:,} | {megabytes[name]:.2f}" if name in counts else "– | –"
        lines.append(f"| {name} | {sizes} | {1000 * cpu_seconds:.1f} |")
    for kind in ("(a)", "(b)"):
        group = [name for name in counts if name.startswith(kind)]
        totals = f"{sum(counts[name] for name in group):,} | {sum(megabytes[name] for name in group):.2f}"
        lines.append(f"| {kind} all four | {totals} | {1000 * fmean(seconds[name] for name in group):.1f} (mean) |")
    return lines


def costs(
    pairs: PairStore, pretrained: Mapping[str, Distorter], unets: Mapping[str, Conditioned], out: Path
) -> tuple[dict[str, int], dict[str, float], dict[str, float]]:
    """Return the number of weights, MB in half precision, and CPU seconds a tile of 256 px, by generator."""
    singles = {kind: OneKind(unets[kind], (kind,)) for kind in KINDS}
    joint = unets[ALL]
    distorters: dict[str, Distorter] = {
        **{f"(a) {kind}": pretrained[kind] for kind in KINDS},
        **{f"(b) {kind}": singles[kind] for kind in KINDS},
        "(c)": OneKind(joint, KINDS[:1]),
        "(a) composite": Sequential([pretrained[kind] for kind in COMPOSITE]),
        "(b) composite": Sequential([singles[kind] for kind in COMPOSITE]),
        "(c) composite": OneKind(joint, COMPOSITE),
    }
    paths = {f"(a) {kind}": PRETRAINED / kind / WEIGHTS for kind in KINDS}
    counts = {name: _count(path) for name, path in paths.items()}
    megabytes = {name: path.stat().st_size / 1e6 for name, path in paths.items()}
    for name, folder in {**{f"(b) {kind}": kind for kind in KINDS}, "(c)": ALL}.items():
        counts[name] = _count(out / folder / WEIGHTS)
        megabytes[name] = counts[name] * HALF_BYTES / 1e6
    tiles = validation_tiles(pairs, KINDS[0], 1, severity=1.0, count=TILES, seed=SEED).pristine[:TIMED_TILES]
    return counts, megabytes, seconds_per_tile(distorters, tiles)


def _count(path: Path) -> int:
    return sum(array.size for array in read_arrays(path)[0].values())


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--steps",
    default=1600,
    show_default=True,
    help="Training steps of the joint generator; a quarter each for the four.",
)
@click.option("--out", default="build/one_generator", type=click.Path(path_type=Path), show_default=True)
def main(pairs: Path, steps: int, out: Path) -> None:
    """Train missing U-Nets, and print both tables."""
    if steps < len(KINDS) or steps % len(KINDS):
        raise click.BadParameter(f"a multiple of {len(KINDS)}, got {steps}", param_hint="--steps")
    pin_backend_threads(0)
    store = open_pairs(pairs)
    unets = train_unets(store, out, steps)
    pretrained = {kind: load_generator(PRETRAINED / kind, batch_size=unets[kind].batch).predictor for kind in KINDS}
    singles = {kind: unets[kind] for kind in KINDS}
    click.echo(
        f"(b) {steps // len(KINDS)} steps each, (c) {steps}; {FILTERS} filters, {CROPS['crop_px']} px, "
        f"batch {CROPS['batch_size']}, seed {SEED}; four tiles of 256 px of each validation image\n"
    )
    results = []
    for row in rows(store, pretrained, singles, unets[ALL]):
        click.echo(_line(row), err=True)
        results.append(row)
    click.echo("\n".join(divergence_table(results)))
    click.echo("\n" + "\n".join(cost_table(*costs(store, pretrained, unets, out))))


if __name__ == "__main__":
    main()
