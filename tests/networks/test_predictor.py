import numpy as np
import pytest

from distort_pipeline.networks.generator import Architecture, build_generator
from distort_pipeline.networks.predictor import Predictor, noise_maps, pad_to_multiple
from distort_pipeline.networks.wavelets import significance_of


def images(number, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (number, height, width, 3), dtype=np.uint8)


def lively(noise_channels):
    """A generator whose residual is large enough to be seen in 8 bits."""
    model = build_generator(Architecture(base_filters=2, noise_channels=noise_channels))
    head = model.get_layer("decoder_7_up")
    rng = np.random.default_rng(0)
    head.set_weights([rng.normal(0, 0.5, weights.shape) for weights in head.get_weights()])
    return model


@pytest.fixture(scope="module")
def plain():
    return Predictor(lively(0), noise_channels=0, batch_size=3)


@pytest.fixture(scope="module")
def noisy():
    return Predictor(lively(1), noise_channels=1, batch_size=3)


@pytest.mark.parametrize("kind", ["plain", "noisy"])
def test_an_image_alone_and_in_company_comes_out_the_same(kind, request):
    predictor = request.getfixturevalue(kind)
    batch = images(7, 128, 128)
    seeds = list(range(100, 107))
    together = predictor.distort(batch, seeds)
    assert together.shape == batch.shape
    assert together.dtype == np.uint8
    assert not np.array_equal(together, batch)
    for index in (0, 2, 4, 6):
        assert np.array_equal(predictor.distort_image(batch[index], seeds[index]), together[index])
    turned = predictor.distort(batch[::-1], seeds[::-1])
    assert np.array_equal(turned[::-1], together)


def test_batches_are_all_images_in_order(noisy):
    batch, seeds = images(7, 128, 128), list(range(7))
    batches = list(noisy.distort_batches(batch, seeds))
    assert [len(images_of_batch) for images_of_batch in batches] == [3, 3, 1]
    assert np.array_equal(np.concatenate(batches), noisy.distort(batch, seeds))


def test_seeds_decide_the_noise_and_nothing_else_does(plain, noisy):
    image = images(1, 128, 128)[0]
    assert np.array_equal(noisy.distort_image(image, 1), noisy.distort_image(image, 1))
    assert not np.array_equal(noisy.distort_image(image, 1), noisy.distort_image(image, 2))
    assert np.array_equal(plain.distort_image(image, 1), plain.distort_image(image, 2))
    first, second = noise_maps([5, 6], 128, 128, 2, 3), noise_maps([6], 128, 128, 2, 3)
    for maps, other in zip(first, second, strict=True):
        assert np.array_equal(maps[1], other[0])
        assert not maps[2].any()
    assert abs(float(first[-1][0].std()) - 1) < 0.02
    assert abs(float(first[-1][0].mean())) < 0.03


def test_a_batch_statistic_never_enters(plain):
    # in training mode a bright neighbour would darken the others through the batch norms
    batch = images(3, 128, 128)
    among_others = np.concatenate([batch[:1], np.full((2, 128, 128, 3), 255, np.uint8)])
    assert np.array_equal(plain.distort(batch, [0, 0, 0])[0], plain.distort(among_others, [0, 0, 0])[0])


@pytest.mark.parametrize(
    ("height", "width", "padded"), [(128, 128, (128, 128)), (129, 200, (256, 256)), (384, 100, (384, 128))]
)
def test_padding_is_at_the_bottom_and_right_by_reflection(height, width, padded):
    batch = images(2, height, width)
    padded_batch = pad_to_multiple(batch)
    assert padded_batch.shape == (2, *padded, 3)
    assert np.array_equal(padded_batch[:, :height, :width], batch)
    down, right = padded[0] - height, padded[1] - width
    if 0 < down < height:
        assert np.array_equal(padded_batch[:, height, :width], batch[:, height - 2])
        assert np.array_equal(padded_batch[:, height + down - 1, :width], batch[:, height - 1 - down])
    if 0 < right < width:
        assert np.array_equal(padded_batch[:, :height, width], batch[:, :, width - 2])


@pytest.mark.parametrize(("height", "width"), [(40, 300), (1, 1), (64, 64)])
def test_images_smaller_than_their_padding_are_padded_with_themselves(height, width, plain):
    batch = images(1, height, width)
    padded_batch = pad_to_multiple(batch)
    assert padded_batch.shape[1] % 128 == padded_batch.shape[2] % 128 == 0
    assert np.array_equal(padded_batch[:, :height, :width], batch)
    assert set(np.unique(padded_batch)) <= set(np.unique(batch))
    assert plain.distort(batch, [0]).shape == batch.shape


def test_a_padded_image_is_the_corner_of_the_larger_one(plain):
    image = images(1, 150, 140)
    larger = pad_to_multiple(image)
    assert np.array_equal(plain.distort(image, [3]), plain.distort(larger, [3])[:, :150, :140])


def test_no_images_are_no_images(plain):
    assert plain.distort(images(0, 128, 128), []).shape == (0, 128, 128, 3)


@pytest.mark.usefixtures("eager")
def test_without_image_significance_an_image_counts_as_whole():
    alone, with_stats = (
        build_generator(
            Architecture(base_filters=0, codec_prior="dwt97", levels=2), image_stats=image_stats, fused=True
        )
        for image_stats in (False, True)
    )
    assert [entry.name for entry in alone.inputs] == ["pristine", "severity"]
    assert [entry.name for entry in with_stats.inputs] == ["pristine", "severity", "significance"]
    layer = alone.get_layer("coefficient_curves")
    layer.log_shares.assign(np.log(np.array([[0.1], [0.01]], np.float32)))
    for variable, curves in zip(layer.curves, layer.codec_prior.curves, strict=True):
        knots = curves.spacing * (np.arange(curves.knots) - (curves.knots - 1) / 2)
        variable.assign(np.tile(np.rint(knots) - knots, (variable.shape[0], curves.count, 1)).astype(np.float32))
    with_stats.set_weights(alone.get_weights())
    alone_predictor = Predictor(alone, noise_channels=0, batch_size=2, multi_level=True)
    predictor = Predictor(with_stats, noise_channels=0, batch_size=2, multi_level=True, image_stats=True)
    batch, seeds, severities = images(3, 128, 256), [1, 2, 3], [0.5, 0.8, 1.0]
    generated = predictor.distort(batch, seeds, severities)
    off = np.abs(generated.astype(int) - alone_predictor.distort(batch, seeds, severities))
    assert np.mean(off > 0) < 0.001  # a coefficient may lie on either side of a step
    significances = np.stack([significance_of(entry) for entry in batch])
    np.testing.assert_array_equal(predictor.distort(batch, seeds, severities, significances), generated)
    np.testing.assert_array_equal(predictor.distort(batch[1:2], [2], [0.8], significances[1:2]), generated[1:2])
    assert (predictor.distort(batch, seeds, severities, significances / 20) != generated).mean() > 0.5
