from distort_pipeline.training.init import resolve_noise_channels, resolve_warmup_steps


def test_noise_types_get_noise_channels_and_settings_overrule():
    assert resolve_noise_channels(None, "white_noise") == 3
    assert resolve_noise_channels(None, "jpeg") == 0
    assert resolve_noise_channels(None, "faded") == 0  # external, unregistered
    assert resolve_noise_channels(5, "jpeg") == 5
    assert resolve_noise_channels(0, "white_noise") == 0


def test_a_generator_without_an_adversary_waits_for_none():
    assert resolve_warmup_steps(None, steps=1000, adversarial=True, fitted=True) == 250
    assert resolve_warmup_steps(None, steps=1000, adversarial=True, fitted=False) == 0
    assert resolve_warmup_steps(None, steps=1000, adversarial=False, fitted=True) == 0
    assert resolve_warmup_steps(None, steps=100_000, adversarial=True, fitted=True) == 500  # no use waiting longer
    assert resolve_warmup_steps(7, steps=1000, adversarial=False, fitted=False) == 7
