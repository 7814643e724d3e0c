"""The line fitted through a soak's samples."""

import random

import pytest

from bench.proxy.slope import fit


def test_points_on_a_line_give_its_slope_without_error() -> None:
    assert fit([(x, 3 * x + 7) for x in range(10)]) == pytest.approx((3, 0))


def test_noise_around_a_level_is_no_slope_beyond_its_error() -> None:
    rng = random.Random(5)
    found = fit([(x, 100 + rng.gauss(0, 10)) for x in range(200)])
    assert abs(found.value) < 3 * found.error


def test_the_error_is_that_of_the_textbook() -> None:
    # By hand: means 2 and 7/3, Sxx 2, Sxy 1, slope 0.5; residuals -5/6+... square to 1/6, over one degree of freedom.
    found = fit([(1, 2), (2, 2), (3, 3)])
    assert found.value == pytest.approx(0.5)
    assert found.error == pytest.approx((1 / 6 / 2) ** 0.5)


@pytest.mark.parametrize("points", [[], [(1, 1), (2, 2)], [(1, 1), (1, 2), (1, 3)]])
def test_points_that_have_no_slope_with_an_error_are_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="points"):
        fit(points)
