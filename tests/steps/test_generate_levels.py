import csv
import itertools
import json
import shutil

import numpy as np
import pytest
from multi_level_corpus_fixtures import LEARNED
from small_models import INFERENCE_BATCH_SIZE

from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig
from distort_pipeline.data.builds import StagedStore
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.corpus_pixels import read_truth
from distort_pipeline.data.files import read_json
from distort_pipeline.distortions import LevelScale, declared_scale
from distort_pipeline.errors import PipelineError
from distort_pipeline.models.store import load_generator
from distort_pipeline.records import canonical
from distort_pipeline.reports.corpus_page import write_corpus_page
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures", "multi_level_corpus_fixtures"]


def read_csv(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


CONDITIONS = [f"{name}-{level}" for name in ("jpeg", "white_noise") for level in (1, 2, 3)]


def test_every_tile_comes_at_every_level_and_a_batch_has_one(multi_level_corpus):
    assert multi_level_corpus.metadata.samples == dict.fromkeys(CONDITIONS, 10)
    assert multi_level_corpus.metadata.batches == dict.fromkeys(CONDITIONS, 2)
    assert multi_level_corpus.distortions == ("jpeg", "white_noise")
    assert multi_level_corpus.metadata.counts.tiles == 10
    for name in multi_level_corpus.batch_names():
        kinds = {(record.distortion, record.level) for record in multi_level_corpus.batch_records(name)}
        assert [f"{distortion}-{level}" for distortion, level in kinds] == [name.rpartition("-")[0]]
    for condition in CONDITIONS:
        assert [r.tile for r in multi_level_corpus.records if multi_level_corpus.condition_of(r) == condition] == list(
            range(10)
        )
    assert [record.sample for record in multi_level_corpus.records] == list(range(60))
    assert len({record.seed for record in multi_level_corpus.records}) == 60


def test_records_say_severity_and_parameters(multi_level_corpus):
    for record in multi_level_corpus.records:
        assert record.severity == pytest.approx(record.level / 6, abs=1e-6)  # the last level lies at 0.5
        name = record.distortion
        expected = LevelScale(name, tuple(LEARNED[name]), declared_scale(name)).parameters_at(record.severity)
        assert record.parameters == canonical(expected)
        assert record.target is None


@pytest.mark.parametrize("index", [0, 13, 29, 30, 45, 59])
def test_a_sample_is_what_its_generator_makes_at_its_severity(multi_level_corpus, multi_level_models, index):
    sample = multi_level_corpus[index]
    predictor = load_generator(multi_level_models / sample.record.distortion, batch_size=INFERENCE_BATCH_SIZE).predictor
    generated = predictor.distort_image(sample.pristine, sample.record.seed, sample.record.severity)
    np.testing.assert_array_equal(generated, sample.distorted)
    assert (predictor.distort_image(sample.pristine, sample.record.seed, 0.1) != sample.distorted).any()


def test_slices_and_lists_of_indices_cross_the_levels(multi_level_corpus):
    distorted = np.stack([multi_level_corpus[index].distorted for index in range(60)])
    np.testing.assert_array_equal(multi_level_corpus[5:45].distorted, distorted[5:45])
    indices = [50, 3, 11, 29, 30]
    np.testing.assert_array_equal(multi_level_corpus.take(indices).distorted, distorted[indices])
    assert multi_level_corpus.select(["jpeg"], levels=[2]).tolist() == list(range(10, 20))
    with pytest.raises(PipelineError, match="has no sample of jpeg, level 9"):
        multi_level_corpus.select(["jpeg"], levels=[9])


def test_a_level_is_compared_with_its_truth(multi_level_corpus):
    truth = read_truth(multi_level_corpus.folder, "tiles-00000")
    assert set(truth.histograms) == set(CONDITIONS)
    for report in multi_level_corpus.reports():
        condition = f"{report.distortion}-{report.level}"
        assert report.comparison == "paired"
        assert set(report.against) == {"pristine", "jpeg", "white_noise"}
        assert set(report.against_levels) == {"1", "2", "3"}
        level = str(report.level)
        assert report.against_levels[level] == report.against[report.distortion] == report.divergence.jsd_bits
        if report.batch == 0:
            assert report.histograms.true == tuple(truth.jsd_nss(condition).sum(0).tolist())
        assert report.severity.least == report.severity.most == pytest.approx(report.level / 6)


def test_an_interrupted_run_goes_on(make_multi_level, multi_level_corpus, tmp_path):
    out = tmp_path / "corpus"
    work = StagedStore(out, read_json(multi_level_corpus.folder / "store.json")["config_hash"]).work
    shutil.copytree(multi_level_corpus.folder, work)
    for lost in ("ledger/jpeg-2-00001.json", "pixels.zarr/distorted/jpeg-2/c.1.0.0.0", "store.json", "index.html"):
        (work / lost).unlink()
    make_multi_level(out, num_levels=3, count=60)
    assert open_corpus(out).metadata.digest == multi_level_corpus.metadata.digest
    assert json.loads((out / "run.json").read_text())["batches_now"] == 1
    np.testing.assert_array_equal(open_corpus(out)[:].distorted, multi_level_corpus[:].distorted)


def test_verify_knows_levels(multi_level_corpus, tmp_path):
    assert verify(multi_level_corpus.folder).problems == ()
    damaged = shutil.copytree(multi_level_corpus.folder, tmp_path / "c")
    (damaged / "records" / "jpeg-1-00000.parquet").unlink()
    shutil.copy(damaged / "records" / "jpeg-2-00000.parquet", damaged / "records" / "jpeg-1-00000.parquet")
    assert any("jpeg-1-00000" in problem for problem in verify(damaged).problems)


def test_the_page_has_a_row_for_each_level(multi_level_corpus):
    page = write_corpus_page(multi_level_corpus.folder).read_text()
    for name in ("jpeg", "white_noise"):
        rows = page.split(f'aria-label="Levels of {name}"')[1].split("</table>")[0]
        assert rows.count('<th scope="row">') == 3
    assert "jpeg level 2, 0" in page
    assert '"kinds":["jpeg level 1","jpeg level 2"' in page


def test_a_multi_level_model_makes_all_its_levels_without_a_request(make_multi_level, tmp_path):
    make_multi_level(tmp_path / "c", count=16)
    corpus = open_corpus(tmp_path / "c")
    assert corpus.metadata.samples == {f"{name}-{level}": 4 for name in ("jpeg", "white_noise") for level in (1, 2)}
    assert {(record.level, record.severity) for record in corpus.records} == {(1, 0.2891), (1, 0.3492), (2, 0.5)}


def test_a_model_of_one_level_is_refused_levels(make_multi_level, models, tmp_path):
    with pytest.raises(PipelineError, match="jpeg, white_noise have learned one level only"):
        make_multi_level(tmp_path / "c", models=models, num_levels=3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", ["ranked", "kadid", "study", "webdataset", "pyiqa_fr"])
def test_exports_hold_every_level_of_every_tile(multi_level_corpus, tmp_path, form):
    config = ExportConfig(format=form, limit=36, workers=0, study_sessions=9, study_trials=20)
    assert export.run(config, multi_level_corpus.folder, tmp_path / "e").counts["samples"] == 36
    if form == "kadid":
        names = {path.name for path in (tmp_path / "e" / "images").iterdir()}
        tiles = {name[1:9] for name in names}
        assert len(tiles) == 6
        assert {
            f"I{tile}_{kind}_{level:02d}.png" for tile in tiles for kind in (10, 11) for level in (1, 2, 3)
        } <= names
    if form == "ranked":
        rows = read_csv(tmp_path / "e" / "ranked.csv")
        pairs = [row for row in rows if row["evidence"] != "pristine"]
        kinds = {(row["distortion_better"], row["level_better"]) for row in pairs}
        assert kinds <= set(itertools.product(("jpeg", "white_noise"), ("1", "2", "3")))
        assert len({row["reference"] for row in pairs}) == 6
        assert max(sum(row["reference"] == name for row in pairs) for name in {row["reference"] for row in pairs}) == 15
    if form == "study":
        shown = [row for row in read_csv(tmp_path / "e" / "acr_trials.csv") if row["kind"] == "sample"]
        per_sample = [sum(row["sample"] == name for row in shown) for name in {row["sample"] for row in shown}]
        assert len(per_sample) == 36
        assert max(per_sample) - min(per_sample) <= 1


def test_severity_is_a_label_of_exports(multi_level_corpus, tmp_path):
    config = ExportConfig(format="pyiqa_nr", limit=12, workers=0, label="severity")
    export.run(config, multi_level_corpus.folder, tmp_path / "e")
    rows = read_csv(tmp_path / "e" / "meta_info.csv")
    assert {round(float(row["severity"]), 3) for row in rows} == {0.167, 0.333, 0.5}
