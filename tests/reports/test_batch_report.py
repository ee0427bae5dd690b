import math

import numpy as np
import pytest

from distort_pipeline.data.corpus_metadata import MetricSpread, NoiseFloors
from distort_pipeline.metrics.jsd_nss import MIN_THRESHOLD_BITS
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


def stored(generated, true, tile_px=128):
    tiles = len(generated)
    return ValidationHistograms(true.copy(), true, generated, np.arange(tiles) % 2, tile_px)


def truth(indices, **by_name):
    ones = {name: np.full(len(indices), 30.0) for name in by_name}
    return TruthStats(np.array(indices, np.int64), by_name, ones, ones)


def report_of(generated, truth_stats, *, records=None, histograms=None, pristine=None, external=False):
    records = records or [record(index) for index in range(len(generated))]
    pristine = peak(90, tiles=len(generated)) if pristine is None else pristine
    histograms = histograms or stored(peak(50, tiles=4), peak(50, 51, tiles=4))
    return batch_report(
        BatchMeasures(records, generated, pristine, truth_stats), [[histograms]], external=external, seed=0
    )


def test_identical_histograms_score_zero_and_are_accepted():
    report = report_of(peak(50, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, tiles=4)))
    assert (report.comparison, report.paired.jsd_bits) == ("paired", 0)
    assert report.accepted is True
    assert report.reasons == ()
    assert (report.paired.samples, report.paired.images) == (4, 2)


def test_disjoint_histograms_score_one_bit_and_are_rejected():
    report = report_of(peak(10, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, tiles=4)))
    assert report.paired.jsd_bits == pytest.approx(1)
    assert report.paired.jsd_nats == pytest.approx(math.log(2))
    assert report.accepted is False
    threshold = report.paired.threshold_bits
    assert report.reasons == (f"JSD_NSS 1.0000 bits exceeds the acceptance threshold of {threshold:.4f}",)


def test_the_acceptance_threshold_comes_from_validation():
    """Every validation tile scores the same, one bin against that bin and its neighbour: so does every resample."""
    half = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    report = report_of(peak(50, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, 51, tiles=4)))
    assert report.paired.threshold_bits == pytest.approx(half)
    assert report.paired.jsd_bits == pytest.approx(half)


def test_only_tiles_that_have_a_truth_are_compared_with_it():
    generated = np.concatenate([peak(10, tiles=2), peak(50, tiles=2)])
    pristine = np.concatenate([peak(50, tiles=2), peak(10, tiles=2)])
    truth_stats = truth([2, 3], jpeg=peak(50, tiles=2), other=peak(10, tiles=2))
    report = report_of(generated, truth_stats, pristine=pristine)
    assert (report.paired.jsd_bits, report.paired.samples, report.paired.images) == (0, 2, 1)
    assert report.against == {"pristine": pytest.approx(1), "jpeg": 0, "other": pytest.approx(1)}
    assert report.histograms.generated == tuple(peak(50, tiles=2).sum(0).tolist())
    assert report.unpaired.jsd_bits > 0.1  # of all samples
    assert report.noise_floors.between_content_bits is None  # one image has no halves
    assert report.noise_floors.split_half_bits == 0


def test_without_a_truth_the_comparison_is_unpaired():
    histograms = stored(peak(50, tiles=4), peak(50, tiles=4))
    report = report_of(peak(10, tiles=2), truth([]), histograms=histograms)
    assert (report.comparison, report.paired) == ("unpaired", None)
    assert report.unpaired.jsd_bits == pytest.approx(1)
    assert report.unpaired.threshold_bits == MIN_THRESHOLD_BITS
    assert report.accepted is False
    assert set(report.against) == {"pristine"}
    assert report.histograms.true == tuple(histograms.true.sum(0).tolist())
    assert report.noise_floors == NoiseFloors(0, 0)  # of the stored tiles, which are all alike
    assert report_of(peak(50, tiles=2), truth([]), histograms=histograms).accepted is True


def test_without_a_truth_baselines_come_from_the_stored_histograms():
    histograms = stored(
        peak(50, tiles=4), np.concatenate([peak(50), peak(20)] * 2)
    )  # two photographs, nothing in common
    report = report_of(peak(50, tiles=2), truth([]), histograms=histograms, pristine=peak(90, tiles=2))
    assert report.unpaired.identity_bits == pytest.approx(1)
    assert report.noise_floors.between_content_bits == pytest.approx(1)
    half_right = report_of(peak(50, tiles=2), truth([]), histograms=histograms, pristine=peak(50, tiles=2)).unpaired
    assert half_right.identity_bits == half_right.jsd_bits > 0


def test_true_distortions_of_other_models_are_not_compared():
    report = report_of(peak(10, tiles=2), truth([0, 1], other=peak(10, tiles=2)))
    assert report.comparison == "unpaired"
    assert report.against["other"] == 0


def test_smaller_tiles_get_the_threshold_of_equal_area():
    """Half of the validation tiles are perfect, half are not: small batches vary more and get a larger threshold."""
    histograms = stored(np.concatenate([peak(50, tiles=6), peak(20, tiles=6)]), peak(50, tiles=12), tile_px=256)
    histograms = ValidationHistograms(
        histograms.pristine, histograms.true, histograms.generated, np.zeros(12, np.int64), 256
    )
    truth_stats = truth(range(64), jpeg=peak(50, tiles=64))
    thresholds = {}
    for side in (128, 256):
        records = [record(index, height=side, width=side) for index in range(64)]
        report = report_of(peak(50, tiles=64), truth_stats, records=records, histograms=histograms)
        thresholds[side] = report.paired.threshold_bits
        assert report.tile_px == side
    assert thresholds[128] > thresholds[256] > 0


def test_metrics_duplicates_and_counts_come_from_the_records():
    records = [record(0), record(1, psnr=None), record(2, pixel_digest=f"{0:064d}", tile=0), record(3, clipped=0.75)]
    report = report_of(peak(50, tiles=4), truth([0, 1], jpeg=peak(50, tiles=2)), records=records)
    assert report.psnr == MetricSpread(
        mean=65 / 3, std=pytest.approx(np.std([20, 22, 23])), min=20, max=23,
        paired_mean=20, true_mean=30,  # of sample 0: sample 1 has no value, the others no true image
    )  # fmt: skip
    assert (report.samples, report.tiles, report.images, report.duplicates) == (4, 3, 2, 1)
    assert report.clipped_fraction == pytest.approx(0.375)
    assert (report.distortion, report.batch, report.level, report.model) == ("jpeg", 3, 2, "w" * 64)


def test_metrics_without_values_are_none():
    records = [record(index, psnr=None, ssim=None) for index in range(2)]
    report = report_of(peak(50, tiles=2), truth([0, 1], jpeg=peak(50, tiles=2)), records=records)
    assert (report.psnr, report.ssim) == (None, None)


def test_a_truth_that_equals_the_pristine_tile_has_no_mean_psnr():
    truth_stats = truth([0, 1], jpeg=peak(50, tiles=2))
    truth_stats = TruthStats(
        truth_stats.indices, truth_stats.histograms, {"jpeg": np.full(2, np.nan)}, truth_stats.ssim
    )
    assert report_of(peak(50, tiles=2), truth_stats).psnr.true_mean is None


def test_images_of_several_sizes_have_no_common_side():
    records = [record(0), record(1, width=200)]
    assert report_of(peak(50, tiles=2), truth([]), records=records).tile_px is None


def test_a_report_is_the_same_each_time_and_depends_on_its_seed_only_in_draws():
    rng = np.random.default_rng(0)
    generated, true = (rng.integers(1, 50, (8, BINS)) for _ in range(2))
    histograms = stored(generated, true)
    measures = BatchMeasures([record(p) for p in range(8)], generated, true, truth(range(8), jpeg=true))
    first, repeated, other = (batch_report(measures, [[histograms]], external=False, seed=seed) for seed in (1, 1, 2))
    assert first == repeated
    assert first.paired.jsd_bits == other.paired.jsd_bits
    assert first.paired.threshold_bits != other.paired.threshold_bits


def test_the_truth_is_found_by_the_name_of_the_model():
    records = [record(index, distortion="jpeg_small") for index in range(2)]
    truth_stats = truth([0, 1], jpeg_small=peak(50, tiles=2), jpeg=peak(10, tiles=2))
    report = report_of(peak(50, tiles=2), truth_stats, records=records)
    assert (report.distortion, report.comparison, report.paired.jsd_bits) == ("jpeg_small", "paired", 0)
