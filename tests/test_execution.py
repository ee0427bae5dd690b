import multiprocessing
import os
import socket
import time

import dask
import pytest

from distort_pipeline import execution, process
from distort_pipeline.errors import PipelineError
from distort_pipeline.execution import WITHOUT_PROFILING, Workers, run_tasks
from distort_pipeline.process import track


def square(number):
    return number, number**2, os.getpid()


def refuse_three(number):
    if number == 3:
        raise PipelineError("three is refused; choose another")
    return number


def test_without_workers_tasks_run_in_this_process_in_order():
    started = []

    def note(number):
        started.append(number)
        return number

    results = run_tasks(note, [3, 1, 2], Workers(0))
    assert started == []  # nothing runs before the first result is requested
    assert next(results) == 3
    assert started == [3]
    assert list(results) == [1, 2]


def test_progress_counts_units_moves_while_nothing_is_finished_and_guesses_no_time_from_the_first(monkeypatch, capsys):
    monkeypatch.setattr(process, "FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr(process, "SECONDS_BETWEEN_LINES", 0.1)
    monkeypatch.setattr(process, "HEARTBEAT_SECONDS", 0.05)

    def slowly():
        for size in (8, 8, 4):
            time.sleep(0.3)
            yield size

    assert list(track(slowly(), total=20, label="make", unit="samples", size=int)) == [8, 8, 4]
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("make: 0/20 samples, 0 s")
    assert any(line.startswith("make: 8/20 samples") for line in lines)
    assert not any("left" in line for line in lines if "8/20" in line)
    assert any(line.startswith("make: 16/20 samples") and "s left" in line for line in lines)
    assert lines[-1].startswith("make: 20/20 samples")


def test_an_error_of_a_task_arrives_as_it_is():
    with pytest.raises(PipelineError, match="three is refused"):
        list(run_tasks(refuse_three, [1, 3], Workers(0)))


def test_two_processes_give_the_same_results_and_a_timeout_at_their_end_fails_no_run(monkeypatch):
    from distributed import LocalCluster

    close, closed = LocalCluster.close, []

    def slow(cluster, timeout=None):
        close(cluster, timeout)
        closed.append(cluster)
        raise TimeoutError

    monkeypatch.setattr(LocalCluster, "close", slow)
    results = list(run_tasks(square, range(9), Workers(2)))
    assert closed
    assert sorted(results)[4][:2] == (4, 16)
    assert sorted(result[:2] for result in results) == [square(number)[:2] for number in range(9)]
    assert os.getpid() not in {result[2] for result in results}


def setting(name):
    return dask.config.get(name) if "." in name else os.getenv(name)


def test_local_workers_have_settings_of_their_own_and_none_for_other_clusters(monkeypatch):
    monkeypatch.setenv("DASK_TEMPORARY_DIRECTORY", "/nonexistent")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-7")
    profile = "distributed.worker.profile.enabled"
    with dask.config.set({"distributed.comm.require-encryption": True, "distributed.comm.default-scheme": "tls"}):
        names = ["MALLOC_ARENA_MAX", *WITHOUT_PROFILING, "CUDA_VISIBLE_DEVICES"]
        settings = list(run_tasks(setting, names, Workers(1)))
    # keeps the memory that images free; profiles nothing; sees no GPU, as the tasks use none
    assert settings == ["1", *WITHOUT_PROFILING.values(), ""]
    assert dask.config.get(profile)  # unchanged in this process, which may have other clusters


def test_local_workers_have_a_gpu_each_where_tasks_use_one(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-7")
    seen = set(run_tasks(setting, ["CUDA_VISIBLE_DEVICES"] * 8, Workers(3, gpu=True)))
    assert seen == {"4", "GPU-7"}  # two processes, though three were requested
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert execution.visible_gpus() == ()


def test_without_shared_memory_the_tasks_run_in_this_process(monkeypatch, capsys):
    def refused(_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(multiprocessing.get_context("spawn").__class__, "Lock", refused)
    assert {result[2] for result in run_tasks(square, range(3), Workers(2))} == {os.getpid()}
    assert "as with --workers 0" in capsys.readouterr().err


def test_without_loopback_the_tasks_run_in_this_process(monkeypatch, capsys):
    monkeypatch.setattr(execution, "LOOPBACK", "192.0.2.1")  # an address of documentation, RFC 5737
    assert {result[2] for result in run_tasks(square, range(3), Workers(2))} == {os.getpid()}
    assert "192.0.2.1 cannot be used" in capsys.readouterr().err


def test_no_tasks_start_no_cluster(monkeypatch):
    monkeypatch.setattr(execution, "_client", lambda *_: pytest.fail("a cluster was started"))
    assert list(run_tasks(square, [], Workers(2))) == []


def test_a_missing_scheduler_is_an_error_for_users(monkeypatch, tmp_path):
    monkeypatch.setattr(execution, "CONNECT_SECONDS", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(PipelineError, match=f"no Dask scheduler with a worker answers at {address}"):
        list(run_tasks(square, [1], Workers(scheduler=address)))
    assert time.monotonic() - started < 15
    with pytest.raises(PipelineError, match="there is no scheduler file"):
        list(run_tasks(square, [1], Workers(scheduler_file=str(tmp_path / "none.json"))))


def test_a_scheduler_elsewhere_runs_the_tasks():
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        results = list(run_tasks(square, range(7), Workers(scheduler=cluster.scheduler_address)))
    assert sorted(result[:2] for result in results) == [(number, number**2) for number in range(7)]


@pytest.fixture(scope="module")
def worker_process():
    """The workers of a cluster of one process."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        yield Workers(scheduler=cluster.scheduler_address)


def test_an_error_in_a_worker_process_arrives_as_it_is(worker_process):
    with pytest.raises(PipelineError, match="three is refused; choose another"):
        list(run_tasks(refuse_three, range(9), worker_process))


def test_a_worker_with_another_version_of_anything_that_decides_bytes_is_refused(monkeypatch, worker_process):
    versions = execution.deciding_versions()
    assert versions["openjpeg"]
    assert versions["numpy"]
    monkeypatch.setattr(execution, "deciding_versions", lambda: {**versions, "openjpeg": "2.4.0", "absent-here": "1"})
    refused = rf"has openjpeg {versions['openjpeg']} instead of 2\.4\.0, which can"
    with pytest.raises(PipelineError, match=refused):
        list(run_tasks(square, range(7), worker_process))
