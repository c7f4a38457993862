import numpy as np

from score_sde.evaluation.grain import grain, grainy


def smooth(count, seed=0):
    y, x = np.mgrid[0:16, 0:16] / 16
    phase = np.random.default_rng(seed).uniform(0, 6, count)
    waves = 127 + 100 * np.sin(2 * np.pi * (x + y)[None] + phase[:, None, None])
    return waves.round().astype(np.uint8)[..., None]


def test_a_single_bright_pixel_is_taken_away_and_an_edge_is_not():
    images = np.zeros((2, 8, 8, 1), np.uint8)
    images[0, 4, 4] = 80
    images[1, :, 4:] = 200
    np.testing.assert_allclose(grain(images), [10, 0])  # 80 / sqrt(64)


def test_noise_is_grain_and_channels_and_pictures_are_apart():
    images = smooth(4)
    noisy = images.astype(float) + np.random.default_rng(1).normal(0, 20, images.shape)
    assert (grain(noisy) > 3 * grain(images)).all()
    both = np.concatenate([images, np.full_like(images, 9)], -1)
    np.testing.assert_allclose(grain(both), grain(images) / np.sqrt(2))


def test_the_share_of_grainy_samples():
    real, clean = smooth(400), smooth(100, 1)
    noisy = np.clip(clean + np.random.default_rng(2).normal(0, 20, clean.shape), 0, 255).astype(np.uint8)
    share, error = grainy(np.concatenate([noisy[:25], clean[25:]]), real)
    assert 0.25 <= share <= 0.28
    np.testing.assert_allclose(error, np.sqrt(share * (1 - share) / 100), rtol=0.02)
    none, error = grainy(np.full((98, 16, 16, 1), 7, np.uint8), real)
    assert none == 0
    np.testing.assert_allclose(error, np.sqrt(99 / 101) / 100, rtol=1e-6)  # Beta(1, 99)'s standard deviation
