"""Golden pixels: the shipped models and the true distortions give the bytes that they gave when these were recorded.

`RENEW_GOLDENS=1 python -m pytest tests/goldens` records them anew, in a commit of its own whose reason stands in
CHANGELOG.md. On the recorded processor with the recorded codecs every pixel has to be the same; on any other the
middles of the first samples, which lie beside this file as one PNG for each store, to within 1 of 255.
"""

import hashlib
import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from distort_pipeline import steps
from distort_pipeline.cli import main
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.distortions import codec_versions
from distort_pipeline.records import package_versions

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "digests.json"
DECIDING_FLAGS = ("avx2", "avx512f", "fma")  # BLAS and NumPy choose kernels by these
CROP_PX = 64
SHOWN = 10  # middles kept as pixels, of each store
TOLERANCE = {"target": 3}  # levels on another machine, else 1: a search ends at another severity for a last bit's sake
DISTORTIONS = ("jp2k", "jpeg", "pink_noise", "white_noise")
CORPORA = {
    "plain": ("--count", "8", "--severity", "0.5"),
    "five_levels": ("--count", "20", "--num-levels", "5"),
    "composite": (
        "--count",
        "4",
        "--composite",
        "jpeg+white_noise",
        "--composite",
        "pink_noise+jp2k",
        "--severity",
        "0.2:0.7",
    ),
    "target": ("--count", "4", "--target", "ssim=0.5:0.9"),
    "whole": ("--count", "4", "--whole-images", "--severity", "0.5"),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, sample_images, make_manifest):
    """The manifest of three small photographs."""
    folder = tmp_path_factory.mktemp("golden")
    return make_manifest(folder, {name: (sample_images[name], "train") for name in ("wren", "osprey", "maple")})


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def corpus_pixels(manifest, out, arguments):
    """Return (name, pixels) of each sample of a corpus, in its order."""
    run("generate", manifest, "--out", out, "--tile-px", 128, "--truth-images", 1, "--workers", 0, *arguments)
    return [(sample.record.distortion, np.asarray(sample.distorted)) for sample in open_corpus(out)]


def pair_pixels(manifest, out, _words):
    """Return (name, pixels) of each distorted training tile of a pair store, in its order."""
    run("pairs", manifest, "--out", out, "--tile-px", 256, "--min-tile-px", 128, "--levels", 1, "--workers", 0)
    pairs = open_pairs(out)[:]
    return [(record.distortion, tile) for record, tile in zip(pairs.records, pairs.distorted, strict=True)]


def middle(pixels):
    """Return the middle CROP_PX square of an image (H, W, 3)."""
    top, left = ((side - CROP_PX) // 2 for side in pixels.shape[:2])
    return pixels[top : top + CROP_PX, left : left + CROP_PX]


def sheet(samples):
    """Return the middles of up to SHOWN samples, evenly out of all, side by side: (CROP_PX, n * CROP_PX, 3)."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, SHOWN).astype(int))
    return np.concatenate([middle(samples[index][1]) for index in chosen], axis=1)


def machine():
    """Return the processor's deciding features and the versions of the codecs and of NumPy."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.is_file() else set()
    return {
        "processor": platform.machine(),
        "flags": [flag for flag in DECIDING_FLAGS if flag in flags],
        "versions": {**codec_versions(DISTORTIONS), **package_versions(["numpy", "scipy"])},
    }


@pytest.mark.parametrize("name", [*CORPORA, "pairs"])
def test_pixels_are_those_that_were_recorded(name, manifest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no params.yaml here
    make = pair_pixels if name == "pairs" else corpus_pixels
    samples = make(manifest, tmp_path / name, CORPORA.get(name, ()))
    digests = [f"{kind} {hashlib.sha256(np.ascontiguousarray(pixels)).hexdigest()[:24]}" for kind, pixels in samples]
    recorded = json.loads(RECORDED.read_text()) if RECORDED.is_file() else {}
    step = "PAIRS" if name == "pairs" else "GENERATE"
    if "RENEW_GOLDENS" in os.environ:
        raised = getattr(steps, step) > recorded.get("versions", {}).get(name, 0)
        assert raised or digests == recorded[name], f"other pixels: raise {step} in steps/__init__.py first"
        recorded.update({"machine": machine(), name: digests})
        recorded.setdefault("versions", {})[name] = getattr(steps, step)
        RECORDED.write_text(json.dumps(recorded, indent=1, sort_keys=True) + "\n")
        (FOLDER / f"{name}.png").write_bytes(encode_png(sheet(samples)))
        pytest.skip("recorded anew")
    if machine() == recorded["machine"]:
        assert digests == recorded[name]
    assert [row.split()[0] for row in digests] == [row.split()[0] for row in recorded[name]]
    expected = decode((FOLDER / f"{name}.png").read_bytes())[0]
    assert np.abs(sheet(samples).astype(int) - expected).max() <= TOLERANCE.get(name, 1)
