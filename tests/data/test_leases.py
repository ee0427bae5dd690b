import json
import os
import subprocess
import sys
import time

import pytest
from lease_race import race

from distort_pipeline.data import leases
from distort_pipeline.data.leases import hold_lease
from distort_pipeline.data.remote import as_path
from distort_pipeline.errors import PipelineError


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".corpus.lease"


def take(path, **changes):
    """Write a lease of another holder."""
    holder = {"token": "other", "host": "elsewhere", "process": 1, "born": "5", **changes}
    path.write_text(json.dumps(holder), encoding="utf-8")


def grow_old(path, seconds):
    os.utime(path, (time.time() - seconds,) * 2)


def test_other_holders_are_refused_until_release(path):
    message = rf"corpus is being written by process {os.getpid()} on .* expires in"
    with hold_lease(path, "corpus"):
        with pytest.raises(PipelineError, match=message), hold_lease(path, "corpus"):
            pass
        assert path.exists()
    assert list(path.parent.iterdir()) == []
    with hold_lease(path, "corpus"):
        pass


def test_a_holder_elsewhere_is_refused_while_its_lease_is_young_and_taken_over_when_it_is_old(path, capsys):
    take(path)
    grow_old(path, leases.EXPIRES_SECONDS - 30)
    with (
        pytest.raises(PipelineError, match=r"by process 1 on elsewhere.*expires in (29|30) s"),
        hold_lease(path, "corpus"),
    ):
        pass
    grow_old(path, leases.EXPIRES_SECONDS + 30)
    with hold_lease(path, "corpus") as lease:
        assert not lease.lost()
    assert "taking over corpus from process 1 on elsewhere, not heard of for 90 s" in capsys.readouterr().err


def test_a_process_of_this_machine_that_is_gone_is_not_waited_for(path, capsys):
    code = (
        "import os, sys; from pathlib import Path; from distort_pipeline.data.leases import hold_lease;"
        f"lease = hold_lease(Path({str(path)!r}), 'corpus'); lease.__enter__();"
        "print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(PipelineError, match=f"by process {process.pid} on"), hold_lease(path, "corpus"):
        pass
    process.kill()
    process.wait()
    with hold_lease(path, "corpus"):
        pass
    assert f"from process {process.pid} on" in capsys.readouterr().err


def test_another_process_with_the_number_of_the_holder_is_not_the_holder(path):
    take(path, host=leases.socket.gethostname(), process=os.getpid(), born="long ago")
    with hold_lease(path, "corpus"):
        pass


def test_a_heartbeat_keeps_the_lease_young(path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with hold_lease(path, "corpus"):
        grow_old(path, 1000)
        until = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 500 and time.monotonic() < until:
            time.sleep(0.05)
        assert time.time() - path.stat().st_mtime < 500


def test_a_holder_whose_lease_was_taken_over_says_so_and_leaves_it(path, monkeypatch, capsys):
    monkeypatch.setattr(leases, "BEAT_SECONDS", 0.05)
    with hold_lease(path, "corpus") as lease:
        take(path)
        until = time.monotonic() + 10
        while not (message := capsys.readouterr().err) and time.monotonic() < until:
            time.sleep(0.05)
        assert "was taken over by another writer" in message
        assert lease.lost()
    assert json.loads(path.read_text())["token"] == "other"


def test_a_damaged_lease_has_no_holder(path):
    path.write_text("{")
    with hold_lease(path, "corpus"):
        pass


def test_an_unreleased_lease_of_this_process_does_not_lock_it_out(path, capsys):
    take(path, host=leases.socket.gethostname(), process=os.getpid(), born=leases._born(os.getpid()))
    with hold_lease(path, "corpus"):
        pass
    assert "which could not release its lease" in capsys.readouterr().err


@pytest.mark.parametrize("expired", [False, True])
def test_of_writers_at_the_same_time_one_holds_the_lease(path, expired):
    if expired:
        take(path)
        grow_old(path, leases.EXPIRES_SECONDS + 30)
    said = race(path, 3)
    assert said.count("held\n") == 1, said
    assert sum("is being written by process" in line or "is taking over" in line for line in said) == 2, said
    assert list(path.parent.iterdir()) == []


def test_an_object_is_created_by_one_writer_and_taken_over_when_expired(monkeypatch, capsys):
    pytest.importorskip("fsspec")
    path = as_path("memory://bucket/.corpus.lease")
    assert path.create(b"a")
    assert path.create(b"a")  # the answer to the first request was lost
    assert not path.create(b"b")
    path.unlink()
    with hold_lease(path, "corpus"):
        with pytest.raises(PipelineError, match="is being written by process"), hold_lease(path, "corpus"):
            pass
        monkeypatch.setattr(leases, "_tokens", set())
        with hold_lease(path, "corpus") as second:
            assert not second.lost()
        assert "taking over corpus" in capsys.readouterr().err
    assert list(as_path("memory://bucket").iterdir()) == []


def test_an_object_that_was_deleted_while_it_was_refused_is_another_writers(monkeypatch: pytest.MonkeyPatch):
    path = as_path("memory://bucket/.gone.lease")

    def refuse(*_: object, **__: object) -> None:
        raise FileExistsError

    monkeypatch.setattr(path._system, "pipe_file", refuse)
    assert path.create(b"mine") is False
