"""Pictures of point sets: a disc where a point is, nothing where there is none."""

import numpy as np

from score_sde.storage.scatter import COLOURS, RADIUS, SIDE, extent, scatter


def test_a_disc_where_a_point_is():
    """To the right and up, in the colour of the largest feature, of the area of a disc."""
    x = np.array(
        [[[1.0, 0.0, 0.0, 1.0], [-1.0, 0.0, 1.0, 0.0], [np.nan] * 4], [[1.0, 1.0, 1.0, 0.0]] + [[np.nan] * 4] * 2]
    )
    first, second = scatter(x, 2, reach=2.0)
    assert first.shape == (SIDE, SIDE, 3) and first.dtype == np.uint8
    middle, quarter = SIDE // 2, SIDE // 4
    blue, orange = (np.round(255 + 0.75 * (c - 255)) for c in COLOURS[:2])
    np.testing.assert_array_equal(first[middle, 3 * quarter], orange)
    np.testing.assert_array_equal(first[middle, quarter], blue)
    covered = (
        (255 - first.astype(float)) / (255 - np.where(np.arange(SIDE)[None, :, None] < middle, blue, orange))
    ).mean(-1)
    assert abs(covered.sum() / (2 * np.pi * RADIUS**2) - 1) < 0.03
    np.testing.assert_array_equal(second[middle, middle], blue)  # a set of one point is in the middle


def test_nearer_points_are_larger_and_in_front():
    x = np.array([[[0.0, 0.0, 1.0], [0.0, 0.0, -1.0]]])
    (picture,) = scatter(x, 3, reach=1.0)
    np.testing.assert_array_equal(picture[SIDE // 2, SIDE // 2], COLOURS[0])
    area = lambda z: (scatter(np.array([[[0.0, 0, z], [0, 0, -z], [9, 9, 0], [-9, -9, 0]]]), 3, reach=1.0) < 250).sum()
    assert area(1.0) > area(0.0)


def test_all_points_fit_in():
    x = np.random.default_rng(0).normal(3, 2, (20, 7, 2))
    x[:, 5] = np.nan
    assert (scatter(x, 2)[:, [0, -1]] == 255).all() and (scatter(x, 2)[:, :, [0, -1]] == 255).all()
    assert extent(np.full((2, 3, 2), np.nan), 2) == 1.0
    assert (scatter(np.full((2, 3, 2), np.nan), 2) == 255).all()
