import csv
import itertools
import math
import os
import shutil
import signal
import threading

import numpy as np
import pytest

from distort_pipeline.errors import PipelineError
from distort_pipeline.training.crops import Crops
from distort_pipeline.training.loop import Schedule, load_checkpoint, save_checkpoint, train

pytestmark = pytest.mark.usefixtures("eager")


def plain(steps, every=2):
    return Schedule("train jpeg", steps, checkpoint_every=every, validate_every=every)


class Counting:
    """A trainer that only counts; its losses are given."""

    def __init__(self, losses=lambda step: {"loss": float(step)}):
        self.losses = losses
        self.steps_made = []
        self.count = np.zeros((), np.int64)

    def step(self, pristine, distorted, severities, number):
        assert severities.shape == (len(pristine), 1)
        assert pristine.shape == distorted.shape
        self.steps_made.append(number)
        self.count = self.count + 1
        return self.losses(number)

    def state(self):
        return {"count": self.count}

    def restore(self, state):
        self.count = state["count"]


def crops_of(pair_store):
    return Crops(pair_store, "jpeg", [1], crop_px=128, crop_align=16, batch_size=2, seed=1)


def logged(folder):
    rows = {}
    for path in sorted((folder / "live" / "plots" / "metrics").glob("*.tsv")):
        with path.open(newline="", encoding="utf-8") as file:
            rows[path.stem] = list(csv.reader(file, delimiter="\t"))[1:]
    return rows


@pytest.fixture(autouse=True)
def outside_dvc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_resumed_training_is_the_uninterrupted_one(pair_store, trainer, make_trainer, tmp_path):
    def run(who, folder, validate):
        first = train(who, crops_of(pair_store), folder, plain(4), validate=validate)
        return first, who.state(), logged(folder)

    def figures(who):
        return {"jsd_nss": float(np.abs(who.ema_generator.get_weights()[0]).sum())}

    def validate_and_keep(step):
        if step == 4:  # as the disk is if the process dies in the fourth step
            shutil.copytree(tmp_path / "whole", tmp_path / "killed")
        return figures(trainer)

    first, uninterrupted, rows = run(trainer, tmp_path / "whole", validate_and_keep)
    assert first == 0
    assert load_checkpoint(tmp_path / "killed" / "checkpoints")[0] == 2
    fresh = make_trainer()
    first, resumed, rows_again = run(fresh, tmp_path / "killed", lambda _: figures(fresh))
    assert first == 2
    assert uninterrupted.keys() == resumed.keys()
    assert [name for name, array in uninterrupted.items() if not np.array_equal(array, resumed[name])] == []
    assert rows_again == rows
    assert [step for step, _ in rows["jsd_nss"]] == ["0", "2", "4"]
    assert [step for step, _ in rows["generator_loss"]] == ["2", "4"]


def test_steps_of_checkpoints_validations_and_means(pair_store, tmp_path):
    validated = []
    who = Counting()
    train(
        who,
        crops_of(pair_store),
        tmp_path,
        Schedule("x", 25, checkpoint_every=7, validate_every=12),
        validate=lambda step: validated.append(step) or {"jsd_nss": 1 / (1 + step)},
    )
    assert who.steps_made == list(range(25))
    assert validated == [0, 12, 24, 25]  # 0: the initialization
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == [
        "00000021.safetensors",
        "00000025.safetensors",
    ]
    # means since the line before: at every tenth step, at checkpoints and at the end
    ends = [7, 10, 14, 20, 21, 25]
    means = [np.mean(range(first, last)) for first, last in itertools.pairwise([0, *ends])]
    assert logged(tmp_path)["loss"] == [[str(end), str(float(mean))] for end, mean in zip(ends, means, strict=True)]


def test_an_interruption_does_not_show_in_the_log(pair_store, tmp_path):
    settings = {"schedule": plain(30, every=100), "validate": lambda _: {}}

    class Stopping(Counting):
        def step(self, pristine, distorted, severities, number):
            if number == 12 and not self.count - number:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(pristine, distorted, severities, number)

    train(Counting(), crops_of(pair_store), tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(Stopping(), crops_of(pair_store), tmp_path / "stopped", **settings)
    assert load_checkpoint(tmp_path / "stopped" / "checkpoints")[0] == 13
    resumed = Counting()
    assert train(resumed, crops_of(pair_store), tmp_path / "stopped", **settings) == 13
    assert resumed.steps_made == list(range(13, 30))
    assert logged(tmp_path / "stopped") == logged(tmp_path / "whole")
    assert [step for step, _ in logged(tmp_path / "whole")["loss"]] == ["10", "20", "30"]


def test_a_finished_training_makes_no_step(pair_store, tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 4, {"count": np.asarray(4)})
    who = Counting()
    assert train(who, crops_of(pair_store), tmp_path, plain(4), validate=lambda _: {}) == 4
    assert who.steps_made == []
    assert who.count == 4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e12])
def test_losses_that_diverge_stop_the_run_and_name_the_last_good_checkpoint(pair_store, tmp_path, bad):
    who = Counting(lambda step: {"loss": 1.0, "adversarial": bad if step == 6 else 1.0})
    with pytest.raises(PipelineError) as caught:
        train(who, crops_of(pair_store), tmp_path, plain(20), validate=lambda _: {})
    said = str(caught.value)
    assert "train jpeg diverged: adversarial was" in said
    assert f"the last good checkpoint is {tmp_path / 'checkpoints' / '00000006.safetensors'}" in said
    assert "train.generator_lr" in said
    assert load_checkpoint(tmp_path / "checkpoints")[0] == 6  # the bad state was not saved
    assert not [thread for thread in threading.enumerate() if thread.name == "crops"]


def test_divergence_before_the_first_checkpoint_says_so(pair_store, tmp_path):
    who = Counting(lambda _: {"loss": math.nan})
    with pytest.raises(PipelineError, match="no checkpoint was reached"):
        train(who, crops_of(pair_store), tmp_path, plain(4), validate=lambda _: {})


def test_a_sum_over_a_crop_is_not_taken_for_divergence(pair_store, tmp_path):
    # l1_reduction "sum" on 0-255: 40 levels over a 256 px crop
    who = Counting(lambda _: {"l1": 40.0 * 256 * 256 * 3})
    assert train(who, crops_of(pair_store), tmp_path, plain(2), validate=lambda _: {}) == 0


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(pair_store, tmp_path):
    train(Counting(), crops_of(pair_store), tmp_path, plain(6), validate=lambda _: {})
    newest = tmp_path / "checkpoints" / "00000006.safetensors"
    newest.write_bytes(newest.read_bytes()[:-4])
    before = logged(tmp_path)
    who = Counting()
    assert train(who, crops_of(pair_store), tmp_path, plain(6), validate=lambda _: {}) == 4
    assert who.steps_made == [4, 5]
    assert who.count == 6
    assert logged(tmp_path) == before


def test_a_checkpoint_of_other_networks_is_named(pair_store, trainer, tmp_path):
    save_checkpoint(tmp_path / "checkpoints", 2, {"count": np.asarray(2)})
    with pytest.raises(PipelineError, match="is of other networks"):
        train(trainer, crops_of(pair_store), tmp_path, plain(4), validate=lambda _: {})


def test_ctrl_c_saves_the_step_in_hand_and_the_same_command_goes_on_behind_it(pair_store, tmp_path):
    def interrupted_at_two(step):
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return {"loss": float(step)}

    settings = {"schedule": plain(6, every=100), "validate": lambda _: {}}
    stopped = Counting(interrupted_at_two)
    with pytest.raises(KeyboardInterrupt):
        train(stopped, crops_of(pair_store), tmp_path, **settings)
    assert stopped.steps_made == [0, 1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resumed = Counting()
    assert train(resumed, crops_of(pair_store), tmp_path, **settings) == 3
    assert resumed.steps_made == [3, 4, 5]
    assert resumed.count == 6
