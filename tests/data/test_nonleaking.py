"""Augmentation: exact on the lattice, near the formula between its pixels, told by its labels, one key per example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from score_sde.data import nonleaking
from score_sde.data.nonleaking import Geometry, inverse, warp
from score_sde.rng import example_keys, positions, root_key
from tests.golden_files import quick_jit

SIZE = 32
transform = quick_jit(nonleaking.transform)
draw = {p: quick_jit(lambda keys, p=p: nonleaking.draw(keys, p)) for p in (0.12, 1.0)}
augment = {p: quick_jit(lambda keys, images, p=p: nonleaking.augment(keys, images, p)) for p in (0.0, 0.12, 1.0)}


def keys(first: int, count: int):
    return example_keys(root_key(0), positions(first, count))


def geometry(**fields) -> Geometry:
    """Transformations of as many images as there are numbers; fields that are not named are 0."""
    count = len(next(iter(fields.values())))
    zero = Geometry(*[jnp.zeros(count)] * len(Geometry._fields))
    return zero._replace(**{name: jnp.asarray(value, jnp.float32) for name, value in fields.items()})


def noise(count: int, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, height, width, 2)).astype(np.float32)


@pytest.mark.parametrize("shape", [(8, 12), (2, 2), (1, 3)])
def test_resampling_nothing_returns_the_image(shape):
    """White noise, the worst there is: up and down again are inverse to rounding."""
    images = noise(2, *shape)
    resample = quick_jit(lambda x: warp(x, *inverse(geometry(scale=[0, 0]), *shape)))
    np.testing.assert_allclose(resample(images), images, atol=1e-6)


def test_flips_alone_are_exact_mirrors():
    images = noise(4, 8, 8)
    flipped = transform(images, geometry(flip_x=[0, 1, 0, 1], flip_y=[0, 0, 1, 1]))
    for ours, mirror in zip(flipped, (images[0], images[1][:, ::-1], images[2][::-1], images[3][::-1, ::-1])):
        np.testing.assert_array_equal(ours, mirror)


def test_whole_pixels_of_translation_are_exact_with_borders_reflected():
    """Label 1 is an eighth of the size, 4 pixels of 32 and 2 of 16: three such go right, five up, many around again."""
    images, size = noise(2, 16, SIZE), np.array([16, SIZE])
    g = geometry(shift_x=[3, -20], shift_y=[-5, 1])
    for ours, image, x, y in zip(transform(images, g), images, g.shift_x, g.shift_y):
        down, right = np.array([y, x], int) * size // 8
        around = [(abs(down), abs(down)), (abs(right), abs(right)), (0, 0)]
        padded = np.pad(image, around, mode="reflect")
        expected = padded[abs(down) - down :, abs(right) - right :][:16, :SIZE]
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_are_numpys(quarter):
    """Of white noise, whose neighbours differ by 6: cos(pi/2) in float32 is off by 4e-8 and looks beside the pixel."""
    images = noise(4, 8, 8)
    turned = transform(images, geometry(angle=[quarter * np.pi / 2] * 4))
    np.testing.assert_allclose(turned, np.rot90(images, quarter, (1, 2)), atol=5e-5)


WAVES = [(3, 2, 0.5), (8, 0, 0.3), (1, 7, 0.4), (5, 5, -0.2)]
"""Half periods along x, along y, amplitude: cosines that continue by reflection; the shortest has 8 pixels' period."""


def smooth(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A band-limited image as a function of the pixel coordinates, from 0 to SIZE - 1, and anywhere else."""
    k = np.pi / (SIZE - 1)
    return sum(a * np.cos(k * p * x) * np.cos(k * q * y) for p, q, a in WAVES)


def source(label: np.ndarray, sign: float) -> tuple[np.ndarray, np.ndarray]:
    """Where the transformed image's pixels come from, from its nine labels alone: written once more, in numpy.

    A stretch's labels do not tell its sign, which is given.
    """
    flip_x, flip_y, scale, cosine, sine, along_x, along_y, shift_x, shift_y = np.asarray(label, np.float64)
    centre = (SIZE - 1) / 2
    row, column = np.mgrid[:SIZE, :SIZE]
    p = np.stack([column - centre - SIZE / 8 * shift_x, row - centre - SIZE / 8 * shift_y])
    line = sign * np.array([along_x, along_y])
    length = np.hypot(*line)
    if length:
        unit = sign * line / length
        along = np.einsum("i,ijk->jk", unit, p)
        parallel = unit[:, None, None] * along
        p = parallel * 2 ** (-0.2 * sign * length) + (p - parallel) * 2 ** (0.2 * sign * length)
    # Counter-clockwise by the angle as one looks at it, y downwards; undone.
    p = np.stack([(1 + cosine) * p[0] - sine * p[1], sine * p[0] + (1 + cosine) * p[1]])
    p = p * 2 ** (-0.2 * scale) * np.array([1 - 2 * flip_x, 1 - 2 * flip_y])[:, None, None]
    return p[0] + centre, p[1] + centre


def test_random_transformations_of_a_smooth_image_are_the_formulas():
    """All at once, 32 of them, borders included, each by its labels.

    Bilinear interpolation half a pixel apart is off by at most (|f_xx| + |f_yy|) / 32; the filters that go with it are
    exact to degree five.
    """
    count = 32
    row, column = np.mgrid[:SIZE, :SIZE]
    images = np.broadcast_to(smooth(column, row)[None, :, :, None], (count, SIZE, SIZE, 1)).astype(np.float32)
    g = draw[1.0](keys(0, count))
    ours, labels = np.asarray(transform(images, g))[..., 0], np.asarray(g.labels())
    bound = sum(abs(a) * (p**2 + q**2) for p, q, a in WAVES) * (np.pi / (SIZE - 1)) ** 2 / 32
    for image, label, stretch, scale in zip(ours, labels, g.stretch, g.scale):
        error = image - smooth(*source(label, np.sign(stretch)))
        # Where the image shrinks much, its waves come near the output's Nyquist frequency and are meant to fade.
        if scale > -1 and abs(stretch) < 1.5:
            assert np.abs(error).max() < bound
            assert np.sqrt((error**2).mean()) < bound / 3


def test_shrinking_does_not_alias():
    """A wave of 0.45 cycles per pixel, shrunk by 1.5, is beyond what pixels can hold: it goes, where plain sampling
    would turn it into one of 0.325 cycles."""
    column = np.mgrid[:64, :64][1]
    image = np.cos(2 * np.pi * 0.45 * column).astype(np.float32)[None, :, :, None]
    shrunk = np.asarray(transform(image, geometry(scale=[-np.log2(1.5) / 0.2])))[0, :, 16:48, 0]
    assert shrunk.std() < 0.15 * image.std()


def test_constant_images_stay_constant():
    images = np.full((16, 8, 8, 2), 0.7, np.float32)
    np.testing.assert_allclose(augment[1.0](keys(0, 16), images)[0], images, atol=1e-6)


def test_probability_zero_changes_no_bit_and_tells_nothing():
    images = noise(16, 8, 8)
    same, labels = augment[0.0](keys(0, 16), images)
    np.testing.assert_array_equal(same, images)
    np.testing.assert_array_equal(labels, np.zeros((16, 9)))


def test_images_left_alone_but_for_a_flip_keep_their_pixels():
    images = noise(64, 8, 8)
    ours, labels = (np.asarray(v) for v in augment[0.12](keys(0, 64), images))
    alone = (labels[:, 1:] == 0).all(1)
    flipped = np.where(labels[:, :1, None, None] > 0, images[:, :, ::-1], images)
    assert 20 < alone.sum() < 50
    np.testing.assert_array_equal(ours[alone], flipped[alone])
    assert (np.abs(ours - flipped).max((1, 2, 3))[~alone] > 1e-3).all()


def test_the_laws_are_the_papers():
    """Each kind of transformation happens to a share p of 20,000 examples, independently, with its own parameters.

    A stretch is along x for every second image, along any axis for the others.
    """
    n, p = 20_000, 0.12
    g = jax.tree.map(np.asarray, draw[p](keys(0, n)))
    labels = np.asarray(g.labels())
    happens = np.column_stack([labels[:, [0, 1, 2, 4, 5, 7]], g.axis]) != 0
    expected = np.array([0.5, p / 2, p, p, p, p, 0.5])
    np.testing.assert_array_less(np.abs(happens.mean(0) - expected), 4.5 * np.sqrt(expected * (1 - expected) / n))
    correlation = np.corrcoef(happens.T) - np.eye(7)
    assert np.abs(correlation).max() < 4.5 / np.sqrt(n)
    np.testing.assert_array_equal(happens[:, 5], labels[:, 8] != 0)
    for value in (g.scale, g.stretch, g.shift_x, g.shift_y):
        drawn = value[value != 0]
        assert abs(drawn.mean()) < 4.5 / np.sqrt(len(drawn))
        np.testing.assert_allclose(drawn.std(), 1, atol=4.5 / np.sqrt(2 * len(drawn)))
    for value in (g.angle[g.angle != 0], g.axis[g.axis != 0]):
        assert np.abs(value).max() <= np.pi
        np.testing.assert_allclose(value.std(), np.pi / np.sqrt(3), rtol=0.05)


def test_labels_by_hand():
    g = geometry(
        flip_x=[1, 0], flip_y=[0, 1], scale=[0.5, -1], angle=[np.pi / 2, 0], stretch=[2, 0], axis=[np.pi / 6, 1],
        shift_x=[0, 0.3], shift_y=[-0.7, 0],
    )  # fmt: skip
    expected = [[1, 0, 0.5, -1, 1, 3**0.5, 1, 0, -0.7], [0, 1, -1, 0, 0, 0, 0, 0.3, 0]]
    np.testing.assert_allclose(g.labels(), expected, atol=1e-6)


def test_each_example_is_a_function_of_its_own_key():
    images = noise(16, 8, 8)
    run = augment[1.0]
    whole, labels = run(keys(0, 16), images)
    part, part_labels = run(keys(3, 2), images[3:5])
    np.testing.assert_array_equal(part_labels, labels[3:5])
    np.testing.assert_allclose(part, whole[3:5], atol=1e-5)
    order = np.arange(16)[::-1]
    np.testing.assert_array_equal(run(keys(0, 16)[order], images[order])[0], whole[order])
