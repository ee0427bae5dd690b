"""The experiment on pairs alone at a tiny size: external pairs through the pipeline."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import features

from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.files import read_json
from distort_pipeline.data.images import decode, encode_png
from distort_pipeline.errors import PipelineError
from examples.pairs_alone import __main__ as pairs_alone
from examples.pairs_alone.__main__ import main
from examples.pairs_alone.distortions import SOURCES, write_partners

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow writes no AVIF")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """A folder with crops of six photographs."""
    folder = tmp_path_factory.mktemp("pristine")
    for path in sorted(SAMPLE.glob("*.png"))[:6]:
        image, _ = decode(path.read_bytes())
        (folder / path.name).write_bytes(encode_png(image[:256, :256]))
    return folder


@pytest.mark.parametrize("source", [pytest.param(name, marks=needs_avif if name == "av1" else ()) for name in SOURCES])
def test_partners_are_aligned_distorted_and_the_same_every_time(source, pristine, tmp_path):
    assert write_partners(source, pristine, tmp_path / "external") == len(list(pristine.iterdir()))
    for path in pristine.iterdir():
        clean, partner = (decode((folder / path.name).read_bytes())[0] for folder in (pristine, tmp_path / "external"))
        np.testing.assert_array_equal(partner, SOURCES[source](clean))
        assert 15 < cv2.PSNR(clean, partner) < 45


def test_defocus_leaves_the_middle_row_and_takes_detail_from_the_edges():
    stripes = np.zeros((65, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    distorted = SOURCES["defocus"](stripes)
    np.testing.assert_array_equal(distorted[32], stripes[32])
    contrast = distorted[..., 0].std(1)
    assert (np.diff(contrast[:33]) >= 0).all()
    assert contrast[0] < 0.05 * contrast[32]


def test_without_avif_the_error_names_the_package(monkeypatch, pristine, tmp_path):
    monkeypatch.setattr(features, "check", lambda _: False)
    with pytest.raises(PipelineError, match=r"pillow 11\.3"):
        write_partners("av1", pristine, tmp_path / "external")


def test_the_pipeline_takes_external_pairs_and_prints_a_table(pristine, tmp_path, capsys, monkeypatch):
    quick = "distort_pipeline: 1\nevaluate: {c2st_steps: 1, c2st_tiles: 16, c2st_folds: 2}\n"
    monkeypatch.setattr(pairs_alone, "SETTINGS", quick)
    sizes = ["--val-count", "2", "--tile-px", "256", "--count", "4", "--workers", "0"]
    main(["vp8", "--images", str(pristine), "--out", str(tmp_path / "out"), *sizes])
    printed = capsys.readouterr().out
    folder = tmp_path / "out" / "vp8"
    assert read_json(folder / "models" / "vp8" / "store.json")["external"] is True
    figures = read_json(folder / "evaluation" / "metrics.json")["models"]["vp8"]
    assert f"generated          {figures['jsd_nss']:.5f}" in printed
    assert figures["jsd_nss"] < figures["jsd_nss_pristine"]
    (report,) = open_corpus(folder / "corpus").reports()
    assert (report.external, report.comparison) == (True, "unpaired")


def test_too_few_pairs_end_with_the_number_that_is_needed(pristine, tmp_path, capsys):
    sizes = ["--val-count", "3", "--tile-px", "256", "--workers", "0"]
    main(["banding", "--images", str(pristine), "--out", str(tmp_path), *sizes])
    assert "3 training pairs of banding; learning needs 4 or more" in capsys.readouterr().err
    assert not (tmp_path / "banding" / "models" / "banding").exists()
