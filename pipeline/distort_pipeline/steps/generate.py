"""generate: distort any number of tiles with the trained generators, each batch with its own report."""

from __future__ import annotations

import dataclasses
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from distort_pipeline.backend import backend_name
from distort_pipeline.config import GenerateConfig
from distort_pipeline.distortions import codec_versions
from distort_pipeline.errors import PipelineError, did_you_mean
from distort_pipeline.execution import Workers, run_tasks
from distort_pipeline.planning.corpora import CorpusPlan, overlap, plan_corpus
from distort_pipeline.planning.series import MIXED, SEVERITY, Series, peers_of, plan_series, rungs_of
from distort_pipeline.progress import track
from distort_pipeline.records import PictureRecord, Report, SampleRecord, digest
from distort_pipeline.reports.corpus_page import write_page
from distort_pipeline.reports.corpus_verdict import cautions
from distort_pipeline.severities import ability, chained_parameters, true_parameters
from distort_pipeline.stores.arrays import create_group, create_samples
from distort_pipeline.stores.attributions import ATTRIBUTIONS, attributions_of, write_attributions
from distort_pipeline.stores.builds import Build
from distort_pipeline.stores.corpora import KIND, PRISTINE, VERSION, distorted_array
from distort_pipeline.stores.files import Ledger, check_free_space, read_json, write_json
from distort_pipeline.stores.manifests import read_manifest
from distort_pipeline.stores.models import model_folders, read_card
from distort_pipeline.stores.tables import read_table
from distort_pipeline.tasks.batches import BatchTask, make_batch
from distort_pipeline.tasks.reference_tiles import TileTask, TrueDistortion, make_tile_shard
from distort_pipeline.trained import is_random, learned_levels
from distort_pipeline.versions import package_versions

Cards = Mapping[str, dict[str, Any]]
TAKEN = ("pristine", "tiles")  # other things of a corpus have these names
UNDECISIVE = ("workers", "threads_per_worker", "on_drift")  # settings that decide no byte of a corpus


def run(
    config: GenerateConfig,
    manifest_path: Path,
    models: Path,
    out: Path,
    *,
    root: Path | None = None,
    workers: Workers | None = None,
) -> Report:
    """Make the corpus `out`; batches that an interrupted run finished are kept."""
    started = time.monotonic()
    manifest = read_manifest(manifest_path)
    root = (root or manifest.root).resolve()
    workers = workers or Workers(config.workers, config.threads_per_worker)
    folders = _chosen(model_folders(models.resolve()), config)
    cards = {name: read_card(folder) for name, folder in folders.items()}
    pictures = [picture for picture in manifest.records if picture.split in config.splits]
    if not pictures:
        raise PipelineError(f"{manifest_path} has no picture in the splits {', '.join(config.splits)}")
    series = _series(config, cards)
    align_px = config.crop_align or _trained_align(cards)
    plan = plan_corpus(
        pictures,
        series,
        count=config.count,
        tile_px=None if config.whole_pictures else config.tile_px,
        batch_samples=config.batch_samples,
        align_px=align_px,
        seed=config.seed,
        allow_repeats=config.allow_repeats,
    )
    settings = _settings(config, cards, manifest.digest, align_px)
    build = Build(out, digest(settings))
    _check_names(folders)
    if build.complete():
        return Report("generate", {"samples": config.count}, (f"{out} is already complete; nothing to do",))
    with build.writing() as work:
        check_free_space(out, _bytes_needed(plan, Ledger(work), config.batch_samples))
        _create_arrays(work, config, plan)
        tile_tasks = _tile_tasks(config, cards, series, plan, work, root)
        _run(make_tile_shard, tile_tasks, work, workers, label="tiles", names=[task.name for task in tile_tasks])
        batch_tasks = _batch_tasks(config, series, plan, folders, work, root, workers.threads)
        made = _make_batches(config, batch_tasks, work, workers)
        header = _header(config, plan, cards, pictures, settings, work, align_px)
        seconds = time.monotonic() - started
        write_json(work / "run.json", {"seconds": round(seconds, 3), "batches_now": made, "workers": workers.count})
        write_json(work / "store.json", header)
        write_page(work)
        used = {tile.picture.picture_digest for tile in plan.tiles}
        owed = attributions_of(picture for picture in pictures if picture.picture_digest in used)
        write_attributions(work / ATTRIBUTIONS, owed)
        build.publish(header)
    return _report(out, header)


def _chosen(folders: Mapping[str, Path], config: GenerateConfig) -> dict[str, Path]:
    """Return the models that are needed: those named, those of mixes, or all where none is named."""
    mixed = [name for mix in config.mix for name in mix.split(MIXED)]
    for name in (*config.distortions, *mixed):
        if name not in folders:
            raise PipelineError(f"no model of {name!r} is trained{did_you_mean(name, folders)}")
    wanted = {*config.distortions, *mixed} or set(folders)
    return {name: folder for name, folder in folders.items() if name in wanted}


def _series(config: GenerateConfig, cards: Cards) -> tuple[Series, ...]:
    """Return the series of the corpus; PipelineError where a model cannot make, or be held against, what is asked."""
    brought = [name for mix in config.mix for name in mix.split(MIXED) if cards[name]["brought"]]
    if brought:
        raise PipelineError(
            f"{brought[0]} cannot be mixed: it has learned pairs that somebody brought, and nothing can make its true "
            "distortion of another's pictures to hold the mix against"
        )
    series = plan_series(
        {name: ability(card) for name, card in cards.items()},
        config.distortions or ([] if config.mix else sorted(cards)),
        levels=config.levels,
        severity=config.severity,
        mixes=config.mix,
        target=config.target,
    )
    for one in series:
        if one.asked.of != SEVERITY:
            _require_calibration(cards[one.models[0]], one.distortion)
            continue
        for severity in (one.asked.first, (one.asked.first + one.asked.last) / 2, one.asked.last):
            chained_parameters({name: cards[name] for name in one.models}, severity)
    return series


def _require_calibration(card: Mapping[str, Any], name: str) -> None:
    if not card.get("calibration"):
        raise PipelineError(f"the model of {name} has no calibration, so no quality can be asked of it; train it again")
    true_parameters(card, 0.5 / len(card["levels"]))  # the samples' severities are not known yet: there must be a dial


def _check_names(names: Iterable[str]) -> None:
    """Raise PipelineError for a model whose name cannot be that of its batches, arrays and reports."""
    for name in names:
        if name in TAKEN or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
            raise PipelineError(
                f"a model cannot be called {name!r} here: its folder's name becomes that of arrays and files, so it "
                f"must be made of letters, digits, _, - and . and not be {' or '.join(TAKEN)}; rename the folder"
            )


def _trained_align(cards: Cards) -> int:
    """Return the crop offset that suits all models: the coarsest grid that one of them was trained on."""
    return max(card["settings"]["train"]["crop_align"] for card in cards.values())


def _settings(config: GenerateConfig, cards: Cards, manifest_digest: str, align_px: int) -> dict[str, Any]:
    """Return all that decides the corpus's bytes, as plain values."""
    values = {name: value for name, value in dataclasses.asdict(config).items() if name not in UNDECISIVE}
    return {
        "format": KIND,
        "version": VERSION,
        "generate": {**values, "crop_align": align_px},
        "models": {name: card["weights_digest"] for name, card in cards.items()},
        "manifest_digest": manifest_digest,
        "codecs": codec_versions([card["distortion"] for card in cards.values() if not card["brought"]]),
    }


def _create_arrays(work: Path, config: GenerateConfig, plan: CorpusPlan) -> None:
    group = create_group(work)
    if config.whole_pictures:
        return
    slots = Counter(batch.series.name for batch in plan.batches for _ in batch.samples)
    for name, count in {PRISTINE: len(plan.tiles), **{distorted_array(n): c for n, c in slots.items()}}.items():
        create_samples(
            group,
            name,
            slots=count,
            tile_px=config.tile_px,
            per_shard=config.batch_samples,
            per_chunk=config.tiles_per_chunk,
        )


def _tile_tasks(
    config: GenerateConfig, cards: Cards, series: Sequence[Series], plan: CorpusPlan, work: Path, root: Path
) -> list[TileTask]:
    return [
        TileTask(
            work,
            root,
            number,
            plan.tiles[first : first + config.batch_samples],
            _shared_truths(cards, series),
            config.truth_pictures,
            config.seed,
            config.whole_pictures,
        )
        for number, first in enumerate(range(0, len(plan.tiles), config.batch_samples))
    ]


def _shared_truths(cards: Cards, series: Sequence[Series]) -> tuple[TrueDistortion, ...]:
    """Return the true distortions that the batches of all series share: of those whose samples have one strength."""
    return tuple(
        TrueDistortion(one.name, card["distortion"], one.level, true_parameters(card, one.asked.first))
        for one in series
        if one.is_plain
        for card in [cards[one.models[0]]]
        if not card["brought"]
    )


def _batch_tasks(
    config: GenerateConfig,
    series: Sequence[Series],
    plan: CorpusPlan,
    folders: Mapping[str, Path],
    work: Path,
    root: Path,
    threads: int,
) -> list[BatchTask]:
    return [
        BatchTask(
            work,
            root,
            {name: folders[name] for name in batch.series.models},
            batch,
            tuple(plan.tiles[sample.tile] for sample in batch.samples),
            peers_of(batch.series, series),
            rungs_of(batch.series, series),
            config.batch_samples,
            config.network_batch,
            config.precision,
            config.labels,
            config.whole_pictures,
            config.truth_pictures,
            config.seed,
            threads,
        )
        for batch in plan.batches
    ]


def _run(
    function: Any, tasks: Sequence[Any], work: Path, workers: Workers, *, label: str, names: Sequence[str]
) -> None:
    finished = Ledger(work).finished(names)
    left = [task for task, name in zip(tasks, names, strict=True) if name not in finished]
    for _ in track(
        run_tasks(function, left, workers), total=len(tasks), label=label, unit="shards", done=len(finished)
    ):
        pass


def _make_batches(config: GenerateConfig, tasks: Sequence[BatchTask], work: Path, workers: Workers) -> int:
    """Make the batches that are not there yet and return how many; stop at a drifting one if that is wanted."""
    finished = Ledger(work).finished(task.batch.name for task in tasks)
    left = [task for task in tasks if task.batch.name not in finished]
    results = run_tasks(make_batch, left, workers)
    if config.on_drift == "stop":  # also at what an earlier run made: running again must not hide it
        for entry in Ledger(work).entries(sorted(finished)):
            _stop_at_drift(entry, work)
    for entry in track(results, total=len(tasks), label="generate", unit="batches", done=len(finished)):
        if config.on_drift == "stop":
            _stop_at_drift(entry, work)
    return len(left)


def _stop_at_drift(entry: Mapping[str, Any], work: Path) -> None:
    if not entry["within_bounds"]:
        reasons = read_json(work / "reports" / f"{entry['shard']}.json")["reasons"]
        raise PipelineError(
            f"batch {entry['shard']} is out of bounds: {'; '.join(reasons)}; "
            "run again with --on-drift flag to go on all the same"
        )


def _header(
    config: GenerateConfig,
    plan: CorpusPlan,
    cards: Cards,
    pictures: Sequence[PictureRecord],
    settings: dict[str, Any],
    work: Path,
    align_px: int,
) -> dict[str, Any]:
    names = [batch.name for batch in plan.batches]
    tile_shards = -(-len(plan.tiles) // config.batch_samples)
    entries = Ledger(work).entries([f"tiles-{number:05d}" for number in range(tile_shards)] + names)
    used = {tile.picture.picture_digest for tile in plan.tiles}
    records = read_table([work / "records" / f"{name}.parquet" for name in names], SampleRecord)
    made: dict[Series, list[int]] = {}  # series → samples of each batch
    for batch in plan.batches:
        made.setdefault(batch.series, []).append(len(batch.samples))
    return {
        "format": f"distort-pipeline/{KIND}",
        "version": VERSION,
        "digest": digest([settings, [entry["digest"] for entry in entries]]),
        "settings": settings,
        "tile_px": None if config.whole_pictures else config.tile_px,
        "tile_shards": tile_shards,
        "series": {one.name: _told(one) for one in made},
        "samples": {one.name: sum(sizes) for one, sizes in made.items()},
        "batches": {one.name: len(sizes) for one, sizes in made.items()},
        "counts": {
            "samples": len(records),
            "tiles": len(plan.tiles),
            "tiles_available": plan.available_tiles,
            "pictures": len(used),
            "batches": len(names),
            "flagged": sum(not entry.get("within_bounds", True) for entry in entries),
            "duplicates": len(records) - len(records.column("pixel_digest").unique()),
        },
        "overlap": overlap(plan.tiles, align_px=align_px),
        "models": {
            name: {
                "digest": card["weights_digest"],
                "steps": card["steps"],
                "levels": [dataclasses.asdict(level) for level in learned_levels(card)],
                "random": is_random(card),
            }
            for name, card in cards.items()
        },
        "licences": dict(Counter(picture.licence for picture in pictures if picture.picture_digest in used)),
        "packages": package_versions([backend_name(), "keras", "numpy", "zarr", "distort-pipeline"]),
        "codecs": settings["codecs"],
        "manifest_digest": settings["manifest_digest"],
    }


def _told(series: Series) -> dict[str, Any]:
    """Return what the header says of a series."""
    return {
        "distortion": series.distortion,
        "models": list(series.models),
        "level": series.level,
        "asked": dataclasses.asdict(series.asked),
        "own_truths": not series.is_plain,
    }


def _bytes_needed(plan: CorpusPlan, ledger: Ledger, tiles_per_shard: int) -> int:
    """Return how many bytes the unfinished shards need at most: pixels that do not compress at all."""
    shards = [f"tiles-{number:05d}" for number in range(-(-len(plan.tiles) // tiles_per_shard))]
    finished = ledger.finished([*shards, *(batch.name for batch in plan.batches)])
    areas = [tile.tile.height * tile.tile.width for tile in plan.tiles]
    samples = sum(
        areas[sample.tile] for batch in plan.batches if batch.name not in finished for sample in batch.samples
    )
    tiles = sum(area for number, area in enumerate(areas) if shards[number // tiles_per_shard] not in finished)
    return 3 * (samples + tiles)


def _report(out: Path, header: dict[str, Any]) -> Report:
    counts = header["counts"]
    shares, levels = Counter[str](), Counter[str]()
    for name, series in header["series"].items():
        shares[series["distortion"]] += header["samples"][name]
        levels[series["distortion"]] += 1
    several = {name: f" at {number} levels" for name, number in levels.items() if number > 1}
    told = ", ".join(f"{count} {name}{several.get(name, '')}" for name, count in shares.items())
    verdict = (
        f"{counts['flagged']} of {counts['batches']} batches out of bounds; the report says which"
        if counts["flagged"]
        else f"all {counts['batches']} batches lie within their bounds"
    )
    return Report(
        "generate",
        counts,
        (
            f"{counts['samples']} samples ({told}) of {counts['tiles']} tiles from {counts['pictures']} pictures",
            verdict,
            *cautions(out),
            f"corpus: {out} (digest {header['digest'][:16]})",
            f"report: {out / 'index.html'}",
        ),
    )
