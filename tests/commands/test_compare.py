import dataclasses
import json

import pyarrow.parquet as pq
import pytest
from damage import change_json

from distort_pipeline.commands.compare import _planned, compare
from distort_pipeline.data.arrays import create_group, write_table
from distort_pipeline.errors import PipelineError
from distort_pipeline.metrics.full_reference import COMPUTED
from distort_pipeline.records import SampleRecord

pytest_plugins = ["corpus_fixtures", "store_copies"]


def test_the_same_corpus_does_not_differ(finished_corpus, damaged):
    difference = compare(finished_corpus, damaged)
    assert (difference.different, difference.largest, difference.problems) == (0, 0, ())
    assert difference.summary == f"0.000% of {40 * 128 * 128 * 3} pixel values differ, by at most 0 of 255"


def test_pixels_may_differ_by_the_tolerance_and_no_more(finished_corpus, damaged, corpus):
    array = create_group(damaged)["distorted/jpeg"]
    tiles = array[8:16]
    tiles[3, 100, 50, 1] ^= 2
    array[8:16] = tiles
    record = next(record for record in corpus.records if (record.distortion, record.slot) == ("jpeg", 11))
    path = damaged / "records" / "jpeg-00001.parquet"
    rows = [SampleRecord(**row) for row in pq.read_table(path).to_pylist()]
    other = dict.fromkeys(COMPUTED, 0.5) | {
        "pixel_digest": "another",
        "clipped": 0.25,
    }  # all fields computed from pixels
    write_table(path, [dataclasses.replace(r, **other) if r == record else r for r in rows], SampleRecord)
    assert compare(finished_corpus, damaged, tolerance=2).problems == ()
    difference = compare(finished_corpus, damaged, tolerance=1)
    assert (difference.different, difference.largest) == (1, 2)
    (problem,) = difference.problems
    assert problem.startswith("jpeg-00001: 0.000% of")


def test_only_severities_found_by_a_search_may_differ(damaged):
    path = damaged / "records" / "jpeg-00000.parquet"
    rows = [SampleRecord(**row) for row in pq.read_table(path).to_pylist()]
    changed = [dataclasses.replace(row, severity=0.4) for row in rows]
    assert [_planned(row) for row in rows] != [_planned(row) for row in changed]
    with_target = [[dataclasses.replace(row, target=0.8) for row in records] for records in (rows, changed)]
    assert [_planned(row) for row in with_target[0]] == [_planned(row) for row in with_target[1]]


def test_other_records_and_other_pristine_tiles_are_never_tolerated(finished_corpus, damaged):
    array = create_group(damaged)["pristine"]
    tiles = array[16:20]
    tiles[0, 0, 0, 0] ^= 1
    array[16:20] = tiles
    path = damaged / "records" / "white_noise-00000.parquet"
    rows = [SampleRecord(**row) for row in pq.read_table(path).to_pylist()]
    write_table(path, [dataclasses.replace(row, seed=row.seed + 1) for row in rows], SampleRecord)
    assert set(compare(finished_corpus, damaged, tolerance=255).problems) == {
        "white_noise-00000: the records differ",
        "jpeg-00002: the pristine tiles differ",
        "white_noise-00002: the pristine tiles differ",
    }


def test_corpora_of_other_settings_are_not_compared(finished_corpus, damaged):
    settings = json.loads((damaged / "store.json").read_text())["settings"]
    change_json(damaged / "store.json", settings={**settings, "manifest_digest": "other"})
    with pytest.raises(PipelineError, match="their settings, models or images differ"):
        compare(finished_corpus, damaged)
