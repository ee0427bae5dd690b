import math

import numpy as np
import pytest

from distort_pipeline.records import SampleRecord
from distort_pipeline.reports.batch import BatchMeasures, TruthStats, batch_report
from distort_pipeline.statistics.noise_floor import MIN_THRESHOLD_BITS
from distort_pipeline.stores.models import ValidationHistograms

BINS = 103


def peak(*places, tiles=1, values=90):
    """Return histograms, (tiles, 103), of `values` values shared evenly by the bins `places`."""
    counts = np.zeros((tiles, BINS), np.int64)
    counts[:, list(places)] = values // len(places)
    return counts


def record(place, **changes):
    values = {
        "sample": place, "distortion": "jpeg", "batch": 3, "slot": place, "tile": place, "image": f"p{place // 2}",
        "split": "train", "y": 0, "x": 0, "height": 128, "width": 128, "level": 2, "severity": 1.0,
        "parameters": '{"quality":12}', "target": None, "draw": 0, "seed": place,
        "model": "w" * 64, "precision": "float32", "pixel_digest": f"{place:064d}", "psnr": 20.0 + place, "ssim": 0.5,
        "ms_ssim": None, "gmsd": 0.1, "clipped": 0.25,
    }  # fmt: skip
    return SampleRecord(**{**values, **changes})


def stored(generated, true, tile_px=128):
    tiles = len(generated)
    return ValidationHistograms(true.copy(), true, generated, np.arange(tiles) % 2, tile_px)


def truth(places, **by_name):
    ones = {name: np.full(len(places), 30.0) for name in by_name}
    return TruthStats(np.array(places, np.int64), by_name, ones, ones)


def report_of(generated, own, *, records=None, kept=None, pristine=None, external=False):
    records = records or [record(place) for place in range(len(generated))]
    pristine = peak(90, tiles=len(generated)) if pristine is None else pristine
    kept = kept or stored(peak(50, tiles=4), peak(50, 51, tiles=4))
    return batch_report(BatchMeasures(records, generated, pristine, own), [[kept]], external=external, seed=0)


def test_identical_histograms_score_zero_and_lie_within_any_bound():
    report = report_of(peak(50, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, tiles=4)))
    assert (report["judged_by"], report["paired"]["jsd_bits"]) == ("paired", 0)
    assert report["accepted"] is True
    assert report["reasons"] == []
    assert (report["paired"]["samples"], report["paired"]["images"]) == (4, 2)


def test_disjoint_histograms_score_one_bit_and_are_out_of_bounds():
    report = report_of(peak(10, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, tiles=4)))
    assert report["paired"]["jsd_bits"] == pytest.approx(1)
    assert report["paired"]["jsd_nats"] == pytest.approx(math.log(2))
    assert report["accepted"] is False
    threshold = report["paired"]["threshold_bits"]
    assert report["reasons"] == [f"JSD_NSS 1.0000 bits is above {threshold:.4f}"]


def test_a_bound_is_what_validation_showed():
    """Every validation tile scores the same, one bin against that bin and its neighbour: so does every resample."""
    half = 0.5 * math.log2(1 / 0.75) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    report = report_of(peak(50, tiles=4), truth([0, 1, 2, 3], jpeg=peak(50, 51, tiles=4)))
    assert report["paired"]["threshold_bits"] == pytest.approx(half)
    assert report["paired"]["jsd_bits"] == pytest.approx(half)


def test_only_tiles_that_have_a_truth_are_compared_with_it():
    generated = np.concatenate([peak(10, tiles=2), peak(50, tiles=2)])
    pristine = np.concatenate([peak(50, tiles=2), peak(10, tiles=2)])
    own = truth([2, 3], jpeg=peak(50, tiles=2), other=peak(10, tiles=2))
    report = report_of(generated, own, pristine=pristine)
    assert (report["paired"]["jsd_bits"], report["paired"]["samples"], report["paired"]["images"]) == (0, 2, 1)
    assert report["against"] == {"pristine": pytest.approx(1), "jpeg": 0, "other": pytest.approx(1)}
    assert report["histograms"]["generated"] == peak(50, tiles=2).sum(0).tolist()
    assert report["unpaired"]["jsd_bits"] > 0.1  # that one is of all samples
    assert report["noise_floors"]["content_bits"] is None  # one image has no halves
    assert report["noise_floors"]["sampling_bits"] == 0


def test_without_a_truth_the_stored_histogram_judges():
    kept = stored(peak(50, tiles=4), peak(50, tiles=4))
    report = report_of(peak(10, tiles=2), truth([]), kept=kept)
    assert (report["judged_by"], report["paired"]) == ("unpaired", None)
    assert report["unpaired"]["jsd_bits"] == pytest.approx(1)
    assert report["unpaired"]["threshold_bits"] == MIN_THRESHOLD_BITS
    assert report["accepted"] is False
    assert set(report["against"]) == {"pristine"}
    assert report["histograms"]["true"] == kept.true.sum(0).tolist()
    assert report["noise_floors"] == {"sampling_bits": 0, "content_bits": 0}  # of the stored tiles, which are all alike
    assert report_of(peak(50, tiles=2), truth([]), kept=kept)["accepted"] is True


def test_without_a_truth_doing_nothing_and_other_photographs_are_held_against_the_stored_histogram():
    kept = stored(peak(50, tiles=4), np.concatenate([peak(50), peak(20)] * 2))  # two photographs, nothing in common
    report = report_of(peak(50, tiles=2), truth([]), kept=kept, pristine=peak(90, tiles=2))
    assert report["unpaired"]["pristine_bits"] == pytest.approx(1)
    assert report["noise_floors"]["content_bits"] == pytest.approx(1)
    half_right = report_of(peak(50, tiles=2), truth([]), kept=kept, pristine=peak(50, tiles=2))["unpaired"]
    assert half_right["pristine_bits"] == half_right["jsd_bits"] > 0


def test_other_models_truths_do_not_judge():
    report = report_of(peak(10, tiles=2), truth([0, 1], other=peak(10, tiles=2)))
    assert report["judged_by"] == "unpaired"
    assert report["against"]["other"] == 0


def test_smaller_tiles_are_held_to_the_bound_of_as_many_pixels():
    """Half of the validation tiles are perfect, half are not: small batches vary more and get a wider bound."""
    kept = stored(np.concatenate([peak(50, tiles=6), peak(20, tiles=6)]), peak(50, tiles=12), tile_px=256)
    kept = ValidationHistograms(kept.pristine, kept.true, kept.generated, np.zeros(12, np.int64), 256)
    own = truth(range(64), jpeg=peak(50, tiles=64))
    thresholds = {}
    for side in (128, 256):
        records = [record(place, height=side, width=side) for place in range(64)]
        report = report_of(peak(50, tiles=64), own, records=records, kept=kept)
        thresholds[side] = report["paired"]["threshold_bits"]
        assert report["tile_px"] == side
    assert thresholds[128] > thresholds[256] > 0


def test_labels_duplicates_and_counts_are_those_of_the_records():
    records = [record(0), record(1, psnr=None), record(2, pixel_digest=f"{0:064d}", tile=0), record(3, clipped=0.75)]
    report = report_of(peak(50, tiles=4), truth([0, 1], jpeg=peak(50, tiles=2)), records=records)
    assert report["psnr"] == {
        "mean": 65 / 3, "std": pytest.approx(np.std([20, 22, 23])), "min": 20, "max": 23,
        "beside_true_mean": 20, "true_mean": 30,  # of sample 0: sample 1 has no value, the others no true image
    }  # fmt: skip
    assert (report["samples"], report["tiles"], report["images"], report["duplicates"]) == (4, 3, 2, 1)
    assert report["clipped_fraction"] == pytest.approx(0.375)
    assert (report["distortion"], report["batch"], report["level"], report["model"]) == ("jpeg", 3, 2, "w" * 64)


def test_labels_that_nothing_has_are_none():
    records = [record(place, psnr=None, ssim=None) for place in range(2)]
    report = report_of(peak(50, tiles=2), truth([0, 1], jpeg=peak(50, tiles=2)), records=records)
    assert (report["psnr"], report["ssim"]) == (None, None)


def test_a_truth_that_equals_the_pristine_tile_has_no_mean_psnr():
    own = truth([0, 1], jpeg=peak(50, tiles=2))
    own = TruthStats(own.places, own.histograms, {"jpeg": np.full(2, np.nan)}, own.ssim)
    assert report_of(peak(50, tiles=2), own)["psnr"]["true_mean"] is None


def test_images_of_several_sizes_have_no_common_side():
    records = [record(0), record(1, width=200)]
    assert report_of(peak(50, tiles=2), truth([]), records=records)["tile_px"] is None


def test_a_report_is_the_same_each_time_and_depends_on_its_seed_only_in_draws():
    rng = np.random.default_rng(0)
    generated, true = (rng.integers(1, 50, (8, BINS)) for _ in range(2))
    kept = stored(generated, true)
    measures = BatchMeasures([record(p) for p in range(8)], generated, true, truth(range(8), jpeg=true))
    first, again, other = (batch_report(measures, [[kept]], external=False, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first["paired"]["jsd_bits"] == other["paired"]["jsd_bits"]
    assert first["paired"]["threshold_bits"] != other["paired"]["threshold_bits"]


def test_the_model_s_name_finds_its_truth_not_the_distortion_that_it_learned():
    records = [record(place, distortion="jpeg_small") for place in range(2)]
    own = truth([0, 1], jpeg_small=peak(50, tiles=2), jpeg=peak(10, tiles=2))
    report = report_of(peak(50, tiles=2), own, records=records)
    assert (report["distortion"], report["judged_by"], report["paired"]["jsd_bits"]) == ("jpeg_small", "paired", 0)
