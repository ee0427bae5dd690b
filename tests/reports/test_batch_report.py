import math

import numpy as np
import pytest

from distort_pipeline.data.corpus_metadata import MetricSpread, NoiseFloors
from distort_pipeline.metrics.acceptance import (
    CONTENT,
    STATISTICS,
    WIDTH,
    TileStatistics,
    ValidationStatistics,
)
from distort_pipeline.metrics.jsd_nss import JSD_NSS_ROW
from distort_pipeline.models.store import ValidationHistograms
from distort_pipeline.records import SampleRecord
from distort_pipeline.reports.batch import BatchMeasures, TruthStats, batch_report

BINS = 103


def peak(*indices, tiles=1, values=90):
    """Return histograms, (tiles, 103), of `values` values spread evenly over the bins `indices`."""
    counts = np.zeros((tiles, BINS), np.int64)
    counts[:, list(indices)] = values // len(indices)
    return counts


def record(index, **changes):
    values = {
        "sample": index, "distortion": "jpeg", "batch": 3, "slot": index, "tile": index, "image": f"p{index // 2}",
        "split": "train", "y": 0, "x": 0, "height": 128, "width": 128, "level": 2, "severity": 1.0,
        "parameters": '{"quality":12}', "target": None, "draw": 0, "seed": index,
        "model": "w" * 64, "precision": "float32", "pixel_digest": f"{index:064d}", "psnr": 20.0 + index, "ssim": 0.5,
        "ms_ssim": None, "gmsd": 0.1, "clipped": 0.25,
    }  # fmt: skip
    return SampleRecord(**{**values, **changes})


def statistics_of(counts, **columns):
    """Return the statistics of tiles with these JSD_NSS histograms; `psnr` and others 0 unless given."""
    histograms = np.ones((len(counts), 12, BINS), np.int64)
    histograms[:, JSD_NSS_ROW] = counts
    values = np.zeros((len(counts), WIDTH))
    values[:, 0] = columns.get("psnr", 30.0)
    return TileStatistics(values, histograms)


def truth(indices, redrawn=None, **by_name):
    own = by_name.get("jpeg")
    return TruthStats(
        np.array(indices, np.int64),
        by_name,
        true=None if own is None else statistics_of(own),
        redrawn=None if redrawn is None else statistics_of(redrawn),
    )


def report_of(generated, truth_stats, *, records=None, validation=None, pristine=None, external=False, psnr=30.0):
    records = records or [record(index) for index in range(len(generated))]
    pristine = peak(90, tiles=len(generated)) if pristine is None else pristine
    judged = truth_stats.indices if truth_stats.true else np.arange(len(generated))
    content = np.zeros((len(judged), CONTENT))
    statistics = statistics_of(generated[judged], psnr=psnr)
    measures = BatchMeasures(records, generated, pristine, judged.tolist(), statistics, content, truth_stats)
    return batch_report(measures, validation, external=external, seed=0)


def stored(true, images):
    """Return the validation histograms of a model of external pairs, with statistics."""
    rng = np.random.default_rng(0)
    content = rng.standard_normal((len(true), CONTENT))
    statistics = ValidationStatistics(statistics_of(true), content, np.array(images))
    return ValidationHistograms(true, true, true, np.array(images), 256, statistics)


def test_identical_tiles_score_zero_and_are_accepted():
    report = report_of(peak(50, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, tiles=4)))
    assert (report.comparison, report.divergence.jsd_bits) == ("paired", 0)
    assert report.accepted is True
    assert report.reasons == ()
    assert (report.divergence.samples, report.divergence.images) == (4, 2)
    assert [each.statistic for each in report.statistics] == [statistic.name for statistic in STATISTICS]


def test_disjoint_histograms_score_one_bit_and_are_rejected():
    report = report_of(peak(10, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, tiles=4)))
    assert report.divergence.jsd_bits == pytest.approx(1)
    assert report.divergence.jsd_nats == pytest.approx(math.log(2))
    assert report.divergence.threshold_bits == 0.002  # twice the tolerance: two photographs, a quarter of eight
    assert report.accepted is False
    assert report.reasons == ("distribution: JSD_NSS 1 bits, accepted up to 0.002",)


def test_another_strength_is_rejected_by_name_and_amount():
    report = report_of(peak(50, tiles=4), truth(range(4), jpeg=peak(50, tiles=4)), psnr=29.5)
    assert report.accepted is False
    assert report.reasons == ("strength: PSNR -0.5 dB, accepted up to 0.3",)


def test_the_failing_statistics_come_in_order_of_excess():
    report = report_of(peak(10, tiles=4), truth(range(4), jpeg=peak(50, tiles=4)), psnr=29.5)
    assert [reason.split(":")[0] for reason in report.reasons] == ["distribution", "strength"]


def test_only_tiles_that_have_a_truth_are_compared_with_it():
    generated = np.concatenate([peak(10, tiles=2), peak(50, tiles=2)])
    pristine = np.concatenate([peak(50, tiles=2), peak(10, tiles=2)])
    truth_stats = truth([2, 3], jpeg=peak(50, tiles=2), other=peak(10, tiles=2))
    report = report_of(generated, truth_stats, pristine=pristine)
    divergence = report.divergence
    assert (divergence.jsd_bits, divergence.samples, divergence.images) == (0, 2, 1)
    assert divergence.identity_bits == pytest.approx(1)
    assert report.against == {"pristine": pytest.approx(1), "jpeg": 0, "other": pytest.approx(1)}
    assert report.histograms.generated == tuple(peak(50, tiles=2).sum(0).tolist())
    assert report.noise_floors == NoiseFloors(None, None)  # no second draw, and one image has no halves


def test_the_noise_floor_is_the_divergence_of_two_true_draws():
    report = report_of(peak(50, tiles=4), truth(range(4), redrawn=peak(10, tiles=4), jpeg=peak(50, tiles=4)))
    assert report.noise_floors == NoiseFloors(pytest.approx(1), 0)


def test_without_a_truth_the_comparison_is_with_validation():
    true = peak(50, tiles=8)
    report = report_of(peak(10, tiles=2), truth([]), validation=stored(true, [0, 0, 1, 1, 2, 2, 3, 3]))
    assert (report.comparison, report.accepted) == ("unpaired", False)
    assert report.divergence.jsd_bits == pytest.approx(1)
    assert report.divergence.samples == 2
    assert set(report.against) == {"pristine"}
    assert report.histograms.true == tuple(true.sum(0).tolist())
    assert report.noise_floors == NoiseFloors(None, 0)  # the stored tiles are all alike
    same = report_of(peak(50, tiles=2), truth([]), validation=stored(true, [0, 0, 1, 1, 2, 2, 3, 3]))
    assert same.accepted is True


@pytest.mark.parametrize("validation", [None, stored(peak(50, tiles=4), [0, 0, 0, 0])])
def test_without_a_truth_and_validation_photographs_a_batch_is_not_judged(validation):
    report = report_of(peak(10, tiles=2), truth([]), validation=validation)
    assert (report.comparison, report.accepted, report.statistics, report.reasons) == ("none", None, (), ())
    assert (report.divergence is None) == (validation is None)


def test_true_distortions_of_other_models_are_not_compared():
    report = report_of(peak(10, tiles=2), truth([0, 1], other=peak(10, tiles=2)))
    assert report.comparison == "none"
    assert report.against["other"] == 0


def test_metrics_duplicates_and_counts_come_from_the_records():
    records = [record(0), record(1, psnr=None), record(2, pixel_digest=f"{0:064d}", tile=0), record(3, clipped=0.75)]
    report = report_of(peak(50, tiles=4), truth([0, 1], jpeg=peak(50, tiles=2)), records=records, psnr=20)
    assert report.psnr == MetricSpread(
        mean=65 / 3, std=pytest.approx(np.std([20, 22, 23])), min=20, max=23, paired_mean=20, true_mean=30
    )
    assert (report.samples, report.tiles, report.images, report.duplicates) == (4, 3, 2, 1)
    assert report.clipped_fraction == pytest.approx(0.375)
    assert (report.distortion, report.batch, report.level, report.model) == ("jpeg", 3, 2, "w" * 64)


def test_metrics_without_values_are_none():
    records = [record(index, psnr=None, ssim=None) for index in range(2)]
    report = report_of(peak(50, tiles=2), truth([0, 1], jpeg=peak(50, tiles=2)), records=records)
    assert (report.psnr, report.ssim) == (None, None)


def test_images_of_several_sizes_have_no_common_side():
    records = [record(0), record(1, width=200)]
    assert report_of(peak(50, tiles=2), truth([]), records=records).tile_px is None


def test_the_truth_is_found_by_the_name_of_the_model():
    records = [record(index, distortion="jpeg_small") for index in range(2)]
    truth_stats = truth([0, 1], jpeg=peak(50, tiles=2), jpeg_small=peak(50, tiles=2))
    report = report_of(peak(50, tiles=2), truth_stats, records=records)
    assert (report.distortion, report.comparison, report.divergence.jsd_bits) == ("jpeg_small", "paired", 0)
