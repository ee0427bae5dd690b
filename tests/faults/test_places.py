"""Places of stores: links, mount points, read-only disks and folders; and repairs there, or without inputs."""

import hashlib
import os
import shutil
from contextlib import ExitStack, chdir, contextmanager

import pytest
from click.testing import CliRunner
from commands import Workdir, remount, small_disk
from fault_workdirs import SETTINGS
from tally import tally

from distort_pipeline.cli import main

pytestmark = pytest.mark.slow
pytest_plugins = ["corpus_fixtures", "fault_workdirs"]

SIZE = 2**28
SMALL = {"ingest": {"val_count": 1}, "generate": {"count": 32}}  # places matter here, amounts do not
OUTSIDE = ("store.json", "run.json")  # a repair may write them again
DAMAGED_FILES = {
    "pairs": "records/train-00000.parquet",
    "corpus": "ledger/tiles-00000.json",
    "export": "metadata.csv",
    "model": "README.md",
    "evaluation": "results.csv",
}
SHARDED = ("pairs", "corpus", "export")


class OneProcess(Workdir):
    """A working folder for commands in this process, which imports TensorFlow once."""

    def run(self, *args, before=()):
        if before:
            return super().run(*args, before=before)
        with chdir(self.folder):
            result = CliRunner().invoke(main, [str(arg) for arg in args])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, result.output


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, sample):
    settings = {name: {**section, **SMALL.get(name, {})} for name, section in SETTINGS.items()}
    for name in ("pairs", "generate", "export"):
        settings[name] |= {"workers": 0}
    folder = OneProcess(tmp_path_factory.mktemp("workdir"), settings)
    folder.succeed("ingest", sample, "--out", "manifest.jsonl")
    return folder


@pytest.fixture(scope="module")
def commands(models, workdir_pairs, workdir_corpus):
    """Name → the arguments of a command, without --out."""
    return {
        "pairs": ("pairs", "manifest.jsonl"),
        "train": ("train", workdir_pairs, "--distortion", "jpeg", "--steps", "0"),
        "evaluate": ("evaluate", workdir_pairs, "--models", models, "--c2st-steps", "0"),
        "generate": ("generate", "manifest.jsonl", "--models", models),
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


PLACES = {"link": linked, "link-to-nothing": linked_to_nothing, "mount-point": mount_point}


@contextmanager
def places(kind, names, folder):
    """Name → a place of this kind."""
    with ExitStack() as stack:
        outs = {}
        for name in names:
            (folder / name).mkdir()
            outs[name] = stack.enter_context(PLACES[kind](folder / name))
        yield outs


@pytest.mark.parametrize("kind", PLACES)
def test_stores_stand_at_the_place_that_out_names(workdir, commands, tmp_path, kind):
    with places(kind, commands, tmp_path) as outs:
        for name, args in commands.items():
            workdir.succeed(*args, "--out", outs[name])
        assert workdir.succeed("verify", *outs.values()).count("all as it was made") == len(commands)
        for name, args in commands.items():
            assert "already" in workdir.succeed(*args, "--out", outs[name])
    tally(f"places-{kind}", stores=len(commands))


def test_a_place_that_cannot_be_written_is_refused_before_any_work(workdir, commands, tmp_path):
    with small_disk(tmp_path / "disk", SIZE) as disk:
        remount(disk, "ro")
        for args in commands.values():
            code, output = workdir.run(*args, "--out", disk / "store")
            assert code == 2
            assert "Read-only file system" in output
            assert len(output.strip().splitlines()) <= 2  # the settings' file, and the reason
    tally("places-read-only", refused=len(commands))


@pytest.fixture(scope="module")
def originals(workdir, commands, models):
    """Name → a finished store of each kind, the corpus with labels."""
    for name in ("export", "evaluate"):
        workdir.succeed(*commands[name], "--out", name)
    (workdir.folder / "ratings.csv").write_text("sample,score\n0,3\n1,4\n")
    shutil.copytree(workdir.folder / "corpus", workdir.folder / "rated")
    workdir.succeed("label", "rated", "--table", "ratings.csv", "--name", "rating")
    folders = {"pairs": "pairs", "corpus": "rated", "export": "export", "evaluation": "evaluate"}
    return {"model": models / "jpeg", **{name: workdir.folder / folder for name, folder in folders.items()}}


@pytest.fixture
def inputs(models):
    """Option → an input of repairs."""
    return {"--manifest": "manifest.jsonl", "--models": models, "--corpus": "corpus"}


def repaired(workdir, outs, inputs):
    """Return exit code and output of a repair of all `outs`."""
    return workdir.run("verify", *outs.values(), "--repair", *(word for option in inputs.items() for word in option))


def damage(originals, outs):
    """Copy a store to each of `outs` and damage the copies; return their contents before and after."""
    for name, out in outs.items():
        shutil.copytree(originals[name], out, dirs_exist_ok=True)
    before = contents(outs)
    for name, out in outs.items():
        (out / DAMAGED_FILES[name]).write_bytes(b"x")
    return before, contents(outs)


def contents(outs):
    """Return file → digest of all files of stores."""
    return {
        f"{name}/{path.relative_to(out)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for name, out in outs.items()
        for path in out.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", ["link", "mount-point"])
def test_repair_mends_in_place(workdir, originals, inputs, tmp_path, kind):
    with places(kind, SHARDED, tmp_path) as outs:
        before, _ = damage(originals, outs)
        assert workdir.run("verify", *outs.values())[0] == 1
        code, output = repaired(workdir, outs, inputs)
        assert (code, output.count("all as it was made")) == (0, len(outs)), output
        after = contents(outs)
        assert set(after) == set(before)
        assert [name for name in before if after[name] != before[name] and not name.endswith(OUTSIDE)] == []
    tally(f"places-repair-{kind}", repairs=len(outs), same_files=len(outs))


def test_a_repair_without_its_inputs_leaves_every_byte_as_it_was(workdir, originals, inputs, tmp_path):
    missing = tmp_path / "missing"
    with places("link", DAMAGED_FILES, tmp_path) as outs:
        _, damaged = damage(originals, outs)
        corpus = {"corpus": outs["corpus"]}
        refused = 0
        for stores, options in (
            (outs, {"--manifest": missing, "--corpus": missing}),
            (outs, {"--root": missing, "--corpus": missing}),
            (corpus, {"--models": missing}),
        ):
            code, output = repaired(workdir, stores, inputs | options)
            assert code == 2, output
            for name, out in stores.items():
                assert f"{out / DAMAGED_FILES[name]} was changed" in output
                reason = "cannot be repaired and stays as it was: " if name in SHARDED else "has no shards to repair: "
                assert f"{out} {reason}" in output
                refused += 1
            assert contents(outs) == damaged
    tally("places-repair-without-inputs", refused=refused)


WITHOUT_RIGHTS = ("setpriv", "--inh-caps=-all", "--bounding-set=-all")


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="setpriv takes root's rights away")
def test_a_repair_that_cannot_be_written_leaves_every_byte_as_it_was(workdir, originals, inputs, tmp_path):
    with places("link", DAMAGED_FILES, tmp_path) as outs:
        _, damaged = damage(originals, outs)
        options = [word for option in inputs.items() for word in option]
        for reason, before in (("Permission denied", WITHOUT_RIGHTS), ("Read-only file system", ())):
            for name, out in outs.items():
                if before:
                    (out / DAMAGED_FILES[name]).parent.chmod(0o555)
                else:
                    remount(out.resolve().parent, "ro")
            code, output = workdir.run("verify", *outs.values(), "--repair", *options, before=before)
            assert (code, output.count(reason)) == (2, len(SHARDED)), output
            assert contents(outs) == damaged
    tally("places-repair-read-only", refused=2 * len(outs))
