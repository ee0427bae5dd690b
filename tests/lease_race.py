"""Processes that ask for one lease at the same time."""

import subprocess
import sys
import time

RACE = """
import sys, time
from distort_pipeline.data import leases
from distort_pipeline.data.remote import as_path
from distort_pipeline.errors import PipelineError
path, start, leases.EXPIRES_SECONDS = as_path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
path.exists()  # whatever is imported or connected for the first request
time.sleep(max(start - time.time(), 0))
try:
    with leases.hold_lease(path, "corpus"):
        print("held", flush=True)
        sys.stdin.read()
except PipelineError as error:
    print(error, flush=True)
"""


def race(path, count=2, *, expires_s=60.0):
    """Return what `count` processes say that ask for the lease at `path` at the same time; the holder keeps it."""
    command = [sys.executable, "-c", RACE, str(path), str(time.time() + 5), str(expires_s)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    said = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    return said
