import csv

import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.training import loop


@pytest.fixture(params=["tsv", "dvclive"])
def open_log(request):
    """A function that opens a log; both loggers write the same files."""
    if request.param == "dvclive":
        pytest.importorskip("dvclive")
    return lambda folder, from_step: loop.open_log(folder, from_step, (request.param,))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "live"


def rows(folder, name):
    with (folder / "plots" / "metrics" / f"{name}.tsv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t"))


def test_figures_stand_with_their_steps(folder, open_log):
    log = open_log(folder, 0)
    log.log(10, {"generator_loss": 1.5, "l1": 0.25})
    log.log(20, {"generator_loss": 1.25})
    assert rows(folder, "generator_loss") == [["step", "generator_loss"], ["10", "1.5"], ["20", "1.25"]]
    assert rows(folder, "l1") == [["step", "l1"], ["10", "0.25"]]
    assert not (folder.parent / "dvc.yaml").exists()


def test_what_came_after_the_checkpoint_is_taken_out_and_written_again(folder, open_log):
    log = open_log(folder, 0)
    for step in (10, 20, 30):
        log.log(step, {"jsd_nss": step / 100})
    resumed = open_log(folder, 20)
    assert rows(folder, "jsd_nss") == [["step", "jsd_nss"], ["10", "0.1"], ["20", "0.2"]]
    resumed.log(30, {"jsd_nss": 0.5})
    assert rows(folder, "jsd_nss")[-1] == ["30", "0.5"]
    reopened = open_log(folder, 0)  # no checkpoint was left: all of it is made again
    reopened.log(10, {"jsd_nss": 0.7})
    assert rows(folder, "jsd_nss") == [["step", "jsd_nss"], ["10", "0.7"]]


def test_a_line_that_a_kill_cut_short_is_taken_out(folder, open_log):
    log = open_log(folder, 0)
    log.log(10, {"jsd_nss": 0.1})
    with (folder / "plots" / "metrics" / "jsd_nss.tsv").open("a", encoding="utf-8") as file:
        file.write("2")
    open_log(folder, 10).log(20, {"jsd_nss": 0.2})
    assert rows(folder, "jsd_nss")[0] == ["step", "jsd_nss"]
    assert rows(folder, "jsd_nss")[-1] == ["20", "0.2"]


def test_a_users_folder_does_not_become_a_dvc_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop.open_log(tmp_path / "live", 0).log(1, {"a": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["live"]


def test_tensorboard_gets_scalars_with_their_steps_and_the_reports_their_files(folder):
    tf = pytest.importorskip("tensorflow")
    loop.open_log(folder, -1, ("tensorboard",)).log(1, {"jsd_nss": 9.0})
    log = loop.open_log(folder, -1, ("tensorboard",))  # begins anew
    log.log(10, {"jsd_nss": 0.5, "l1": 0.25})
    log.log(20, {"jsd_nss": 0.125})
    events = [
        (event.step, value.tag, value.metadata.plugin_data.plugin_name, float(tf.make_ndarray(value.tensor)))
        for path in sorted((folder / "tensorboard").iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    assert events == [(10, "jsd_nss", "scalars", 0.5), (10, "l1", "scalars", 0.25), (20, "jsd_nss", "scalars", 0.125)]
    assert rows(folder, "jsd_nss")[-2:] == [["10", "0.5"], ["20", "0.125"]]


def test_an_unknown_logger_is_named(folder):
    with pytest.raises(PipelineError, match="no logger is called 'tensorbord'; did you mean tensorboard"):
        loop.open_log(folder, 0, ("tensorbord",))
