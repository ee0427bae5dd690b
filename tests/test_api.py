"""The Python API: results of images, mistakes, and what an import starts."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import distort_pipeline
from distort_pipeline import (
    PipelineError,
    distort,
    gmsd,
    jsd_nss,
    load_generator,
    ms_ssim,
    nss_features,
    psnr,
    ssim,
)
from distort_pipeline.metrics.jsd_nss import jsd_nss as jsd_of_two

HEAVY = ("tensorflow", "keras", "dask", "pyarrow", "zarr")


@pytest.fixture(scope="module")
def image(sample_images):
    return sample_images["maple"][:192, :192]


def test_the_import_and_the_lists_start_nothing_heavy(tmp_path):
    code = (
        "import sys, distort_pipeline as d\n"
        "d.presets(), d.load_generator, dir(d), d.list_generators()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert completed.stdout == "[]\n"


def test_every_name_of_the_api_is_documented():
    for name in distort_pipeline.__all__:
        if name != "__version__":
            assert getattr(distort_pipeline, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'opencorpus'"):
        distort_pipeline.opencorpus  # noqa: B018


def test_a_generator_gives_the_same_image_alone_and_among_others(image):
    g = load_generator("white_noise")
    images = np.stack([image, image[::-1], image])
    together = g(images, severity=[0.2, 0.5, 0.7], seed=4)
    alone = [g(one, severity, 4 + k) for k, (one, severity) in enumerate(zip(images, (0.2, 0.5, 0.7), strict=True))]
    np.testing.assert_array_equal(together, alone)
    assert (together[0] != together[2]).any()
    np.testing.assert_array_equal(g(image, seed=1), g(image, 0.5, 1))  # the default level: sigma 19
    np.testing.assert_array_equal(g(images, seed=[7, 8, 7])[0], g(image, seed=7))
    np.testing.assert_array_equal(g(image, severity=0), image)


def test_a_generator_says_what_it_is():
    g = load_generator("jp2k")
    assert "least-squares fit of coefficient curves (dwt97)" in repr(g)
    assert list(g.levels) == [0.2432, 0.3718, 0.5, 0.6221, 0.7469]
    assert g.levels[0.7469] == {"ratio": 600}
    assert g.severity_scale.parameter == "ratio"


def test_generated_is_nearer_to_the_truth_than_the_pristine_image(image):
    true = distort("jpeg", image, quality=12)
    assert jsd_nss(true, load_generator("jpeg")(image, 0.5)) < jsd_nss(true, image) / 10


def test_scores_are_those_of_the_metrics(image):
    other = distort("white_noise", image, sigma_8bit=19, seed=3)
    assert (other != distort("white_noise", image, sigma_8bit=19, seed=4)).any()
    assert 22 < psnr(image, other) < 24
    assert 0 < ssim(image, other) < ms_ssim(image, other) < 1
    assert gmsd(image, other) > 0
    assert jsd_nss(image, other) == jsd_of_two(image, other)
    pooled = jsd_nss(np.stack([image, image]), np.stack([other, other]))
    assert pooled == pytest.approx(jsd_nss(image, other))
    finer = jsd_nss(image, other, bins=1001, value_range=(-4, 4))
    assert finer != pooled
    assert finer == pytest.approx(pooled, rel=0.3)
    np.testing.assert_array_equal(nss_features(np.stack([image, other]))["cb"].sum(), 2 * 191 * 191)


def test_the_readmes_example_runs(tmp_path, monkeypatch, sample, small_manifest, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(sample / "enlightenment-data__Red-Maple.png", "photo.png")
    options = {"count": 8, "severity": [0.5], "tile_px": 128, "truth_images": 1, "workers": 0}
    report = distort_pipeline.generate(small_manifest, "mine", **options)
    assert report.counts["samples"] == 8
    capsys.readouterr()
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    section = readme.split("## In Python")[1]
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], {})
    generated, true, divergence = map(float, capsys.readouterr().out.split())
    assert generated == pytest.approx(true, abs=0.01)
    assert divergence < 0.01


IMAGE = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda: psnr(IMAGE / 255, IMAGE),
            r"must be uint8, 0 to 255, got float64, values from 0 to 0: np.rint\(255 \* im",
        ),
        (lambda: psnr(IMAGE - 1.0, IMAGE), r"values from -1 to -1: np.rint\(127.5 \* \(image \+ 1\)"),
        (lambda: psnr(IMAGE.astype(int) + 300, IMAGE), "got int64, values from 300 to 300"),
        (lambda: psnr(np.zeros((3, 32, 32), np.uint8), IMAGE), r"looks like \(C, H, W\): np.moveaxis\(image, -3, -1\)"),
        (lambda: jsd_nss(np.zeros((5, 3, 32, 32), np.uint8), IMAGE), r"looks like \(C, H, W\)"),
        (lambda: gmsd(IMAGE[..., 0], IMAGE), r"looks grey: np.stack"),
        (lambda: gmsd(np.zeros((32, 32, 4), np.uint8), IMAGE), r"alpha channel: image\[..., :3\]"),
        (lambda: gmsd(IMAGE[None], IMAGE), r"must be \(H, W, 3\), got the shape \(1, 32, 32, 3\)"),
        (lambda: psnr(IMAGE, IMAGE[:30]), r"two images of one shape, got \(32, 32, 3\) and \(30, 32, 3\)"),
        (lambda: ms_ssim(IMAGE, IMAGE), "sides of 176 px or more, got the shape"),
        (lambda: jsd_nss(IMAGE, IMAGE, bins=0), "bins must be 1 or more and value_range ascending, got bins=0"),
        (lambda: nss_features(IMAGE[:0]), r"got the shape \(0, 32, 3\)"),
        (lambda: distort("jpg", IMAGE), "no distortion is called 'jpg'; did you mean jpeg?"),
        (lambda: distort("jpeg", IMAGE, quality=101), "quality must be a whole number from 0 to 100, got 101"),
        (lambda: load_generator("jpge"), "no generator is called 'jpge'; did you mean jpeg?"),
        (
            lambda: load_generator("jpeg")(IMAGE, severity=-0.1),
            "severity must be from 0 to 0.716, the last level of jpeg, got -0.1",
        ),
        (lambda: load_generator("jpeg")(IMAGE, severity=[0.1, 0.2]), "one for each of the 1 images, got 2"),
        (lambda: load_generator("jpeg")(IMAGE[:8]), "sides of 16 px or more"),
        (lambda: distort_pipeline.export("corpus", formt="kadid"), "unknown setting export.formt; did you mean format"),
    ],
)
def test_a_mistake_is_named_with_its_value_and_what_is_allowed(call, said):
    with pytest.raises(PipelineError, match=said):
        call()
