"""Places of stores: links, mount points, the working folder, read-only disks; and repairs there, or without inputs."""

import hashlib
import shutil
from contextlib import contextmanager

import pytest
from commands import metadata, remount, small_disk
from tally import tally

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

SIZE = 2**28


@pytest.fixture(scope="module")
def commands(workdir, models, workdir_pairs, workdir_corpus):
    """Name → the arguments of a command, without --out."""
    manifest = workdir.folder / "manifest.jsonl"
    return {
        "pairs": ("pairs", manifest),
        "train": ("train", workdir_pairs, "--distortion", "jpeg", "--steps", "0"),
        "evaluate": ("evaluate", workdir_pairs, "--models", models, "--c2st-steps", "0"),
        "generate": ("generate", manifest, "--models", models),
        "export": ("export", workdir_corpus),
    }


@contextmanager
def linked(folder):
    """A link to an empty folder of another disk."""
    with small_disk(folder / "disk", SIZE) as disk:
        (disk / "store").mkdir()
        (folder / "link").symlink_to(disk / "store")
        yield folder / "link"
        assert (folder / "link").is_symlink()


@contextmanager
def linked_to_nothing(folder):
    """A link to a missing folder of another disk."""
    with small_disk(folder / "disk", SIZE) as disk:
        (folder / "link").symlink_to(disk / "deep" / "store")
        yield folder / "link"


@contextmanager
def mount_point(folder):
    """A mount point in a read-only folder, with the folder of a new file system."""
    with small_disk(folder / "outer", SIZE) as outer:
        (outer / "volume").mkdir()
        with small_disk(outer / "volume", SIZE) as volume:
            (volume / "lost+found").mkdir()
            remount(outer, "ro")
            yield volume


@contextmanager
def read_only(folder):
    """A place on a read-only disk."""
    with small_disk(folder / "disk", SIZE) as disk:
        remount(disk, "ro")
        yield disk / "store"


DESTINATIONS = {"link": linked, "link-to-nothing": linked_to_nothing, "mount-point": mount_point}


@pytest.mark.parametrize("kind", DESTINATIONS)
@pytest.mark.parametrize("name", ["pairs", "train", "evaluate", "generate", "export"])
def test_a_store_stands_at_the_place_that_out_names(workdir, commands, tmp_path, name, kind):
    with DESTINATIONS[kind](tmp_path) as out:
        workdir.succeed(*commands[name], "--out", out)
        assert "all as it was made" in workdir.succeed("verify", out)
        assert "already" in workdir.succeed(*commands[name], "--out", out)
    tally(f"places-{name}-{kind}", stores=1)


@pytest.mark.parametrize("name", ["pairs", "train", "evaluate", "generate", "export"])
def test_a_place_that_cannot_be_written_is_refused_before_any_work(workdir, commands, tmp_path, name):
    with read_only(tmp_path) as out:
        code, output = workdir.run(*commands[name], "--out", out)
        assert code == 2
        assert "Read-only file system" in output
        assert len(output.strip().splitlines()) <= 2  # the settings' file, and the reason
    tally(f"places-{name}-read-only", refused=1)


@pytest.fixture
def stores(workdir, commands, tmp_path):
    """Name → (a copy of a store with a damaged shard, options for its repair)."""
    manifest, models = commands["generate"][1], commands["generate"][3]
    originals = {
        "pairs": (workdir.folder / "pairs", ("--manifest", manifest), "records/train-00000.parquet"),
        "corpus": (workdir.folder / "corpus", ("--manifest", manifest, "--models", models), "ledger/tiles-00000.json"),
    }
    export = tmp_path / "made" / "export"
    workdir.succeed(*commands["export"], "--out", export)
    originals["export"] = (export, ("--corpus", workdir.folder / "corpus"), "metadata.csv")
    return originals


def copied(stores, name, to):
    """Copy a store to the folder `to` and damage the copy; return the options of its repair."""
    folder, options, damaged = stores[name]
    shutil.copytree(folder, to, dirs_exist_ok=True)
    (to / damaged).write_bytes(b"x")
    return options


def contents(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["link", "mount-point"])
@pytest.mark.parametrize("name", ["pairs", "corpus", "export"])
def test_repair_mends_in_place(workdir, stores, tmp_path, name, kind):
    with DESTINATIONS[kind](tmp_path) as out:
        options = copied(stores, name, out)
        if name == "corpus":
            (tmp_path / "ratings.csv").write_text("sample,score\n0,3\n1,4\n")
            workdir.succeed("label", out, "--table", tmp_path / "ratings.csv", "--name", "rating")
        digest, before = metadata(out)["digest"], contents(out)
        assert workdir.run("verify", out)[0] == 1
        assert "all as it was made" in workdir.succeed("verify", out, "--repair", *options)
        assert metadata(out)["digest"] == digest
        assert set(contents(out)) == set(before)
    tally(f"places-repair-{name}-{kind}", repairs=1, same_digest=1)


@pytest.mark.parametrize("name", ["pairs", "corpus", "export"])
def test_a_repair_that_cannot_be_done_leaves_every_byte_as_it_was(workdir, stores, tmp_path, name):
    with linked(tmp_path) as out:
        options = copied(stores, name, out)
        before = contents(out)
        missing = [(options[0], tmp_path / "missing", *options[2:])]
        if name != "export":  # an export is made of its corpus alone
            missing.append((*options, "--root", tmp_path / "missing"))
        for arguments in missing:
            code, output = workdir.run("verify", out, "--repair", *arguments)
            assert (code, "cannot be repaired and stays as it was" in output) == (2, True), output
            assert contents(out) == before
        remount(out.resolve().parent, "ro")
        code, output = workdir.run("verify", out, "--repair", *options)
        assert (code, "Read-only file system" in output) == (2, True), output
        assert contents(out) == before
    tally(f"places-repair-{name}-refused", refused=len(missing) + 1)
