import csv
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PILImage

from distort_pipeline.config import IngestConfig
from distort_pipeline.data.containers import mark_png
from distort_pipeline.data.images import Fingerprint, encode_png, image_digest
from distort_pipeline.data.manifests import read_manifest
from distort_pipeline.data.sources import read_image
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps import ingest

REPOSITORY = Path(__file__).parents[2]


def pixels(seed, height=32, width=40):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture
def mixed(tmp_path):
    """A folder with images in files and in an archive, and one file for each reason to be rejected."""
    folder = tmp_path / "mixed"
    (folder / "in").mkdir(parents=True)
    for number in range(6):
        (folder / f"Shot {number}.png").write_bytes(encode_png(pixels(number)))
    PILImage.fromarray(pixels(1)).save(folder / "in" / "again.tif")
    PILImage.fromarray(pixels(9, 31, 90)).save(folder / "small.png")
    PILImage.fromarray(pixels(10, 64, 90)).save(folder / "huge.png")
    (folder / "words.png").write_text("no image", encoding="utf-8")
    (folder / "cut.png").write_bytes(encode_png(pixels(11))[:1500])
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("x/inside.png", encode_png(pixels(20)))
        archive.writestr("../escape.png", b"")
    (folder / "SOURCES.csv").write_text("file,licence,source\nShot 2.png,CC0-1.0,a walk\n", encoding="utf-8")
    return folder


def settings(source, **changes):
    plain = {"min_side_px": 32, "max_megapixels": 0.005, "val_count": 2, "workers": 0}
    return IngestConfig(source=str(source), **{**plain, **changes})


def test_every_file_is_accepted_or_has_a_reason_and_the_counts_add_up(mixed, tmp_path):
    report = ingest.run(settings(mixed), tmp_path / "m.jsonl")
    assert report.step == "ingest"
    assert report.counts == {"found": 13, "accepted": 7, "rejected": 6, "train": 5, "val": 2}
    with (tmp_path / "m.rejected.csv").open(newline="", encoding="utf-8") as file:
        rejected = dict(list(csv.reader(file))[1:])
    assert rejected.pop("cut.png").startswith("broken image")
    assert rejected == {
        "huge.png": "too large: 0.00576 megapixels, at most 0.005",
        "in/again.tif": "duplicate of Shot 1.png",
        "more.zip/../escape.png": "its name leads out of the archive",
        "small.png": "too small: 90x31, a side needs 32 px",
        "words.png": "text and no image: 'no image'",
    }


def test_the_manifest_has_all_attributes_of_each_image(mixed, tmp_path):
    ingest.run(settings(mixed, licence="all mine"), tmp_path / "m.jsonl")
    manifest = read_manifest(tmp_path / "m.jsonl")
    rows = {row.path: row for row in manifest.records}
    assert list(rows) == [*(f"Shot {number}.png" for number in range(6)), "more.zip/x/inside.png"]
    row = rows["Shot 2.png"]
    assert (row.licence, row.source, row.mode) == ("CC0-1.0", "a walk", "RGB")
    assert (row.height, row.width) == (32, 40)
    assert row.image_digest == image_digest(pixels(2))
    assert row.id == f"shot-2-{row.image_digest[:8]}"
    assert (rows["Shot 3.png"].licence, rows["Shot 3.png"].source) == ("all mine", "mixed")
    for row in manifest.records:
        read_image(manifest.root, row.path, expected=row.image_digest)


def test_workers_change_nothing(mixed, tmp_path):
    for workers in (0, 1, 5):
        ingest.run(settings(mixed, workers=workers), tmp_path / f"{workers}" / "m.jsonl")
    texts = {(tmp_path / f"{workers}" / "m.jsonl").read_bytes() for workers in (0, 1, 5)}
    tables = {(tmp_path / f"{workers}" / "m.rejected.csv").read_bytes() for workers in (0, 1, 5)}
    assert len(texts) == len(tables) == 1


def test_no_more_images_are_in_flight_than_workers_can_take():
    entries = [object()] * 40
    started = []
    results = ingest._in_order(lambda entry: started.append(entry) or entry, entries, 3)
    next(results)
    assert len(started) <= 3 * ingest.IN_FLIGHT_PER_WORKER + 1
    assert len(list(results)) == 39


def test_splits_of_a_list_and_of_an_earlier_manifest_are_kept(mixed, tmp_path):
    rows = "".join(f"Shot {number}.png,{split}\n" for number, split in enumerate(["val", "test", "train", "", "", ""]))
    (mixed / "list.csv").write_text("path,split\n" + rows + "gone.png,val\n", encoding="utf-8")
    report = ingest.run(settings(mixed / "list.csv"), tmp_path / "first.jsonl")
    assert report.counts == {"found": 7, "accepted": 6, "rejected": 1, "train": 3, "val": 2, "test": 1}
    assert "rejected gone.png: there is no such file" in report.lines
    first = read_manifest(tmp_path / "first.jsonl").records
    assert [row.split for row in first][:3] == ["val", "test", "train"]

    (mixed / "Shot 5.png").write_bytes(encode_png(pixels(50)))
    report = ingest.run(settings(tmp_path / "first.jsonl", split_salt="another"), tmp_path / "deep/second.jsonl")
    assert read_manifest(tmp_path / "deep/second.jsonl").records == first[:5]
    assert "rejected Shot 5.png: its pixels differ from the digest in the manifest" in report.lines


@pytest.fixture
def scenes(tmp_path, sample):
    """A folder of six photographs, each with its JPEG and a smaller copy."""
    folder = tmp_path / "scenes"
    folder.mkdir()
    for path in sorted(sample.glob("*.png"))[:6]:
        opened = PILImage.open(path).convert("RGB")
        opened.save(folder / path.name)
        opened.save(folder / f"{path.stem}-copy.jpg", quality=92)
        opened.resize((opened.width // 2, opened.height // 2)).save(folder / f"{path.stem}-small.png")
    return folder


@pytest.mark.parametrize("rule", [{"val_count": 6}, {"val_count": 1}, {"val_count": None, "val_fraction": 0.3}])
def test_near_copies_share_the_split_of_their_scene_and_are_told(scenes, tmp_path, rule):
    report = ingest.run(settings(scenes, max_megapixels=9, **rule), tmp_path / "m.jsonl", for_training=False)
    splits = {}
    for row in read_manifest(tmp_path / "m.jsonl").records:
        splits.setdefault(row.path[:27], set()).add(row.split)
    assert [len(scene_splits) for scene_splits in splits.values()] == [1] * 6
    assert report.counts["near_copies"] == 12
    assert report.counts["val"] == {6: 6, 1: 3}.get(rule["val_count"], report.counts["val"])
    assert any("12 near copies share the split of their scene" in line for line in report.lines)
    assert len((tmp_path / "m.remarks.csv").read_text(encoding="utf-8").splitlines()) == 13


def test_near_copies_that_a_list_puts_into_two_splits_are_told_and_stay(scenes, tmp_path):
    names = sorted(path.name for path in scenes.iterdir())[:3]
    rows = "".join(f"{name},{split}\n" for name, split in zip(names, ("train", "val", ""), strict=True))
    (scenes / "list.csv").write_text("path,split\n" + rows, encoding="utf-8")
    report = ingest.run(settings(scenes / "list.csv", max_megapixels=9), tmp_path / "m.jsonl")
    assert [row.split for row in read_manifest(tmp_path / "m.jsonl").records] == ["train", "val", "train"]
    assert report.counts["scenes_in_two_splits"] == 1
    assert any(line.startswith("warning: 1 near copies are listed in another split") for line in report.lines)


def test_own_sheets_compressed_images_and_rows_without_a_file_are_told(mixed, sample, tmp_path):
    (mixed / "sheet.png").write_bytes(mark_png(encode_png(pixels(40))))
    with zipfile.ZipFile(mixed / "more.zip", "a") as archive:
        archive.writestr("x/sheet.png", mark_png(encode_png(pixels(41))))
    PILImage.open(next(iter(sorted(sample.glob("*.png"))))).save(mixed / "low.jpg", quality=20)
    (mixed / "SOURCES.csv").write_text("file,licence\ngone.png,CC0-1.0\n", encoding="utf-8")
    report = ingest.run(settings(mixed, max_megapixels=9), tmp_path / "m.jsonl")
    assert report.counts["passed_over"] == 2
    assert report.counts["compressed_before"] == report.counts["rows_without_file"] == 1
    assert report.counts["found"] == report.counts["accepted"] + report.counts["rejected"]
    text = " ".join(report.lines)
    for reason in ("2 of this program passed over", "low.jpg: a JPEG of quality 20", "gone.png: a row of SOURCES.csv"):
        assert reason in text
    ingest.run(settings(sample, max_megapixels=9), tmp_path / "m.jsonl")
    assert not (tmp_path / "m.remarks.csv").exists()


def test_a_list_written_on_windows_finds_its_files(mixed, tmp_path):
    (mixed / "list.csv").write_text("path,licence\nIN\\Again.TIF,A\nshot 2.PNG,B\n.\\Shot 3.png,C\n", encoding="utf-8")
    ingest.run(settings(mixed / "list.csv", val_count=1), tmp_path / "m.jsonl")
    licences = {row.path: row.licence for row in read_manifest(tmp_path / "m.jsonl").records}
    assert licences == {"in/again.tif": "A", "Shot 2.png": "B", "Shot 3.png": "C"}


def test_nothing_usable_is_an_error_that_says_where_the_reasons_are(mixed, tmp_path):
    with pytest.raises(PipelineError, match=r"nothing in the source .* 13 rejected.*m\.rejected\.csv"):
        ingest.run(settings(mixed, min_side_px=1000), tmp_path / "m.jsonl")
    assert (tmp_path / "m.rejected.csv").exists()
    assert not (tmp_path / "m.jsonl").exists()


def test_no_file_of_the_user_is_overwritten(mixed, tmp_path):
    before = {path: path.read_bytes() for path in mixed.rglob("*") if path.is_file()}
    image = next(path for path in sorted(before) if path.suffix == ".png")
    (tmp_path / "mine.csv").write_text("path,mos\na.png,3\n")
    for out, rejected in ((image, None), (tmp_path / "m.jsonl", tmp_path / "mine.csv"), (tmp_path / "mine.csv", None)):
        with pytest.raises(PipelineError, match="exists, and this program has not made it: choose another file"):
            ingest.run(settings(mixed), out, rejected)
    assert {path: path.read_bytes() for path in mixed.rglob("*") if path.is_file()} == before


def test_a_source_of_stores_alone_is_an_error_that_names_them(tmp_path):
    (tmp_path / "photos" / "export").mkdir(parents=True)
    (tmp_path / "photos" / "export" / "store.json").write_text('{"format": "distort-pipeline/export"}')
    with pytest.raises(
        PipelineError, match=r"the first is export \(a store of this program \(export\), no photographs"
    ):
        ingest.run(settings(tmp_path / "photos"), tmp_path / "m.jsonl")


def test_an_empty_source_and_a_missing_one_are_errors(tmp_path):
    with pytest.raises(PipelineError, match="there is no source"):
        ingest.run(settings(tmp_path / "none"), tmp_path / "m.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="holds no images"):
        ingest.run(settings(tmp_path / "empty"), tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/My Photo (1).final.PNG", "my-photo-1-final-01234567"),
        ("x" * 60 + ".png", "x" * 40 + "-01234567"),
        ("日本.png", "image-01234567"),
        ("photos.zip/in/Été_2.jpg", "ete_2-01234567"),
    ],
)
def test_ids_are_safe_as_file_names(path, expected):
    assert ingest.image_id(path, "0123456789" * 6) == expected


def test_two_images_with_equal_short_ids_get_different_ids():
    entry = ingest.Entry("a.png", None, None, None, None)
    twins = [
        ingest.Examined(entry, "01234567" + rest * 56, "f", 1, 1, "RGB", Fingerprint(b"", b""), None) for rest in "ab"
    ]
    records = ingest._records(twins, {twin.image_digest: "train" for twin in twins}, "MIT", "here")
    assert len({record.id for record in records}) == 2


def test_the_sample_gives_the_manifest_in_the_repository(tmp_path):
    shutil.copytree(REPOSITORY / "data/sample", tmp_path / "data/sample")
    report = ingest.run(
        IngestConfig(source=str(tmp_path / "data/sample"), val_count=4), tmp_path / "manifests/sample.jsonl"
    )
    assert report.counts == {"found": 20, "accepted": 20, "rejected": 0, "train": 16, "val": 4}
    ours = (tmp_path / "manifests/sample.jsonl").read_bytes()
    assert ours == (REPOSITORY / "manifests/sample.jsonl").read_bytes()
    assert json.loads(ours.split(b"\n")[0])["root"] == "../data/sample"
    assert all(row.licence != "unknown" for row in read_manifest(tmp_path / "manifests/sample.jsonl").records)


def test_the_example_list_opens(tmp_path):
    shutil.copy(REPOSITORY / "manifests/example.csv", tmp_path)
    for number, name in enumerate(("birds/owl.png", "birds/jay.jpg", "from-ann.zip")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        if name.endswith(".zip"):
            with zipfile.ZipFile(tmp_path / name, "w") as archive:
                archive.writestr("harbour.png", encode_png(pixels(number)))
        else:
            PILImage.fromarray(pixels(number)).save(tmp_path / name)
    report = ingest.run(settings(tmp_path / "example.csv", val_count=None), tmp_path / "m.jsonl")
    assert report.counts["accepted"] == 3


def test_ingest_needs_no_heavy_library():
    heavy = "tensorflow keras dask distributed cv2 zarr scipy pyarrow"
    code = f"import sys, distort_pipeline.steps.ingest; print(*set('{heavy}'.split()) & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"
