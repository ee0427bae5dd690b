"""Pair stores and corpora at s3://bucket, on moto's server on loopback, behind a proxy with faults."""

import dataclasses
import json
import os
import shutil
import time

import pytest
from commands import Workdir, kill, metadata
from faulty_proxy import FaultyProxy
from lease_race import race
from tally import tally

from distort_pipeline.commands.verify import verify
from distort_pipeline.config import GenerateConfig, PairsConfig
from distort_pipeline.data.corpora import open_corpus
from distort_pipeline.data.leases import Holder
from distort_pipeline.data.pairs import open_pairs
from distort_pipeline.data.remote import RemotePath, as_path
from distort_pipeline.errors import PipelineError
from distort_pipeline.steps import generate, pairs

moto = pytest.importorskip("moto.server", reason="object stores are tested on moto's server: pip install moto[server]")
pytest.importorskip("s3fs", reason="object stores need the extra s3")

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures"]

FAULTS = {"error": 0.05, "slow": 0.01, "cut": 0.02}
SETTINGS = {
    "ingest": {"val_count": 2},
    "pairs": {
        "distortions": ["jpeg", "white_noise"],
        "tile_px": 128,
        "min_tile_px": 128,
        "tiles_per_image": 4,
        "tiles_per_shard": 4,
        "tiles_per_chunk": 2,
        "workers": 2,
    },
    "train": {
        "base_filters": 2,
        "discriminator_filters": 2,
        "crop_px": 128,
        "batch_size": 2,
        "steps": 2,
        "validation_tiles": 2,
    },
    "generate": {
        "count": 64,
        "tile_px": 128,
        "samples_per_shard": 16,
        "tiles_per_chunk": 8,
        "inference_batch_size": 8,
        "truth_images": 1,
        "workers": 2,
    },
    "export": {"workers": 0, "allow_flagged": True},
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """moto's server behind a proxy, and the environment to direct all requests to the proxy."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    faulty = FaultyProxy(server._server.server_port)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", faulty.url)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_CONFIG_FILE", str(tmp_path_factory.mktemp("aws") / "none"))
        import s3fs

        s3fs.S3FileSystem(use_listings_cache=False).mkdir("bucket")
        yield faulty
    faulty.close()
    server.stop()


@pytest.fixture(scope="module")
def local(tmp_path_factory, sample, models):
    """A working folder with a manifest of a few images, and their pair store and corpus."""
    workdir = Workdir(tmp_path_factory.mktemp("local"), SETTINGS)
    (workdir.folder / "images").mkdir()
    for image in sorted(sample.glob("*.png"))[:6]:
        shutil.copy(image, workdir.folder / "images")
    workdir.succeed("ingest", "images", "--out", "manifest.jsonl")
    for name in ("pairs", "generate"):
        workdir.succeed(*args_of(name, models), "--out", name)
    return workdir


@pytest.fixture
def store(local, proxy):
    """The working folder with access to the object store, without faults yet."""
    local.environment.update({name: value for name, value in os.environ.items() if name.startswith("AWS_")})
    proxy.faults = {}
    proxy.done.clear()
    return local


@pytest.fixture
def expected(local):
    return {name: metadata(local.folder / name)["digest"] for name in ("pairs", "generate")}


def args_of(name, models):
    return ("pairs", "manifest.jsonl") if name == "pairs" else ("generate", "--models", models)


def digest_at(url):
    return metadata(as_path(url))["digest"]


@pytest.fixture
def make(small_manifest, small_settings, models, small_corpus_settings):
    """A function that makes a small pair store or corpus in this process, and returns its digest."""

    def run(name, out):
        if name == "pairs":
            pairs.run(PairsConfig(**small_settings), small_manifest, as_path(out))
        else:
            generate.run(GenerateConfig(**small_corpus_settings), small_manifest, models, as_path(out))
        return digest_at(out)

    return run


@pytest.mark.usefixtures("proxy")
def test_a_remote_path_behaves_like_a_folder():
    folder = as_path("s3://bucket/paths")
    (folder / "deep" / "a.json").write_bytes(b"abc")
    (folder / "b.json").write_bytes(b"")
    assert folder.exists()
    assert folder.is_dir()
    assert not folder.is_file()
    assert not (folder / "none").exists()
    assert [path.name for path in folder.iterdir()] == ["b.json", "deep"]
    assert list(folder.glob("*.json")) == [folder / "b.json"]
    assert list(folder.rglob("*.json")) == [folder / "b.json", folder / "deep" / "a.json"]
    assert list((folder / "none").rglob("*")) == list((folder / "none").iterdir()) == []
    path = folder / "deep" / "a.json"
    assert (path.read_text(), path.stat().st_size, path.stem, path.suffix) == ("abc", 3, "a", ".json")
    assert path.relative_to(folder).as_posix() == "deep/a.json"
    assert path.with_suffix(".png") == folder / "deep" / "a.png"
    assert abs(path.stat().st_mtime - time.time()) < 60
    assert path.parents == [folder / "deep", folder, RemotePath("s3://bucket")]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()
    with pytest.raises(FileNotFoundError):
        path.unlink()
    path.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["pairs", "generate"])
def test_remote_stores_equal_local_stores_and_failed_requests_are_retried(proxy, make, tmp_path, name):
    expected = make(name, str(tmp_path / name))
    proxy.faults = {}
    assert make(name, f"s3://bucket/{name}") == expected
    proxy.done.clear()
    proxy.faults = FAULTS
    assert make(name, f"s3://bucket/faulty-{name}") == expected
    proxy.faults = {}
    done = dict(proxy.done)
    assert done["error"]
    assert done["cut"]
    for url in (f"s3://bucket/{name}", f"s3://bucket/faulty-{name}"):
        assert verify(as_path(url)).problems == ()
    if name == "generate":
        assert open_corpus(f"s3://bucket/{name}")[7].distorted.shape == (128, 128, 3)
    else:
        assert open_pairs(f"s3://bucket/{name}")[0].pristine.shape == (256, 256, 3)
    tally(f"objects-faulty-{name}", **done, same_digest=2)


@pytest.mark.parametrize("expired", [False, True])
def test_of_two_processes_one_holds_the_lease_of_a_store(proxy, expired):
    proxy.faults = {}
    path = as_path(f"s3://bucket/race-{expired}/.lease")
    if expired:
        other = Holder("other", "elsewhere", 1, "5")
        path.create(json.dumps(dataclasses.asdict(other)).encode())
        time.sleep(2)  # the age is the object store's
    for count in (2, 4):
        said = race(path, count, expires_s=1 if expired else 60)
        assert said.count("held\n") == 1, said
        assert sum("is being written by process" in line or "is taking over" in line for line in said) == count - 1
        assert not list(path.parent.iterdir())


def test_a_sample_costs_its_chunks_and_not_their_shards(proxy, make):
    proxy.faults = {}
    make("generate", "s3://bucket/ranges")
    corpus = open_corpus("s3://bucket/ranges")
    corpus.record(0)
    shards = [path.stat().st_size for path in as_path("s3://bucket/ranges/pixels.zarr").rglob("c.0.0.0.0")]
    corpus.array("pristine"), corpus.array("distorted/jpeg")
    proxy.done.clear()
    corpus[0]
    assert 0 < proxy.done["bytes"] < 2 * min(shards) * 0.6  # of two shards one chunk of two each
    assert proxy.done["requests"] <= 10


@pytest.mark.parametrize("name", ["pairs", "generate"])
def test_a_long_failure_is_an_error_and_the_same_command_goes_on(proxy, make, tmp_path, name):
    expected = make(name, str(tmp_path / name))
    url = f"s3://bucket/down-{name}"
    proxy.faults = {}
    proxy.done.clear()
    proxy.down_after = 120
    began = time.monotonic()
    with pytest.raises(PipelineError, match=f"s3://bucket/down-{name}"):
        make(name, url)
    seconds = time.monotonic() - began
    proxy.down_after = None
    kept = len(list(as_path(f"{url}/ledger").glob("*.json")))
    assert make(name, url) == expected
    tally(f"objects-down-{name}", shards_kept=kept, seconds_until_said=round(seconds), same_digest=1)


def test_a_killed_run_goes_on_and_a_second_writer_is_refused(store, models, expected):
    url = "s3://bucket/killed"
    args = (*args_of("generate", models), "--out", url)
    process = store.start(*args)
    end = time.monotonic() + 300
    while process.poll() is None and len(list(as_path(f"{url}/ledger").glob("*.json"))) < 2:
        assert time.monotonic() < end, store.output()
        time.sleep(0.1)
    first = store.output()
    code, output = store.run(*args)
    assert code == 2, first
    assert f"{url} is being written by process" in output
    kill(process)
    assert "taking over" in store.succeed(*args)
    assert digest_at(url) == expected["generate"]
    assert not [path for path in as_path("s3://bucket").iterdir() if path.name.endswith((".lease", ".partial"))]
    code, output = store.run(*args[:-2], "--count", 16, "--out", url)
    assert code == 2
    assert "was made with other settings or inputs" in output
    tally("objects-killed", kills=1, second_writers_refused=1, same_digest=1)
