"""The truth beside the generated: samples' true distortions, made again from records, images and codecs."""

import csv
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
from corpus_fixtures import lenient

from distort_pipeline.config import ExportConfig, GenerateConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.images import decode
from distort_pipeline.distortions import apply
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import Workers
from distort_pipeline.exports import EXPORTS
from distort_pipeline.records import derive_seed, make_rng
from distort_pipeline.steps import export, generate

pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]


@pytest.fixture(scope="module")
def with_truth(finished_corpus, small_manifest):
    return open_corpus(finished_corpus, manifest=small_manifest)


@pytest.mark.parametrize("index", [0, 19, 20, 39])
def test_the_truth_is_cut_from_the_truly_distorted_image(with_truth, sample_images, index):
    sample = with_truth[index]
    record = sample.record
    rng = make_rng(derive_seed(record.seed, "true", 0))
    image = apply(record.distortion, sample_images[record.image.removesuffix("-1")], json.loads(record.parameters), rng)
    tile = image.image[record.y : record.y + record.height, record.x : record.x + record.width]
    np.testing.assert_array_equal(sample.true, tile)
    np.testing.assert_array_equal(sample.true, with_truth[index].true)  # noise too
    assert (sample.true != sample.pristine).any()


def test_samples_of_noise_have_truths_of_their_own(with_truth):
    residuals = [sample.true.astype(int) - sample.pristine for sample in (with_truth[20], with_truth[21])]
    assert abs(np.corrcoef(*(residual.ravel() for residual in residuals))[0, 1]) < 0.05


def test_the_truth_of_a_composite_is_one_distortion_after_the_other(make_multi_level, small_manifest, tmp_path):
    make_multi_level(tmp_path / "c", composite=("jpeg+white_noise",), severity=(0.4,), count=4)
    sample = open_corpus(tmp_path / "c", manifest=small_manifest)[0]
    values = json.loads(sample.record.parameters)
    assert set(values) == {"jpeg quality", "white_noise sigma_8bit"}
    residual = sample.true.astype(float) - sample.pristine
    assert residual.std() > values["white_noise sigma_8bit"] * 0.8


def test_without_a_manifest_the_error_says_how_to_name_it(corpus):
    with pytest.raises(PipelineError, match=r"open_corpus\(path, manifest='manifest.jsonl'\)"):
        corpus[0].true  # noqa: B018
    with pytest.raises(PipelineError, match="need its manifest"):
        corpus.true(corpus.record(0))


def test_the_manifest_beside_a_corpus_is_found(finished_corpus, small_manifest, tmp_path):
    shutil.copytree(finished_corpus, tmp_path / "c")
    shutil.copytree(small_manifest.parent, tmp_path / "images")
    text = small_manifest.read_text()
    (tmp_path / "c.manifest.jsonl").write_text(text)
    first = json.loads(text.splitlines()[0])
    (tmp_path / "c.manifest.jsonl").write_text(
        "\n".join([json.dumps({**first, "root": "images"}), *text.splitlines()[1:]]) + "\n"
    )
    assert open_corpus(tmp_path / "c")[0].true.shape == (128, 128, 3)


def test_another_manifest_another_image_or_another_codec_is_refused(
    finished_corpus, small_manifest, sample_images, make_manifest, tmp_path, monkeypatch
):
    other = make_manifest(tmp_path / "other", {"wren": (sample_images["wren"], "train")})
    with pytest.raises(PipelineError, match="is not the manifest of the corpus"):
        open_corpus(finished_corpus, manifest=other)[0].true  # noqa: B018
    moved = shutil.copytree(small_manifest.parent, tmp_path / "moved")
    name = open_corpus(finished_corpus).record(0).image.removesuffix("-1")
    shutil.copyfile(moved / ("hills.png" if name != "hills" else "maple.png"), moved / f"{name}.png")
    with pytest.raises(PipelineError, match=name):
        open_corpus(finished_corpus, manifest=moved / "manifest.jsonl")[0].true  # noqa: B018
    monkeypatch.setattr("distort_pipeline.data.corpus_pixels.codec_versions", lambda _: {"opencv": "0.1"})
    with pytest.raises(PipelineError, match=r"opencv .* \(here 0.1\): its true distortions need the same versions"):
        open_corpus(finished_corpus, manifest=small_manifest)[0].true  # noqa: B018


def test_a_sample_of_external_pairs_has_no_truth(small_manifest, histograms_of, small_corpus_settings, tmp_path):
    from small_models import write_model

    fade = histograms_of(lambda image: image // 2 + 100, lambda image: image // 4 + 100)
    write_model(tmp_path / "m" / "faded", "faded", fade, external=True)
    with lenient():
        settings = GenerateConfig(**{**small_corpus_settings, "count": 4})
        generate.run(settings, small_manifest, tmp_path / "m", tmp_path / "c")
    with pytest.raises(PipelineError, match="sample 0 has no true distortion without the pairs of faded"):
        open_corpus(tmp_path / "c", manifest=small_manifest)[0].true  # noqa: B018


def exported(form, corpus, manifest, out):
    config = ExportConfig(format=form, limit=4, with_truth=True, manifest=str(manifest))
    export.run(config, corpus, out, workers=Workers(0))
    return out


@pytest.mark.parametrize("form", ["png_folder", "pyiqa_fr", "imagefolder", "kadid"])
def test_an_export_of_files_has_a_third_image_a_sample(form, finished_corpus, small_manifest, with_truth, tmp_path):
    out = exported(form, finished_corpus, small_manifest, tmp_path / "e")
    with (out / EXPORTS.get(form).table).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    for row in rows:
        true = decode((out / row["true"]).read_bytes())[0]
        np.testing.assert_array_equal(true, with_truth[int(row["sample"])].true)


def test_an_export_of_shards_has_a_third_image_a_sample(finished_corpus, small_manifest, with_truth, tmp_path):
    out = exported("webdataset", finished_corpus, small_manifest, tmp_path / "e")
    names = set()
    for path in out.glob("*/*.tar"):
        with tarfile.open(path) as tar:
            for entry in tar.getmembers():
                names.add(entry.name.split(".", 1)[1])
                if entry.name.endswith("true.png"):
                    true = decode(io.BytesIO(tar.extractfile(entry).read()).getvalue())[0]
                    index = int(entry.name.removeprefix("sample-").split(".")[0])
                    np.testing.assert_array_equal(true, with_truth[index].true)
    assert names == {"ref.png", "dist.png", "true.png", "json"}


def test_a_table_with_images_has_a_third_column(finished_corpus, small_manifest, tmp_path):
    import pyarrow.parquet as pq

    out = exported("parquet", finished_corpus, small_manifest, tmp_path / "e")
    table = pq.read_table(next(out.glob("data/*/*.parquet")), partitioning=None)
    assert table.column("true")[0].as_py()["bytes"].startswith(b"\x89PNG")
