import json
import shutil
import subprocess
import sys

import pytest
from damage import change_json, flip, only_problem, problems

from distort_pipeline.commands.label import by_table
from distort_pipeline.commands.verify import verify
from distort_pipeline.data.files import sealed, write_json
from distort_pipeline.data.images import encode_png
from distort_pipeline.errors import PipelineError, WorkersError
from distort_pipeline.execution import Workers

pytest_plugins = ["corpus_fixtures", "store_copies"]

JPEG_SHARD = "pixels.zarr/distorted/jpeg/c.1.0.0.0"


def test_new_stores_have_no_problems(finished_corpus, pair_store, models, exported, small_manifest):
    for path, kind in (
        (finished_corpus, "corpus"),
        (pair_store.folder, "pairs"),
        (models / "jpeg", "model"),
        (models / "white_noise", "model"),
        (exported, "export"),
    ):
        report = verify(path)
        assert report.problems == ()
        files = [name for name in path.rglob("*") if name.is_file() and name.name != "run.json"]
        assert report.counts == {"files": len(files)}
        assert report.summary == f"{kind}: all as it was made; checked {len(files)} files"
    assert verify(small_manifest).summary == "manifest: all as it was made; checked 5 images"


def test_missing_workers_are_an_error_and_no_finding(finished_corpus, monkeypatch):
    monkeypatch.setattr("distort_pipeline.execution.CONNECT_SECONDS", 1)
    with pytest.raises(WorkersError, match="no Dask scheduler with a worker answers"):
        verify(finished_corpus, workers=Workers(scheduler="tcp://127.0.0.1:1"))
    with pytest.raises(WorkersError, match="--workers must be 0 or more, got -1"):
        Workers(-1)


@pytest.mark.parametrize("index", [0, 5, 5000, -1, -68])
def test_a_flipped_bit_anywhere_in_a_file_is_found(damaged, index):
    flip(damaged / JPEG_SHARD, index, bit=index % 8)
    assert only_problem(damaged) == f"{damaged / JPEG_SHARD} was changed: its checksum differs"
    assert verify(damaged).changed == {JPEG_SHARD}


def test_missing_and_empty_files_are_found(damaged):
    (damaged / JPEG_SHARD).unlink()
    (damaged / "records" / "jpeg-00000.parquet").write_bytes(b"")
    assert problems(damaged).splitlines() == [
        f"{damaged / JPEG_SHARD} is missing",
        f"{damaged / 'records/jpeg-00000.parquet'} was changed: its checksum differs",
    ]


def test_leftovers_and_strange_files_are_named_and_litter_is_not(damaged):
    for litter in (".DS_Store", "records/Thumbs.db", "._index.html", "lost+found/7", "labels/.DS_Store"):
        (damaged / litter).parent.mkdir(exist_ok=True)
        (damaged / litter).write_text("")
    assert problems(damaged) == ""
    (damaged / "reports" / ".jpeg-00000.json.1234.partial").write_text("")
    (damaged / "records" / "jpeg-00009.parquet").write_text("")
    (damaged / ".hidden").write_text("")
    for work in (damaged.parent / f".{damaged.name}.0123456789abcdef.building", damaged / ".0123.building"):
        (work / "ledger").mkdir(parents=True)
        (work / "ledger" / "a.json").write_text("")
    text = problems(damaged)
    for message in (
        "jpeg-00009.parquet belongs to nothing in this store",
        ".hidden belongs to nothing in this store",
        "jpeg-00000.json.1234.partial is left of an interrupted run",
        f"{damaged / '.0123.building'} is left of an interrupted run",
        f".{damaged.name}.0123456789abcdef.building is left of an interrupted run",
    ):
        assert message in text
    assert len(text.splitlines()) == 5


def test_all_problems_are_named_and_workers_find_the_same(damaged):
    flip(damaged / JPEG_SHARD, 60)
    (damaged / "records" / "white_noise-00002.parquet").unlink()
    change_json(damaged / "store.json", digest="0")
    report = verify(damaged)
    assert len(report.problems) == 3
    assert report.summary.startswith("corpus: 3 problems; checked ")
    assert verify(damaged, workers=Workers(1)) == report


def test_changed_metadata_are_found(damaged):
    metadata = json.loads((damaged / "store.json").read_text())
    for changes in ({"digest": "0"}, {"counts": {}}, {"version": 2}, {"settings": {}}, {"overlap": None}):
        write_json(damaged / "store.json", {**metadata, **changes})
        assert only_problem(damaged) == "store.json was changed: it is not as it was sealed"
    (damaged / "store.json").write_text(json.dumps(metadata))
    assert only_problem(damaged) == "store.json was changed: it is not as it was sealed"
    for changes, message in (
        ({"format": "distort-pipeline/diary"}, "a format unknown to `verify`"),
        ({"format": 7}, "a format unknown to `verify`"),
        ({"files": {}}, "names no format or no checksums; make the store again"),
    ):
        write_json(damaged / "store.json", sealed({**metadata, **changes}))
        assert message in only_problem(damaged)
    for value in ("NaN", '"\\ud800"'):  # in no JSON of ours
        (damaged / "store.json").write_text(json.dumps({**metadata, "version": "?"}).replace('"?"', value))
        assert only_problem(damaged) == "store.json was changed: it is not as it was sealed"
    for text in ("{", "[1]", "", f'{{"version": {"9" * 5000}}}', "[" * 100_000):
        (damaged / "store.json").write_text(text)
        assert "store.json" in only_problem(damaged)


def test_a_damaged_listing_is_the_only_finding(damaged):
    flip(damaged / "files.json", 40)
    (damaged / "index.html").unlink()
    assert only_problem(damaged) == f"{damaged / 'files.json'} was changed: its checksum differs"
    (damaged / "files.json").unlink()
    assert only_problem(damaged) == f"{damaged / 'files.json'} is missing"


def test_labels_are_checked(damaged, tmp_path):
    (tmp_path / "ratings.csv").write_text("sample,score\n1,4\n2,3\n")
    by_table(damaged, tmp_path / "ratings.csv", name="rating")
    assert problems(damaged) == ""
    flip(damaged / "labels/rating/values/jpeg-00000.parquet", 9)
    assert only_problem(damaged).startswith("labels/rating: ")
    flip(damaged / "labels/rating/values/jpeg-00000.parquet", 9)
    metadata = json.loads((damaged / "labels/rating/store.json").read_text())
    write_json(damaged / "labels/rating/store.json", sealed({**metadata, "corpus_digest": "0"}))
    assert only_problem(damaged) == "labels/rating: it belongs to another corpus"


def test_a_folder_of_stores_is_checked_store_by_store(model, damaged, small_manifest, tmp_path):
    build = tmp_path / "build"
    (build / "models").mkdir(parents=True)
    shutil.move(model, build / "models" / "jpeg")
    (build / "corpus").symlink_to(damaged)
    shutil.copytree(small_manifest.parent, build / "images")
    report = verify(build)
    assert (report.kind, report.problems) == ("folder", ())
    assert report.counts == {"model": 1, "corpus": 1, "manifest": 1}
    flip(build / "models" / "jpeg" / "generator.safetensors", -1)
    flip(build / "corpus" / JPEG_SHARD, 8)
    (build / ".pairs.0123456789abcdef.building").mkdir()
    found_problems = verify(build).problems
    assert len(found_problems) == 3
    assert found_problems[0].endswith(
        ".pairs.0123456789abcdef.building is left of an interrupted run; repeat its command, or delete it"
    )
    assert found_problems[1].startswith("corpus: ")
    assert found_problems[2].startswith("models/jpeg: ")


def test_changed_images_of_a_manifest_are_found(small_manifest, tmp_path, sample_images):
    folder = shutil.copytree(small_manifest.parent, tmp_path / "p")
    (folder / "wren.png").write_bytes(encode_png(sample_images["osprey"]))
    (folder / "hills.png").unlink()
    flip(folder / "maple.png", 500)
    text = problems(folder / "manifest.jsonl")
    assert "wren.png was changed since it was ingested" in text
    assert "hills.png cannot be used any more: there is no such file" in text
    assert "maple.png was changed" in text
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    (folder / "manifest.jsonl").write_text("\n".join(lines[:-1]) + "\n")
    assert "the rows do not match the digest" in only_problem(folder / "manifest.jsonl")
    (tmp_path / "elsewhere").mkdir()
    copied = shutil.copy(small_manifest, tmp_path / "elsewhere" / "m.jsonl")
    copied.write_text(copied.read_text().replace('"root": "."', '"root": "gone"', 1))
    assert "its images were not checked: " in only_problem(copied)
    assert only_problem(copied, root=small_manifest.parent / "nowhere").endswith("name the new one with --root")
    assert problems(copied, root=small_manifest.parent) == ""


def test_verify_needs_neither_tensorflow_nor_dask(finished_corpus, models):
    code = (
        "import sys; from pathlib import Path; from distort_pipeline.commands.verify import verify;"
        f"print(verify(Path({str(finished_corpus)!r})).problems, verify(Path({str(models)!r})).problems,"
        "[name for name in ('tensorflow', 'keras', 'dask', 'distributed') if name in sys.modules])"
    )
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert completed.stdout.strip() == "() () []"


def test_a_path_without_our_stores_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    for path, message in (
        (tmp_path / "nowhere", "there is nothing at"),
        (tmp_path, "no manifest, and no store.json of ours"),
        (tmp_path / "notes.txt", "`verify` cannot check .*notes.txt"),
    ):
        with pytest.raises(PipelineError, match=message):
            verify(path)
