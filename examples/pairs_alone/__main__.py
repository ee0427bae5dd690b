"""`python -m examples.pairs_alone`: learn a distortion from aligned pairs alone, by the command line."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import click

from distort_pipeline.cli import main as distort_pipeline
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.corpus_metadata import BatchReport
from distort_pipeline.data.files import read_json
from examples.pairs_alone.distortions import SOURCES, write_partners

# a C2ST as small as in `make repro`: half a minute instead of several
SETTINGS = "distort_pipeline: 1\nevaluate: {c2st_steps: 60, c2st_tiles: 192, c2st_folds: 2}\n"


def main(arguments: list[str] | None = None) -> None:
    """Make external pairs, run the pipeline on them, and print the results."""
    parser = argparse.ArgumentParser(prog="python -m examples.pairs_alone", description=__doc__)
    parser.add_argument(
        "source", nargs="?", default="av1", choices=list(SOURCES), help="distortion of the external pairs"
    )
    parser.add_argument("--images", type=Path, default=Path("data/sample"), help="folder of pristine PNG files")
    parser.add_argument("--out", type=Path, default=Path("build/pairs_alone"))
    parser.add_argument("--val-count", type=int, default=4)
    parser.add_argument("--tile-px", type=int, default=384, help="of training tiles")
    parser.add_argument("--count", type=int, default=200, help="samples of the corpus")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    pristine, folder, name = options.images.resolve(), options.out / options.source, options.source
    count = write_partners(name, pristine, folder / "external")
    print(f"{count} images distorted by {name}, in {folder / 'external'}; training uses these pairs only")
    (folder / "params.yaml").write_text(SETTINGS, encoding="utf-8")
    with contextlib.chdir(folder):
        _run("ingest", pristine, "--val-count", options.val_count)
        _run(
            "pairs", "manifest.jsonl", "--external-pairs", f"{name}=external",
            "--tile-px", options.tile_px, "--tiles-per-image", 2, "--workers", options.workers,
        )  # fmt: skip
        if not _run("train", "pairs", "--distortion", name, "--steps", 0, "--crop-px", 128):
            return
        _run("evaluate", "pairs")
        _run("generate", "--count", options.count, "--tile-px", 128, "--workers", options.workers)
        _print_results(name, read_json(Path("evaluation") / "metrics.json"), open_corpus(Path("corpus")).reports())
    print(f"pages: {folder / 'evaluation' / 'index.html'}, {folder / 'corpus' / 'index.html'}")


def _run(*arguments: object) -> bool:
    """Run `distort-pipeline` with `arguments`; return whether the command succeeded."""
    texts = [str(argument) for argument in arguments]
    print("\n$ distort-pipeline", *(text or "''" for text in texts), flush=True)
    with contextlib.suppress(click.exceptions.Exit):
        return not distort_pipeline(texts, prog_name="distort-pipeline", standalone_mode=False)
    return False


def _print_results(name: str, metrics: dict[str, Any], reports: list[BatchReport]) -> None:
    figures = metrics["models"][name]
    rows = {
        "generated": figures["jsd_nss"],
        "identity baseline": figures["jsd_nss_pristine"],
        "between-content": metrics["noise_floors"][name]["between_content"],
    }
    print(f"\nJSD_NSS to true {name}, bits, {metrics['images']} validation photographs")
    for label, bits in rows.items():
        print(label.ljust(18), f"{bits:.5f}")
    generated, true = figures["psnr_generated"], figures["psnr_true"]
    print("PSNR".ljust(18), f"{generated:.2f} dB generated, {true:.2f} dB true")
    print("C2ST accuracy".ljust(18), f"{figures['c2st_accuracy']:.2f}")
    flagged = sum(report.accepted is False for report in reports)
    print("corpus".ljust(18), f"{flagged} of {len(reports)} batches rejected, {reports[0].comparison}")


if __name__ == "__main__":
    main()
