"""Why residuals are not identifiable: the reason that the user can mend comes first."""

import math

import pytest

from unlearn_jax.metrics.residual import MIN_MEMBERS, why_unidentifiable


@pytest.mark.parametrize(
    ("members", "lost", "low", "band", "why"),
    [
        (1, 0, math.nan, math.nan, "few"),
        (2, 0, math.nan, 0.1, "few"),
        (MIN_MEMBERS - 1, 0, 0.0, 9.0, "few"),
        (MIN_MEMBERS, 0, 0.2, 0.1, "noise"),
        (MIN_MEMBERS, 3, 5.0, 0.1, "lost"),
        (MIN_MEMBERS, MIN_MEMBERS, math.nan, math.nan, "lost"),
        (0, 0, 5.0, 0.1, "few"),
    ],
)
def test_the_reason(members, lost, low, band, why):
    assert why_unidentifiable(members, lost, low, band) == why
