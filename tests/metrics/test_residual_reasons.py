"""Why residuals are not identifiable: the reason that the user can mend comes first."""

import math

import pytest

from unlearn_jax.metrics.residual import LEAST_MEMBERS, why_unidentifiable


@pytest.mark.parametrize(
    ("members", "lost", "low", "band", "why"),
    [
        (1, 0, math.nan, math.nan, "few"),
        (2, 0, math.nan, 0.1, "few"),
        (LEAST_MEMBERS - 1, 0, 0.0, 9.0, "few"),
        (LEAST_MEMBERS, 0, 0.2, 0.1, "noise"),
        (LEAST_MEMBERS, 3, 5.0, 0.1, "lost"),
        (LEAST_MEMBERS, LEAST_MEMBERS, math.nan, math.nan, "lost"),
        (0, 0, 5.0, 0.1, "few"),
    ],
)
def test_the_reason(members, lost, low, band, why):
    assert why_unidentifiable(members, lost, low, band) == why
