"""generate: distort any number of tiles with the trained generators; every batch has a report.

Models, images and conditions are chosen and checked first, and all samples planned. Workers then cut and store the
reference tiles, and distort them batch by batch. The metadata and the page are written last.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from distort_pipeline.config import GenerateConfig
from distort_pipeline.data.builds import StagedStore, require_destination
from distort_pipeline.data.corpus_metadata import BatchReport, CorpusMetadata, CorpusSettings, describe_corpus
from distort_pipeline.data.corpus_pixels import create_arrays
from distort_pipeline.data.leases import Ledger, LedgerEntry
from distort_pipeline.data.manifests import ATTRIBUTIONS, attributions_of, read_manifest, write_attributions
from distort_pipeline.data.sources import require_images
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.records import Report
from distort_pipeline.reports.corpus_page import write_corpus_page
from distort_pipeline.reports.corpus_verdict import findings
from distort_pipeline.steps.batches import BatchTask, make_batch
from distort_pipeline.steps.corpus_plan import PreparedCorpus, prepare_corpus
from distort_pipeline.steps.truth import TileTask, make_tile_shard

LEFT_OUT_SHOWN = 5


def run(
    config: GenerateConfig,
    manifest_path: Path,
    models: Path | Mapping[str, Path],
    out: Path,
    *,
    root: Path | None = None,
    workers: Workers | None = None,
    earlier: CorpusSettings | None = None,
) -> Report:
    """Write the corpus `out`; finished batches of an interrupted run are kept.

    `models` are a folder of models, or names with the folders of models. A finished corpus of the same settings with
    fewer samples is extended: its shards stay as they are. `earlier` are the settings of one that is made again.
    """
    started = time.monotonic()
    require_destination(out)
    manifest = read_manifest(manifest_path)
    root = (root or manifest.root).resolve()
    workers = workers or Workers(config.workers, config.threads_per_worker)

    known = earlier or CorpusSettings.of_finished(out)
    corpus = prepare_corpus(config, manifest, models, listed_in=manifest_path, earlier=known)
    grows = known is not None and corpus.settings.counts[:-1] == known.counts and not earlier
    build = StagedStore(out, corpus.settings.digest, replaced=known.digest if known and grows else None)
    if build.complete():
        metadata = CorpusMetadata.load(out)
        remarks = (f"{out} is already complete; nothing to do", *_remarks(out, metadata))
        return Report("generate", {"samples": config.count, **_left_out_count(metadata)}, remarks)
    require_images(root)
    with build.writing() as work:
        ledger = Ledger(work)
        shards = [*corpus.plan.tile_shards(config.samples_per_shard), *(batch.name for batch in corpus.plan.batches)]
        build.require_space(corpus.plan.bytes_without(ledger.finished(shards), config.samples_per_shard))
        create_arrays(
            work,
            corpus.plan,
            tile_px=None if config.whole_images else config.tile_px,
            per_shard=config.samples_per_shard,
            per_chunk=config.tiles_per_chunk,
        )
        tile_tasks = _tile_tasks(corpus, config, work=work, root=root)
        tiles = {name: len(task.tiles) for name, task in tile_tasks.items()}
        for _ in ledger.run_unfinished(make_tile_shard, tile_tasks, workers, label="tiles", unit="tiles", sizes=tiles):
            pass
        batch_tasks = _batch_tasks(corpus, config, work=work, root=root, threads=workers.threads)
        workers = dataclasses.replace(workers, gpu=corpus.needs_backend)
        batches_now = _make_batches(batch_tasks, ledger, workers, stop=config.on_fail == "stop")
        metadata = describe_corpus(
            work,
            corpus.settings,
            corpus.plan,
            models=corpus.models,
            images=corpus.images,
            left_out=corpus.left_out,
            packages=corpus.packages,
        )
        metadata.save(work)
        write_corpus_page(work)
        write_attributions(work / ATTRIBUTIONS, attributions_of(corpus.images))
        seconds = round(time.monotonic() - started, 3)
        run_facts = {"seconds": seconds, "batches_now": batches_now, "workers": workers.count}
        build.publish(metadata.to_json(), run=run_facts)
    return _report(out, metadata)


def _tile_tasks(corpus: PreparedCorpus, config: GenerateConfig, *, work: Path, root: Path) -> dict[str, TileTask]:
    tasks = [
        TileTask(
            work=work,
            root=root,
            number=number,
            tiles=tiles,
            truths=corpus.shared_truths,
            truth_images=config.truth_images,
            seed=config.seed,
            whole_images=config.whole_images,
            significances=corpus.needs_significances,
        )
        for number, tiles in corpus.plan.tiles_by_shard(config.samples_per_shard).items()
    ]
    return {task.name: task for task in tasks}


def _batch_tasks(
    corpus: PreparedCorpus, config: GenerateConfig, *, work: Path, root: Path, threads: int
) -> dict[str, BatchTask]:
    return {
        batch.name: BatchTask(
            work=work,
            root=root,
            models={name: corpus.folders[name] for name in batch.condition.models},
            batch=batch,
            conditions=corpus.conditions,
            config=config,
            threads=threads,
        )
        for batch in corpus.plan.batches
    }


def _make_batches(tasks: Mapping[str, BatchTask], ledger: Ledger, workers: Workers, *, stop: bool) -> int:
    """Write the unfinished batches and return their number; with `stop`, PipelineError at a rejected batch."""
    finished = ledger.finished(tasks)
    if stop:  # also at a batch of an earlier run: running again must not hide a rejection
        for entry in ledger.entries(sorted(finished)):
            _stop_at_rejection(entry, ledger.work)
    samples = {name: len(task.batch.samples) for name, task in tasks.items()}
    for entry in ledger.run_unfinished(make_batch, tasks, workers, label="generate", unit="samples", sizes=samples):
        if stop:
            _stop_at_rejection(entry, ledger.work)
    return len(tasks) - len(finished)


def _stop_at_rejection(entry: LedgerEntry, work: Path) -> None:
    if entry["accepted"] is False:
        reasons = BatchReport.load(work / "reports" / f"{entry['shard']}.json").reasons
        raise PipelineError(
            f"batch {entry['shard']} is rejected: {'; '.join(reasons)}; run again with --on-fail flag to continue"
        )


def _report(out: Path, metadata: CorpusMetadata) -> Report:
    counts = metadata.counts
    shares, levels = Counter[str](), Counter[str]()
    for name, condition in metadata.conditions.items():
        shares[condition.distortion] += metadata.samples[name]
        levels[condition.distortion] += 1
    several = {name: f" at {number} levels" for name, number in levels.items() if number > 1}
    by_distortion = ", ".join(f"{count} {name}{several.get(name, '')}" for name, count in shares.items())
    return Report(
        "generate",
        {**dataclasses.asdict(counts), **_left_out_count(metadata)},
        (
            f"{counts.samples} samples ({by_distortion}) of {counts.tiles} tiles from {counts.images} images",
            *_remarks(out, metadata),
            f"corpus: {out} (digest {metadata.digest[:16]})",
            f"report: {out / 'index.html'}",
        ),
    )


def _remarks(out: Path, metadata: CorpusMetadata) -> list[str]:
    """Return the lines of every summary: images left out, the verdict and remarks."""
    left_out = metadata.left_out
    lines = [f"{path} left out: {reason}" for path, reason in list(left_out.items())[:LEFT_OUT_SHOWN]]
    if len(left_out) > 1:
        lines.append(f"{len(left_out)} images left out, listed in {out / 'store.json'}")
    return [*lines, *findings(out)]


def _left_out_count(metadata: CorpusMetadata) -> dict[str, int]:
    return {"left_out": len(metadata.left_out)} if metadata.left_out else {}
