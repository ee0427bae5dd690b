"""`python -m examples.pairs_alone`: learn a distortion from aligned pairs alone, by the product's own words."""

from __future__ import annotations

import argparse
import contextlib
from pathlib import Path
from typing import Any

import click

from distort_pipeline.cli import main as distort_pipeline
from distort_pipeline.stores.corpora import open_corpus
from distort_pipeline.stores.files import read_json
from examples.pairs_alone.distortions import SOURCES, bring

# a sceptic as small as that of `make repro`: half a minute instead of several
SETTINGS = "distort_pipeline: 1\nevaluate: {classifier_steps: 60, classifier_tiles: 192, classifier_folds: 2}\n"


def main(arguments: list[str] | None = None) -> None:
    """Make a stranger's pairs, take them through the path, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m examples.pairs_alone", description=__doc__)
    parser.add_argument("source", nargs="?", default="av1", choices=list(SOURCES), help="who brings the pairs")
    parser.add_argument("--images", type=Path, default=Path("data/sample"), help="folder of pristine PNG files")
    parser.add_argument("--out", type=Path, default=Path("build/pairs_alone"))
    parser.add_argument("--val-count", type=int, default=4)
    parser.add_argument("--tile-px", type=int, default=384, help="of the tiles that are learned from")
    parser.add_argument("--count", type=int, default=200, help="samples of the corpus")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    pristine, folder, name = options.images.resolve(), options.out / options.source, options.source
    external = bring(name, pristine, folder / "external")
    print(f"{external} images from {name}, in {folder / 'external'}; from here on only these and the pristine ones")
    (folder / "params.yaml").write_text(SETTINGS, encoding="utf-8")
    with contextlib.chdir(folder):
        _type("ingest", pristine, "--val-count", options.val_count)
        _type(
            "pairs", "manifest.jsonl", "--distortions", "", "--external-pairs", f"{name}=brought",
            "--tile-px", options.tile_px, "--tiles-per-image", 2, "--workers", options.workers,
        )  # fmt: skip
        if not _type("train", "pairs", "--distortion", name, "--steps", 0, "--crop-px", 128):
            return
        _type("evaluate", "pairs")
        _type("generate", "--count", options.count, "--tile-px", 128, "--workers", options.workers)
        _tell(name, read_json(Path("evaluation") / "metrics.json"), open_corpus(Path("corpus")).reports())
    print(f"pages: {folder / 'evaluation' / 'index.html'}, {folder / 'corpus' / 'index.html'}")


def _type(*words: object) -> bool:
    """Give `words` to the command line, as one would type them; return whether it did what was options."""
    typed = [str(word) for word in words]
    print("\n$ distort-pipeline", *(word or "''" for word in typed), flush=True)
    with contextlib.suppress(click.exceptions.Exit):
        return not distort_pipeline(typed, prog_name="distort-pipeline", standalone_mode=False)
    return False


def _tell(name: str, metrics: dict[str, Any], reports: list[dict[str, Any]]) -> None:
    figures, floors = metrics["models"][name], metrics["noise_floors"][name]
    rows = {
        "generated": figures["jsd_nss"],
        "the identity baseline": figures["jsd_nss_pristine"],
        "sampling floor": floors["sampling"],
        "content floor": floors["content"],
    }
    print(f"\nJSD_NSS to true {name}, bits, {metrics['images']} validation photographs")
    for what, bits in rows.items():
        print(what.ljust(16), f"{bits:.5f}")
    made, true = figures["psnr_generated"], figures["psnr_true"]
    print("strength".ljust(16), f"PSNR {made:.2f} dB generated, {true:.2f} dB true")
    print("told from true".ljust(16), f"{figures['told_apart']:.0%} of tiles, by a small classifier")
    flagged = sum(not report["accepted"] for report in reports)
    print("corpus".ljust(16), f"{flagged} of {len(reports)} batches rejected, {reports[0]['judged_by']}")


if __name__ == "__main__":
    main()
