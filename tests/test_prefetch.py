import threading
import time

import pytest

from distort_pipeline.process import prefetch


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "worker"]


def test_items_come_in_order_from_another_thread():
    threads = set()

    def items():
        for number in range(20):
            threads.add(threading.current_thread().name)
            yield number

    assert list(prefetch(items(), 3, name="worker")) == list(range(20))
    assert threads == {"worker"}
    assert list(prefetch(iter(()), 3, name="worker")) == []
    assert workers() == []


def test_only_count_items_are_taken_ahead():
    requested = []

    def items():
        for number in range(1000):
            requested.append(number)
            yield number

    items_ahead = prefetch(items(), 2, name="worker")
    assert requested == []  # nothing starts before the first request
    assert next(items_ahead) == 0
    deadline = time.monotonic() + 10
    while len(requested) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert requested == [0, 1, 2, 3]  # one consumed, two queued, one in hand
    items_ahead.close()
    assert workers() == []
    assert len(requested) == 4


def test_an_error_comes_behind_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise OSError("the disk went away")

    items_ahead = prefetch(items(), 5, name="worker")
    assert [next(items_ahead), next(items_ahead)] == [1, 2]
    with pytest.raises(OSError, match="the disk went away"):
        next(items_ahead)
    assert workers() == []


def test_a_consumer_that_fails_stops_the_thread():
    def consume():
        for number in prefetch(iter(range(1000)), 2, name="worker"):
            if number == 3:
                raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        consume()
    deadline = time.monotonic() + 10
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers() == []
