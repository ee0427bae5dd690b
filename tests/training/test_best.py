import numpy as np

from distort_pipeline.training.loop import BestWeights


def weights(value):
    return lambda: {"kernel": np.full(3, value, np.float32)}


def test_the_lowest_figure_is_kept(tmp_path):
    best = BestWeights(tmp_path)
    for step, figure in ((0, 0.5), (10, 0.2), (20, 0.3)):
        best.offer(step, figure, weights(step))
    assert best.step() == 10
    assert best.weights()["kernel"].tolist() == [10, 10, 10]


def test_a_resumed_training_knows_it_and_an_equal_figure_changes_nothing(tmp_path):
    BestWeights(tmp_path).offer(10, 0.2, weights(10))
    resumed = BestWeights(tmp_path)
    resumed.offer(20, 0.2, weights(20))
    assert resumed.step() == 10
