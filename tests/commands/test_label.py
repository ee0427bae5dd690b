import csv
import dataclasses
import json
import statistics
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from distort_pipeline.commands import label
from distort_pipeline.commands.label import Metric, by_metric, by_table
from distort_pipeline.commands.verify import verify
from distort_pipeline.config import ExportConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.labels import labels_of
from distort_pipeline.data.leases import Ledger
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps import export

pytest_plugins = ["corpus_fixtures"]


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("session,sample,score\na,0,4\nb,0,5\nc,0,3\na,39,2\n")
    return path


def rows(corpus):
    (label,) = labels_of(open_corpus(corpus))
    return [row for batch in open_corpus(corpus).batch_names() for row in label.rows(batch)]


def test_ratings_are_stored_as_mean_deviation_and_count(damaged, table):
    report = by_table(damaged, table, name="rating")
    assert report.lines[0] == "4 ratings of 2 samples joined, from 2 to 5; 38 samples have none"
    ratings = rows(damaged)
    assert len(ratings) == 40
    assert ratings[0] == {
        "rating_mean_higher_better": 4.0,
        "rating_std": statistics.stdev([4, 5, 3]),
        "rating_count": 3,
    }
    assert ratings[39] == {"rating_mean_higher_better": 2.0, "rating_std": None, "rating_count": 1}
    assert ratings[1] == {"rating_mean_higher_better": None, "rating_std": None, "rating_count": 0}


def test_ratings_off_the_scale_of_kadid_are_refused_there_and_told(damaged, table, tmp_path):
    table.write_text("session,sample,score\na,0,4\na,1,55\n")
    assert "from 4 to 55" in by_table(damaged, table, name="rating").lines[0]
    config = ExportConfig(format="kadid", label="rating", workers=0, allow_flagged=True)
    with pytest.raises(
        PipelineError, match="--label rating has ratings from 4 to 55, but kadid is on a scale of 1 to 5"
    ):
        export.run(config, damaged, tmp_path / "kadid")
    assert not list(tmp_path.glob("*kadid*"))
    export.run(dataclasses.replace(config, format="pyiqa_nr"), damaged, tmp_path / "pyiqa")


def test_the_corpus_digest_stays_and_labels_are_verified(damaged, table):
    before = open_corpus(damaged).metadata.digest
    by_table(damaged, table, name="rating", lower_better=True)
    assert open_corpus(damaged).metadata.digest == before
    assert verify(damaged).problems == ()
    entry = damaged / "labels" / "rating" / "ledger" / "jpeg-00000.json"
    entry.write_text(json.dumps({**json.loads(entry.read_text()), "values": "0"}))
    (problem,) = [problem for problem in verify(damaged).problems if "ledger" in problem]
    assert problem.startswith("labels/rating: ")
    assert "ledger/jpeg-00000.json was changed" in problem
    (damaged / "labels" / "rating" / "values" / "jpeg-00001.parquet").unlink()
    assert any("jpeg-00001" in problem for problem in verify(damaged).problems)


@pytest.mark.usefixtures("_brightness")
def test_the_table_of_a_corpus_has_added_labels_on_request(damaged, table):
    plain = open_corpus(damaged).table()
    assert open_corpus(damaged).table(labels=True).equals(plain)
    by_table(damaged, table, name="rating")
    by_metric(damaged, "brightness")
    corpus = open_corpus(damaged)
    assert corpus.table().equals(plain)
    table = corpus.table(labels=True)
    assert table.select(plain.column_names).equals(plain)
    assert table["rating_mean_higher_better"].to_pylist() == [4.0, *38 * [None], 2.0]
    assert table["rating_count"].to_pylist() == [3, *38 * [0], 1]
    assert table["brightness_lower_better"][7].as_py() == pytest.approx(float(np.mean(corpus[7].distorted)))


def test_the_same_table_again_changes_nothing_and_another_needs_another_name(damaged, table):
    by_table(damaged, table, name="rating")
    assert "already complete" in by_table(damaged, table, name="rating").lines[0]
    table.write_text("sample,score\n0,1\n")
    with pytest.raises(PipelineError, match="has another label 'rating' already: give this one another --name"):
        by_table(damaged, table, name="rating")
    by_table(damaged, table, name="second")
    assert [label.name for label in labels_of(open_corpus(damaged))] == ["rating", "second"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a/b", "must consist of letters"),
        ("split", "'split'"),
        ("ssim", "every corpus already has ssim"),
        ("", "must consist of"),
    ],
)
def test_invalid_names_are_refused(damaged, table, name, message):
    with pytest.raises(PipelineError, match=message):
        by_table(damaged, table, name=name)
    assert not (damaged / "labels").exists()


def test_completed_lists_of_a_study_become_ratings(damaged, tmp_path):
    out = tmp_path / "study"
    export.run(ExportConfig(format="study", study_sessions=6, study_trials=30, workers=0), damaged, out)
    truth = {record.sample: record.gmsd for record in open_corpus(damaged).records}
    for name, rate in (
        ("acr", lambda row: {"score": 5 if not row["sample"] else max(1, round(5 - 10 * truth[int(row["sample"])]))}),
        ("pairwise", lambda row: {"choice": choice(row, truth)}),
    ):
        path = out / f"{name}_trials.csv"
        with path.open(newline="") as file:
            completed = [{**row, **rate(row)} for row in csv.DictReader(file)]
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(completed[0]))
            writer.writeheader()
            writer.writerows(completed)
        report = by_table(damaged, tmp_path / f"{name}.csv", name=name)
        assert report.counts["pristine"] > 0
        assert report.counts["unrated"] == 0
    acr, pairwise = labels_of(open_corpus(damaged))
    for batch in open_corpus(damaged).batch_names():
        for record, row in zip(open_corpus(damaged).batch_records(batch), acr.rows(batch), strict=True):
            if row["acr_count"]:
                assert row["acr_mean_higher_better"] == max(1, round(5 - 10 * record.gmsd))
    assert 0 <= pairwise.rows("jpeg-00000")[0]["pairwise_mean_higher_better"] <= 1


def choice(row, truth):
    """The choice of the smaller deviation; a pristine image always wins."""
    left, right = (truth[int(row[f"{side}_sample"])] if row[f"{side}_sample"] else -1 for side in ("left", "right"))
    return "left" if left < right else "right"


@pytest.fixture
def _brightness(monkeypatch):
    """A metric instead of pyiqa: the mean of the distorted image."""
    metric = Metric(lower_better=True, full_reference=False, device="cpu", measure=np.mean)
    monkeypatch.setattr("distort_pipeline.commands.label.load_metric", lambda *_: metric)
    monkeypatch.setattr(
        label,
        "_measured",
        lambda metric, _, pairs: [float(metric.measure(distorted)) for distorted, _ in pairs],
    )


@pytest.mark.usefixtures("_brightness")
def test_a_metric_measures_every_sample(damaged):
    by_metric(damaged, "brightness")
    corpus = open_corpus(damaged)
    expected = [float(np.mean(corpus[number].distorted)) for number in range(40)]
    assert [row["brightness_lower_better"] for row in rows(damaged)] == pytest.approx(expected)


@pytest.mark.usefixtures("_brightness")
def test_an_interrupted_labelling_resumes(damaged, monkeypatch):
    real = Ledger.note

    def killed_at_the_third(self, name, *args):
        if name == "jpeg-00002":
            raise KeyboardInterrupt
        return real(self, name, *args)

    monkeypatch.setattr(Ledger, "note", killed_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        by_metric(damaged, "brightness")
    assert labels_of(open_corpus(damaged)) == ()
    monkeypatch.setattr(Ledger, "note", real)
    by_metric(damaged, "brightness")
    assert len(rows(damaged)) == 40
    assert verify(damaged).problems == ()


def test_without_pyiqa_the_error_names_the_package(finished_corpus, monkeypatch):
    label.load_metric.cache_clear()
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(PipelineError, match=r"--metric needs pyiqa.*pip install '\.\[consumers\]'"):
        by_metric(finished_corpus, "lpips")


def test_a_metric_is_made_on_the_device_that_is_asked_for_and_a_missing_one_is_named(monkeypatch):
    torch = pytest.importorskip("torch")
    made = []

    def create_metric(name, device):
        made.append((name, device))
        return SimpleNamespace(lower_better=True, metric_mode="FR")

    fake = SimpleNamespace(list_models=lambda _: ["lpips"], create_metric=create_metric)
    monkeypatch.setitem(sys.modules, "pyiqa", fake)
    label.load_metric.cache_clear()
    assert label.load_metric("lpips", 1, "meta").device == "meta"
    assert made == [("lpips", "meta")]
    if not torch.cuda.is_available():
        with pytest.raises(PipelineError, match="--device cuda cannot be used"):
            label.load_metric("lpips", 1, "cuda")
    label.load_metric.cache_clear()


def test_labels_of_another_corpus_are_refused(damaged, table):
    by_table(damaged, table, name="rating")
    metadata = json.loads((damaged / "labels/rating/store.json").read_text())
    (damaged / "labels/rating/store.json").write_text(json.dumps({**metadata, "corpus_digest": "0"}))
    with pytest.raises(PipelineError, match="belongs to another corpus"):
        labels_of(open_corpus(damaged))
