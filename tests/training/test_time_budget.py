"""Minutes become steps once: a resumed training has the number that was stored."""

from distort_pipeline.training.loop import TIMED_STEPS, seconds_per_step, stored_steps


def test_the_first_plan_counts(tmp_path):
    assert stored_steps(tmp_path, lambda: {"steps": 7}) == {"steps": 7}
    assert stored_steps(tmp_path, lambda: {"steps": 9}) == {"steps": 7}


def test_the_step_that_compiles_is_not_timed():
    numbers = []

    def step(number):
        numbers.append(number)
        sum(range(3_000_000 if number == 0 else 1000))

    assert seconds_per_step(step) < 0.05
    assert numbers == list(range(TIMED_STEPS + 1))
