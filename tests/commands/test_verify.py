import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_models import write_model

from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig, GenerateConfig
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.records import digest
from distort_pipeline.steps import export, generate
from distort_pipeline.stores.arrays import create_group, pixel_digest, write_picture
from distort_pipeline.stores.files import write_json

pytest_plugins = ["corpus_fixtures"]

JPEG_SHARD = "pixels.zarr/distorted/jpeg/c/1/0/0/0"


def flip(path, place, bit=0):
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)


def change_json(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def problems(path, **options):
    return "\n".join(verify(path, **options).problems)


def only_problem(path, **options):
    found = verify(path, **options).problems
    assert len(found) == 1, found
    return found[0]


@pytest.fixture
def pairs(pair_store, tmp_path):
    """The folder of a copy of a pair store, to be damaged."""
    return shutil.copytree(pair_store.folder, tmp_path / "pairs")


@pytest.fixture
def model(models, tmp_path):
    """The folder of a copy of a model, to be damaged."""
    return shutil.copytree(models / "jpeg", tmp_path / "jpeg")


@pytest.fixture
def exported(finished_corpus, tmp_path):
    """The folder of a small export, to be damaged."""
    export.run(ExportConfig(limit=4, workers=0), finished_corpus, tmp_path / "export")
    return tmp_path / "export"


def test_what_was_just_made_is_as_it_was_made(finished_corpus, pair_store, models, exported, small_manifest):
    for path, kind, counts in (
        (finished_corpus, "corpus", {"samples": 40, "shards": 9, "pictures": 60, "records": 60, "files": 15}),
        (pair_store.folder, "pairs", {"shards": 5, "records": 30, "pairs": 30, "arrays": 20}),
        (models / "jpeg", "model", {"histograms": 20}),
        (models / "white_noise", "model", {"histograms": 20}),
        (exported, "export", {"files": 9}),
        (small_manifest, "manifest", {"pictures": 5}),
    ):
        report = verify(path)
        assert report.problems == ()
        assert report.kind == kind
        assert {name: report.counts[name] for name in counts} == counts
        assert report.summary.startswith(f"{kind}: all as it was made; checked ")


def test_whole_pictures_are_checked_too(small_manifest, models, small_corpus_settings, tmp_path):
    settings = {**small_corpus_settings, "whole_pictures": True, "count": 2, "distortions": ("jpeg",)}
    generate.run(GenerateConfig(**settings), small_manifest, models, tmp_path / "c")
    assert verify(tmp_path / "c").problems == ()
    flip(tmp_path / "c" / "pixels.zarr" / "distorted" / "jpeg" / "00000001" / "c" / "0" / "0" / "0", 900)
    (tmp_path / "c" / "pixels.zarr" / "pristine" / "00000000" / "c" / "0" / "0" / "0").unlink()
    found = verify(tmp_path / "c").problems
    assert len(found) == 2
    assert "pristine/00000000/c/0/0/0 is missing or empty" in found[0]
    assert "jpeg-00000: pixels of the array distorted/jpeg/00000001 are damaged" in found[1]


@pytest.mark.parametrize("place", [0, 5, 40, 5000, -1, -3, -6, -30, -68])
def test_a_flipped_bit_anywhere_in_a_shard_is_found(damaged, place):
    flip(damaged / JPEG_SHARD, place, bit=place % 8)
    assert "jpeg-00001: pixels of the array distorted/jpeg are damaged" in only_problem(damaged)


@pytest.mark.parametrize("left", [0, 1, 3000, -1])
def test_a_truncated_shard_is_found(damaged, left):
    path = damaged / "pixels.zarr/pristine/c/2/0/0/0"
    path.write_bytes(path.read_bytes()[:left])
    assert only_problem(damaged).startswith("tiles-00002: ")


def test_a_deleted_shard_is_found_also_if_it_was_all_black(damaged):
    (damaged / JPEG_SHARD).unlink()
    assert "jpeg/c/1/0/0/0 is missing or empty" in only_problem(damaged)


def test_a_deleted_black_picture_is_found(tmp_path):
    """Zarr reads the missing file as the very pixels that were lost: the digest alone would not tell."""
    from distort_pipeline.commands.check_pairs import Column, PairShard, check_shard

    black = np.zeros((16, 16, 3), np.uint8)
    write_picture(create_group(tmp_path), "val/a/pristine", black)
    header = {"format": "distort-pipeline/pairs", "version": 1, "shards": {"train": 0, "val": 1}}
    write_json(tmp_path / "store.json", header)
    entry = {"shard": "val-00000", "pairs": 0, "tiles": 1, "arrays": {"pristine": pixel_digest([black])}}
    entry |= {"records": digest([]), "missing": [{"picture": "a", "distortion": "faded", "reason": "none"}]}
    write_json(tmp_path / "ledger" / "val-00000.json", {**entry, "digest": digest(entry)})
    shard = PairShard(tmp_path, "val", 0, 4, 256, (Column("pristine", None, 0),), True)
    assert not any("pristine" in problem for problem in check_shard(shard).problems)
    (tmp_path / "pixels.zarr/val/a/pristine/c/0/0/0").unlink()
    assert any("val/a/pristine/c/0/0/0 is missing" in problem for problem in check_shard(shard).problems)


def test_pixels_that_are_sound_but_others_are_found(damaged):
    group = create_group(damaged)
    tiles = group["distorted/jpeg"][8:16]
    tiles[3, 100, 50, 1] ^= 1
    group["distorted/jpeg"][8:16] = tiles
    found = verify(damaged).problems
    assert found == (
        "jpeg-00001: the pixels in distorted/jpeg are not those that the ledger tells of",
        "jpeg-00001: sample 11 has other pixels",
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
    assert "jpeg-00001.parquet: its rows are not those that the ledger's digest was taken of" in text
    assert "tiles-00001: a record file is missing or damaged" in text


def test_every_bit_of_a_record_file_counts_or_is_of_no_consequence(damaged, corpus):
    """Parquet has padding and hints that no reader uses: the rows are what must not change unnoticed."""
    from distort_pipeline.commands.checks import Findings, checked_records
    from distort_pipeline.records import SampleRecord, digest_rows

    path = damaged / "records" / "white_noise-00000.parquet"
    data = path.read_bytes()
    rows = corpus.batch_records("white_noise-00000")
    noticed = 0
    for place in range(0, len(data), 23):
        path.write_bytes(data)
        flip(path, place, bit=place % 8)
        found = Findings()
        records = checked_records(found, damaged, "white_noise-00000", SampleRecord, digest_rows(rows))
        assert (records == rows) == (not found.problems)
        noticed += bool(found.problems)
    assert noticed > 100


def test_changed_reports_strips_truths_and_pages_are_found(damaged):
    change_json(damaged / "reports" / "white_noise-00001.json", clipped_fraction=0.0)
    flip(damaged / "reports" / "jpeg-00002.png", -20)
    (damaged / "reports" / "jpeg-00001.json").write_text('{"clipped_fraction": NaN}')
    (damaged / "reports" / "white_noise-00002.png").unlink()
    flip(damaged / "truth" / "tiles-00000.npz", 2000)
    (damaged / "truth" / "tiles-00001.npz").unlink()
    (damaged / "index.html").unlink()
    text = problems(damaged)
    for words in (
        "white_noise-00001.json was changed",
        "jpeg-00002.png was changed",
        "jpeg-00001.json was changed",
        "jpeg-00001: report and ledger do not agree",
        "white_noise-00002.png cannot be read: No such file",
        "tiles-00000.npz is missing or damaged",
        "tiles-00001.npz is missing or damaged",
        "index.html is missing",
    ):
        assert words in text


def test_another_sound_truth_is_found(damaged):
    shutil.copy(damaged / "truth" / "tiles-00000.npz", damaged / "truth" / "tiles-00001.npz")
    assert only_problem(damaged) == "truth/tiles-00001.npz was changed: its digest is not the ledger's"


def test_a_changed_ledger_and_a_changed_header_are_found(damaged):
    header = json.loads((damaged / "store.json").read_text())
    for changes, words in (
        ({"digest": "0" * 64}, "its digest is not the one of its settings and the ledger"),
        ({"key": "0" * 64}, "its key is not the one of its settings"),
        ({"counts": {**header["counts"], "samples": 41}}, "store.json counts 41 samples, there are 40"),
        ({"counts": {**header["counts"], "flagged": 1}}, "store.json counts 1 flagged, there are 0"),
        ({"licences": {"CC0-1.0": 4}}, "its licences are not of as many pictures"),
        ({"models": {}}, "names other models than its settings"),
        ({"manifest_digest": "0"}, "names another manifest than its settings"),
    ):
        write_json(damaged / "store.json", {**header, **changes})
        assert words in only_problem(damaged)
    write_json(damaged / "store.json", {**header, "settings": {**header["settings"], "models": {}}})
    assert "its digest is not" in problems(damaged)
    write_json(damaged / "store.json", header)
    change_json(damaged / "ledger" / "jpeg-00000.json", samples=7)
    assert only_problem(damaged) == "ledger/jpeg-00000.json was changed: its digest is another one"
    (damaged / "ledger" / "jpeg-00000.json").write_text("[")
    assert "jpeg-00000.json is damaged" in only_problem(damaged)
    (damaged / "ledger" / "jpeg-00000.json").unlink()
    assert "there is no file" in only_problem(damaged)


def test_a_header_that_cannot_be_gone_by_is_one_problem(damaged):
    header = json.loads((damaged / "store.json").read_text())
    for changes, words in (
        ({"samples": 3}, "samples must be there, as dict"),
        ({"settings": {}}, "settings.generate.batch_samples must be there, as int"),
        ({"batches": {"jpeg": 3}}, "does not say how much there is of what"),
        ({"version": 2}, "of version 2"),
        ({"format": "distort-pipeline/diary"}, "of no kind that `verify` knows"),
    ):
        write_json(damaged / "store.json", {**header, **changes})
        assert words in problems(damaged)
    (damaged / "store.json").write_text("{")
    assert "is damaged" in only_problem(damaged)


def test_damaged_array_metadata_is_found_and_the_rest_still_checked(damaged):
    meta = damaged / "pixels.zarr" / "distorted" / "jpeg" / "zarr.json"
    text = meta.read_text()
    flip(damaged / "pixels.zarr/distorted/white_noise/c/0/0/0/0", 9)
    for change in (("uint8", "wint8"), ("20", "60"), ("chunk_shape", "shunk_shape"), ("{", "")):
        meta.write_text(text.replace(*change, 1))
        found = verify(damaged).problems
        assert [problem.split(": ")[0] for problem in found] == [
            "jpeg-00000",
            "jpeg-00001",
            "jpeg-00002",
            "white_noise-00000",
        ]
    (damaged / "pixels.zarr" / "zarr.json").write_text("{")
    (damaged / "records" / "jpeg-00000.parquet").unlink()
    text = problems(damaged)
    assert "the pixels of" in text
    assert "a record file is missing" in text


def test_leftovers_and_strays_are_named(damaged):
    (damaged / "reports" / ".jpeg-00000.json.1234.partial").write_text("")
    (damaged / "records" / "jpeg-00009.parquet").write_text("")
    work = damaged.parent / f".{damaged.name}.0123456789abcdef.building"
    work.mkdir()
    text = problems(damaged)
    assert "jpeg-00000.json.1234.partial was left behind" in text
    assert "jpeg-00009.parquet belongs to nothing in this store" in text
    assert f"{work} is of a run that did not end" in text


def test_all_problems_are_named_and_workers_find_the_same(damaged):
    flip(damaged / JPEG_SHARD, 60)
    (damaged / "records" / "white_noise-00002.parquet").unlink()
    change_json(damaged / "store.json", digest="0")
    found = verify(damaged)
    assert len(found.problems) == 3
    assert found.summary.startswith("corpus: 3 problems; checked ")
    assert sorted(verify(damaged, workers=Workers(1)).problems) == sorted(found.problems)


def test_the_manifest_that_a_store_was_made_of_is_told_from_others(
    damaged, pairs, small_manifest, tmp_path, make_manifest, photographs
):
    assert problems(damaged, manifest=small_manifest) == problems(pairs, manifest=small_manifest) == ""
    other = make_manifest(tmp_path / "other", {"a": (photographs["wren"], "train")})
    assert only_problem(damaged, manifest=other).endswith("was made of another manifest")
    assert only_problem(pairs, manifest=other).endswith("was made of another manifest")


def test_damage_in_a_pair_store_is_found(pairs):
    group = create_group(pairs)
    array = group["train/white_noise"]
    tile = array[0, 1]
    tile[5, 5, 0] ^= 128
    array[0, 1] = tile
    (pairs / "pixels.zarr/train/pristine/c/0/1/0/0/0").unlink()
    flip(pairs / "pixels.zarr/train/jpeg/c/0/0/0/0/0", 99)
    flip(pairs / "pixels.zarr/val/maple-1/jpeg-1/c/0/0/0", 99)
    (pairs / "pixels.zarr/val/hills-1/pristine/c/0/0/0").unlink()
    (pairs / "records" / "val-00001.parquet").write_bytes(b"")
    change_json(pairs / "ledger" / "train-00001.json", pairs=1)
    found = sorted(verify(pairs).problems)
    for words in (
        "ledger/train-00001.json was changed",
        "train-00000, white_noise-1: the pixels are not those",
        "train-00000, jpeg-1: pixels of the array train/jpeg are damaged",
        "val-00001, jpeg-1: pixels of the array val/maple-1/jpeg-1 are damaged",
        "val/hills-1/pristine/c/0/0/0 is missing or empty",
        "val-00001: a record file is missing or damaged",
    ):
        assert any(words in problem for problem in found) or "val-00001, jpeg-1" in words, (words, found)


def test_a_missing_training_shard_of_a_pair_store_is_found(pairs):
    (pairs / "pixels.zarr/train/pristine/c/0/1/0/0/0").unlink()
    assert only_problem(pairs).endswith("train/pristine/c/0/1/0/0/0 is missing or empty")
    assert only_problem(pairs).startswith("train-00001, pristine: ")


def test_a_changed_header_of_a_pair_store_is_found(pairs):
    header = json.loads((pairs / "store.json").read_text())
    for changes, words in (
        ({"digest": "0"}, "its digest is not the one"),
        ({"counts": {**header["counts"], "pairs": 1}}, "store.json counts 1 pairs, there are"),
        ({"missing": [1]}, "do not agree on what is missing"),
        ({"shards": {"train": 1, "val": "x"}}, "shards.val must be there, as int"),
        ({"recipes": [{}]}, "{} is no recipe"),
    ):
        write_json(pairs / "store.json", {**header, **changes})
        assert words in problems(pairs)


def test_a_damaged_model_is_found(model):
    flip(model / "generator.safetensors", -100)
    assert "the weights are not those with the digest in store.json" in only_problem(model)
    flip(model / "generator.safetensors", -100)
    header = json.loads((model / "store.json").read_text())
    write_json(model / "store.json", {**header, "figures": {**header["figures"], "jsd_nss": 0.0}})
    assert "store.json says jsd_nss 0.0, the histograms say" in only_problem(model)
    write_json(model / "store.json", {**header, "settings": {**header["settings"], "distortion": "jp2k"}})
    assert "its key is not the one of its settings" in only_problem(model)
    write_json(model / "store.json", header)
    good = (model / "validation_histograms.npz").read_bytes()
    for place in (0, 28, 300, -1, -30):
        flip(model / "validation_histograms.npz", place)
        text = problems(model)
        assert place in (-1, -30) or "histograms" in text, place
        (model / "validation_histograms.npz").write_bytes(good)
    (model / "generator.safetensors").write_bytes(b"short")
    (model / "validation_histograms.npz").unlink()
    (model / "README.md").unlink()
    assert len(verify(model).problems) == 3


def test_histograms_of_another_number_of_values_are_found(tmp_path, histograms_of, truly):
    exact = histograms_of(truly("jpeg"), truly("jpeg"))
    exact.true[3, 50] += 1
    write_model(tmp_path / "m", "jpeg", exact)
    assert only_problem(tmp_path / "m") == "the histograms are not of 20 tiles of 128 px, 16129 values each"


def test_a_damaged_export_is_found(exported):
    sample = next(path for path in sorted((exported / "distorted" / "jpeg").iterdir()))
    flip(sample, 100)
    (exported / "pristine" / "00000001.png").unlink()
    with (exported / "metadata.csv").open("a") as file:
        file.write("\n")
    (exported / "pristine" / "extra.png").write_bytes(b"")
    change_json(exported / "store.json", digest="0")
    found = verify(exported).problems
    assert len(found) == 5
    for words in (
        f"{sample.name} was changed",
        "00000001.png cannot be read",
        "metadata.csv was changed",
        "extra.png belongs to nothing",
        "its digest is not",
    ):
        assert words in "\n".join(found)


def test_changed_pictures_of_a_manifest_are_found(small_manifest, tmp_path, photographs):
    from distort_pipeline.stores.pictures import encode_png

    folder = shutil.copytree(small_manifest.parent, tmp_path / "p")
    (folder / "wren.png").write_bytes(encode_png(photographs["osprey"]))
    (folder / "hills.png").unlink()
    flip(folder / "maple.png", 500)
    text = problems(folder / "manifest.jsonl")
    assert "wren.png: its file was changed" in text
    assert "wren.png has other pixels" in text
    assert "hills.png is no use any more: there is no such file" in text
    assert "maple.png" in text
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    (folder / "manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert "the rows are not those that its digest was taken of" in only_problem(folder / "manifest.jsonl")
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(small_manifest, tmp_path / "elsewhere" / "m.jsonl")
    moved.write_text(moved.read_text().replace('"root": "."', '"root": "gone"', 1))
    assert "which is no folder: they were not checked" in only_problem(moved)


def test_a_folder_of_stores_is_checked_store_by_store(model, damaged, small_manifest, tmp_path):
    build = tmp_path / "build"
    (build / "models").mkdir(parents=True)
    shutil.move(model, build / "models" / "jpeg")
    shutil.move(damaged, build / "corpus")
    shutil.copytree(small_manifest.parent, build / "pictures")
    report = verify(build)
    assert (report.kind, report.problems) == ("folder", ())
    assert report.counts == {"model": 1, "corpus": 1, "manifest": 1}
    flip(build / "models" / "jpeg" / "generator.safetensors", -1)
    flip(build / "corpus" / JPEG_SHARD, 8)
    (build / ".pairs.0123456789abcdef.building").mkdir()
    found = verify(build).problems
    assert len(found) == 3
    assert found[0].endswith(
        ".pairs.0123456789abcdef.building is of a run that did not end; run its command again, or delete it"
    )
    assert found[1].startswith("corpus: jpeg-00001: ")
    assert found[2].startswith("models/jpeg: ")


def test_an_evaluation_has_the_figures_that_its_header_says(tmp_path):
    settings, figures = {"format": "evaluation"}, {"jsd_nss": 0.25, "models": {}}
    header = {"format": "distort-pipeline/evaluation", "version": 1, "settings": settings, "key": digest(settings)}
    write_json(tmp_path / "store.json", {**header, "digest": digest(figures)})
    write_json(tmp_path / "metrics.json", figures)
    (tmp_path / "index.html").write_text("page")
    assert verify(tmp_path).problems == ()
    write_json(tmp_path / "metrics.json", {**figures, "jsd_nss": 0.24})
    assert "metrics.json was changed" in only_problem(tmp_path)


def test_where_nothing_of_ours_lies_that_is_said(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for path, words in (
        (tmp_path / "nowhere", "there is nothing at"),
        (tmp_path, "nothing that `verify` knows lies in"),
        (tmp_path / "notes.txt", "is nothing that `verify` knows"),
    ):
        with pytest.raises(PipelineError, match=words):
            verify(path)
