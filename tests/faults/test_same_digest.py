"""One digest for 0, 1, 2 and 4 workers."""

import pytest
from commands import metadata
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

WORKERS = (0, 1, 2, 4)


@pytest.mark.parametrize("name", ["pairs", "generate", "export"])
def test_any_number_of_workers_makes_the_same_store(workdir, models, workdir_corpus, name):
    args = {
        "pairs": ("pairs", "manifest.jsonl"),
        "generate": ("generate", "--models", models),
        "export": ("export", workdir_corpus),
    }
    digests = set()
    for workers in WORKERS:
        out = f"{name}-by-{workers}"
        workdir.succeed(*args[name], "--workers", workers, "--out", out)
        digests.add(metadata(workdir.folder / out)["digest"])
    assert len(digests) == 1
    tally(f"workers-same-digest-{name}", workers=list(WORKERS), digests=1)
