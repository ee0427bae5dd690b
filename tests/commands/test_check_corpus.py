import json
import shutil

import pyarrow.parquet as pq
import pytest
from damage import change_json, flip, only_problem, problems

from distort_pipeline.commands.checks import Findings, checked_records
from distort_pipeline.commands.verify import verify
from distort_pipeline.config import GenerateConfig
from distort_pipeline.records import SampleRecord, digest_rows
from distort_pipeline.steps import generate
from distort_pipeline.stores.arrays import create_group
from distort_pipeline.stores.files import write_json

pytest_plugins = ["corpus_fixtures", "store_copies"]

JPEG_SHARD = "pixels.zarr/distorted/jpeg/c.1.0.0.0"


@pytest.mark.parametrize("index", [0, 5, 40, 5000, -1, -3, -6, -30, -68])
def test_a_flipped_bit_anywhere_in_a_shard_is_found(damaged, index):
    flip(damaged / JPEG_SHARD, index, bit=index % 8)
    assert "jpeg-00001: pixels of the array distorted/jpeg are damaged" in only_problem(damaged)


@pytest.mark.parametrize("length", [0, 1, 3000, -1])
def test_a_truncated_shard_is_found(damaged, length):
    path = damaged / "pixels.zarr/pristine/c.2.0.0.0"
    path.write_bytes(path.read_bytes()[:length])
    assert only_problem(damaged).startswith("tiles-00002: ")


def test_a_deleted_shard_is_found(damaged):
    (damaged / JPEG_SHARD).unlink()
    assert "jpeg/c.1.0.0.0 is missing or empty" in only_problem(damaged)


def test_whole_images_are_checked_too(small_manifest, models, small_corpus_settings, tmp_path):
    settings = {**small_corpus_settings, "whole_images": True, "count": 2, "distortions": ("jpeg",)}
    generate.run(GenerateConfig(**settings), small_manifest, models, tmp_path / "c")
    assert verify(tmp_path / "c").problems == ()
    flip(tmp_path / "c" / "pixels.zarr" / "distorted" / "jpeg" / "00000001" / "c.0.0.0", 900)
    (tmp_path / "c" / "pixels.zarr" / "pristine" / "00000000" / "c.0.0.0").unlink()
    found_problems = verify(tmp_path / "c").problems
    assert len(found_problems) == 2
    assert "pristine/00000000/c.0.0.0 is missing or empty" in found_problems[0]
    assert "jpeg-00000: pixels of the array distorted/jpeg/00000001 are damaged" in found_problems[1]


def test_valid_but_changed_pixels_are_found(damaged):
    group = create_group(damaged)
    tiles = group["distorted/jpeg"][8:16]
    tiles[3, 100, 50, 1] ^= 1
    group["distorted/jpeg"][8:16] = tiles
    assert verify(damaged).problems == (
        "jpeg-00001: the digest of the pixels in distorted/jpeg differs from the ledger's",
        "jpeg-00001: sample 11 has other pixels",
        f"{damaged / JPEG_SHARD} was changed: its bytes differ from the listing",
    )


def test_lost_and_changed_records_are_found(damaged):
    (damaged / "records" / "jpeg-00000.parquet").unlink()
    path = damaged / "records" / "jpeg-00001.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(2, table.schema.field(2), [[7] * 8]), path)
    path = damaged / "records" / "tiles-00001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    text = problems(damaged)
    assert "jpeg-00000: a record file is missing or damaged" in text
    assert "jpeg-00001.parquet: the digest of its rows differs from the ledger's" in text
    assert "tiles-00001: a record file is missing or damaged" in text


def test_a_flipped_bit_in_a_record_file_is_found_or_changes_no_row(damaged, corpus):
    """Parquet has padding and hints without effect on readers: only rows must not change unnoticed."""
    path = damaged / "records" / "white_noise-00000.parquet"
    data = path.read_bytes()
    rows = corpus.batch_records("white_noise-00000")
    detected = 0
    for index in range(0, len(data), 23):
        path.write_bytes(data)
        flip(path, index, bit=index % 8)
        findings = Findings()
        records = checked_records(findings, damaged, "white_noise-00000", SampleRecord, digest_rows(rows))
        assert (records == rows) == (not findings.problems)
        detected += bool(findings.problems)
    assert detected > 100


def test_changed_reports_images_truths_and_pages_are_found(damaged):
    change_json(damaged / "reports" / "white_noise-00001.json", clipped_fraction=0.0)
    flip(damaged / "reports" / "jpeg-00002.png", -20)
    (damaged / "reports" / "jpeg-00001.json").write_text('{"clipped_fraction": NaN}')
    (damaged / "reports" / "white_noise-00002.png").unlink()
    flip(damaged / "truth" / "tiles-00000.npz", 2000)
    (damaged / "truth" / "tiles-00001.npz").unlink()
    page = damaged / "index.html"
    page.write_bytes(page.read_bytes()[:-30])
    text = problems(damaged)
    for message in (
        "white_noise-00001.json was changed",
        "jpeg-00002.png was changed",
        "jpeg-00001.json was changed",
        "jpeg-00001: report and ledger do not agree",
        "white_noise-00002.png cannot be read: No such file",
        "tiles-00000.npz is missing or damaged",
        "tiles-00001.npz is missing or damaged",
        "index.html is missing or incomplete",
    ):
        assert message in text


def test_another_valid_truth_is_found(damaged):
    shutil.copy(damaged / "truth" / "tiles-00000.npz", damaged / "truth" / "tiles-00001.npz")
    assert only_problem(damaged) == "truth/tiles-00001.npz was changed: its digest differs from the ledger's"


def test_changed_ledgers_and_metadata_are_found(damaged):
    metadata = json.loads((damaged / "store.json").read_text())
    for changes, message in (
        ({"digest": "0" * 64}, "its digest differs from the digest of its settings and the ledger"),
        ({"config_hash": "0" * 64}, "its config_hash differs from the digest of its settings"),
        ({"counts": {**metadata["counts"], "samples": 41}}, "store.json counts 41 samples, there are 40"),
        ({"counts": {**metadata["counts"], "flagged": 1}}, "store.json counts 1 flagged, there are 0"),
        ({"licences": {"CC0-1.0": 4}}, "its licences do not add up to its images"),
        ({"models": {}}, "its models differ from its settings"),
        ({"manifest_digest": "0"}, "its manifest_digest differs from its settings"),
    ):
        write_json(damaged / "store.json", {**metadata, **changes})
        assert message in only_problem(damaged)
    write_json(damaged / "store.json", {**metadata, "settings": {**metadata["settings"], "models": {}}})
    assert "its digest differs" in problems(damaged)
    write_json(damaged / "store.json", metadata)
    change_json(damaged / "ledger" / "jpeg-00000.json", samples=7)
    assert (
        only_problem(damaged) == "ledger/jpeg-00000.json was changed: its digest differs from the digest of its fields"
    )
    (damaged / "ledger" / "jpeg-00000.json").write_text("[")
    assert "jpeg-00000.json is damaged" in only_problem(damaged)
    (damaged / "ledger" / "jpeg-00000.json").unlink()
    assert "there is no file" in only_problem(damaged)


def test_invalid_metadata_is_a_single_problem(damaged):
    metadata = json.loads((damaged / "store.json").read_text())
    for changes, message in (
        ({"samples": 3}, "samples must be there, as dict"),
        ({"settings": {}}, "settings.generate.samples_per_shard must be there, as int"),
        ({"batches": {"jpeg": 3}}, "its counts are incomplete"),
        ({"version": 2}, "of version 2"),
        ({"format": "distort-pipeline/diary"}, "a format unknown to `verify`"),
    ):
        write_json(damaged / "store.json", {**metadata, **changes})
        assert message in problems(damaged)
    (damaged / "store.json").write_text("{")
    assert "is damaged" in only_problem(damaged)


def test_damaged_array_metadata_is_found_and_the_rest_still_checked(damaged):
    meta = damaged / "pixels.zarr" / "distorted" / "jpeg" / "zarr.json"
    text = meta.read_text()
    flip(damaged / "pixels.zarr/distorted/white_noise/c.0.0.0.0", 9)
    for change in (("uint8", "wint8"), ("20", "60"), ("chunk_shape", "shunk_shape"), ("{", "")):
        meta.write_text(text.replace(*change, 1))
        assert [problem.split(": ")[0] for problem in verify(damaged).problems] == [
            "jpeg-00000",
            "jpeg-00001",
            "jpeg-00002",
            "white_noise-00000",
            f"{meta} was changed",
        ]
    (damaged / "pixels.zarr" / "zarr.json").write_text("{")
    (damaged / "records" / "jpeg-00000.parquet").unlink()
    text = problems(damaged)
    assert "the pixels of" in text
    assert "a record file is missing" in text
