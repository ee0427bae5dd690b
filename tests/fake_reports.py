"""A synthetic corpus for tests of its page: reports, store.json and made-up samples."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from distort_pipeline.data.arrays import schema_of
from distort_pipeline.data.corpus_metadata import CorpusMetadata
from distort_pipeline.data.images import marked_png
from distort_pipeline.records import SampleRecord, row
from distort_pipeline.reports.corpus_page import image_index, render
from distort_pipeline.reports.corpus_verdict import read_batches
from distort_pipeline.reports.examples import Example
from distort_pipeline.reports.pages import side_by_side

SAMPLE = Path(__file__).parents[1] / "data" / "sample"
NASTY = "<script>alert(1)</script>"
SAMPLES = 256


def products(image: np.ndarray) -> list[int]:
    """103 counts of the products of diagonal neighbours; similar to the real statistic."""
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) - 128
    mean = cv2.GaussianBlur(luma, (7, 7), 7 / 6)
    spread = np.sqrt(np.maximum(cv2.GaussianBlur(luma * luma, (7, 7), 7 / 6) - mean * mean, 0))
    normal = (luma - mean) / (spread + 1)
    edges = np.concatenate(([-np.inf], np.linspace(-2, 2, 102), [np.inf]))
    return [int(count) for count in np.histogram(normal[:-1, :-1] * normal[1:, 1:], edges)[0]]


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def fake_corpus(
    folder: Path,
    *,
    distortions: tuple[str, ...] = ("jpeg", "jp2k"),
    batches: int = 4,
    rejected: tuple[tuple[str, int], ...] = (),
    tile_px: int = 64,
    rows: int = 2,
    licence: str = "CC0-1.0",
) -> Path:
    """Write a corpus with JPEG images as "true", blurred JPEG images as "generated" and `rejected` batches."""
    reports = folder / "reports"
    reports.mkdir(parents=True)
    images = [cv2.imread(str(path))[:, :, ::-1] for path in sorted(SAMPLE.glob("*.png"))]
    for index, distortion in enumerate(distortions):
        for batch in range(batches):
            counts = {"pristine": [0] * 103, "true": [0] * 103, "generated": [0] * 103}
            for row_index in range(rows):
                image = images[(batch * rows + row_index) % len(images)]
                pristine = np.ascontiguousarray(image[64 : 64 + tile_px, 64 : 64 + tile_px])
                true = jpeg(pristine, 12 - 4 * index)
                generated = cv2.GaussianBlur(true, (3, 3), 0.35 + 0.1 * index)
                for name, image in zip(counts, (pristine, true, generated), strict=True):
                    counts[name] = [a + b for a, b in zip(counts[name], products(image), strict=True)]
            flagged = (distortion, batch) in rejected
            jsd = 0.031 + 0.004 * batch if flagged else 0.009 + 0.001 * ((batch * 7) % 5)
            report = {
                "format": "distort-pipeline/report", "version": 6, "distortion": distortion, "batch": batch,
                "samples": SAMPLES, "tiles": SAMPLES, "images": 20, "tile_px": tile_px, "level": 1,
                "severity": {"least": 1.0, "most": 1.0},
                "parameters": {"quality": 12} if index == 0 else {"ratio": 150}, "external": False,
                "model": "ab" * 32, "precision": "float32",
                "divergence": {"jsd_bits": jsd, "jsd_nats": jsd * 0.693, "samples": 64, "images": 8,
                               "threshold_bits": 0.02, "identity_bits": 0.08},
                "comparison": "paired", "false_alarms": 0.01, "accepted": not flagged,
                "statistics": [
                    {"statistic": "JSD_NSS", "group": "distribution", "unit": "bits", "difference": jsd,
                     "threshold": 0.02, "tolerance": 0.001},
                    {"statistic": "PSNR", "group": "strength", "unit": "dB", "difference": -0.03,
                     "threshold": 0.15, "tolerance": 0.15},
                ],
                "reasons": [f"distribution: JSD_NSS {jsd:.4f} bits, accepted up to 0.02"] if flagged else [],
                "noise_floors": {"redraw_bits": None, "between_content_bits": 0.002},
                "against": {"pristine": 0.077, **{name: jsd if name == distortion else 0.08 for name in distortions}},
                "against_levels": {},
                "psnr": {"mean": 27.31, "std": 2.2, "min": 21.0, "max": 33.0,
                         "paired_mean": 27.40, "true_mean": 27.52},
                "ssim": {"mean": 0.801, "std": 0.05, "min": 0.6, "max": 0.91,
                         "paired_mean": 0.803, "true_mean": 0.805},
                "clipped_fraction": 0.0012, "duplicates": 0, "histograms": counts,
            }  # fmt: skip
            name = f"batch-{index}-{batch:05d}"  # the page takes names from the report, not from the file
            (reports / f"{name}.json").write_text(json.dumps(report))
            (reports / f"{name}.png").write_bytes(
                marked_png(side_by_side([[pristine, generated, true]], ("a", "b", "c")))
            )
    total = batches * len(distortions)
    store = {
        "format": "distort-pipeline/corpus", "version": 6, "digest": "cd" * 32,
        "settings": {
            "format": "corpus", "version": 6,
            "generate": {"count": SAMPLES * total, "seed": 0, "tile_px": tile_px, "folder": "/home/someone"},
            "models": {}, "manifest_digest": "01" * 32, "codecs": {},
        },
        "tile_px": tile_px, "tile_shards": 1,
        "conditions": {
            name: {
                "distortion": name, "models": [name], "level": 1, "sample_truths": False,
                "request": {"of": "severity", "first": 1.0, "last": 1.0},
            }
            for name in distortions
        },
        "samples": dict.fromkeys(distortions, SAMPLES * batches), "batches": dict.fromkeys(distortions, batches),
        "counts": {
            "samples": SAMPLES * total, "tiles": 500, "tiles_available": 900, "images": 20, "batches": total,
            "flagged": len(rejected), "duplicates": 0,
        },
        "overlap": {"mean_fraction": 0.4, "tiles_with_overlap": 480},
        "models": {
            name: {
                "digest": "ef" * 32, "distortion": name, "external": False, "random": False, "grey": False,
                "origin": "no fit, U-Net of 16 base filters; 250 of 300 adversarial steps kept",
                "levels": [{"level": 1, "parameters": {"quality": 12}, "severity": 1.0}],
            }
            for name in distortions
        },
        "licences": {licence: 9, "BSD-2-clause": 11},
        "packages": {"tensorflow": "2.21.0", "numpy": "2.3.1"}, "codecs": {"openjpeg": "2.5.4"},
        "manifest_digest": "01" * 32,
    }  # fmt: skip
    (folder / "store.json").write_text(json.dumps(store))
    return folder


def made_up_records(batches, images=("wren-1", "osprey-1")):
    """Two samples per batch, one of each image in `images`."""
    return [
        SampleRecord(
            sample=2 * index + tile, distortion=batch.distortion, batch=batch.number, slot=2 * batch.number + tile,
            tile=tile, image=image, split="train", y=0, x=16, height=64, width=64, level=1, severity=1.0,
            parameters="{}", target=None, draw=0, seed=0, model="ab", precision="float32", pixel_digest="cd",
            psnr=27.5 + tile, ssim=0.8, ms_ssim=0.9, gmsd=0.1, clipped=0.0,
        )
        for index, batch in enumerate(batches)
        for tile, image in enumerate(images)
    ]  # fmt: skip


def page_of(folder: Path, *, images=("wren-1", "osprey-1"), side_px: int = 64) -> str:
    """The page of a fake corpus, with an example for each batch."""
    batches = read_batches(folder / "reports")
    records = made_up_records(batches, images)
    first = {(record.distortion, record.batch): record for record in reversed(records)}

    def example_of(batch):
        noise = np.random.default_rng(batch.number).integers(0, 256, (3, side_px, side_px, 3), dtype=np.uint8)
        return Example(first[batch.distortion, batch.number], *noise)

    table = pa.Table.from_pylist([row(record) for record in records], schema=schema_of(SampleRecord))
    return render(CorpusMetadata.load(folder), batches, example_of, image_index(table))
