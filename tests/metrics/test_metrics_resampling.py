"""Half draws, t intervals and split bands against what they must be for means, where all is known."""

import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.resampling import half_draws, half_draws_pooled, split_band, t_estimate


def mean_gap(u, none):
    """Per-example difference of mean margins."""
    return u.mean(axis=0) - none.mean(axis=0)


def noisy(rng, members, examples, mean=0.0):
    """A population whose members and examples scatter."""
    return mean + rng.normal(0, 0.7, (members, 1)) + rng.normal(0, 1, (members, examples))


def test_the_spread_over_halves_is_the_standard_error_of_a_mean():
    u, none = (noisy(np.random.default_rng(s), 12, 5) for s in (0, 1))
    draws = half_draws(mean_gap, u, none, resamples=4000)
    expected = sum(x.mean(axis=1).var(ddof=1) / 12 for x in (u, none))
    assert draws.members.var() == pytest.approx(expected, rel=0.06)
    by_examples = mean_gap(u, none).var(ddof=1) / 5
    assert draws.both.var() == pytest.approx(expected + by_examples, rel=0.06)
    assert draws.members.mean() == pytest.approx(draws.value) and draws.n == 12 and draws.clusters == 5


def test_pooled_draws_of_a_mean_are_those_of_the_per_example_kind():
    u, none = (noisy(np.random.default_rng(s), 9, 6) for s in (2, 3))
    groups = np.array([0, 0, 1, 1, 2, 2])
    one = half_draws(mean_gap, u, none, clusters=groups)
    other = half_draws_pooled(lambda a, b: mean_gap(a, b).mean(), u, none, clusters={"examples": groups})
    np.testing.assert_allclose(one.both, other.both)
    np.testing.assert_allclose(one.members, other.members)
    assert one.clusters == other.clusters == 3


def test_populations_of_one_role_draw_the_same_members():
    u = noisy(np.random.default_rng(4), 10, 4)
    draws = half_draws(mean_gap, u, u + 1.0, roles=("original", "original"))
    np.testing.assert_allclose(draws.members, -1.0)
    assert half_draws(mean_gap, u, u + 1.0).members.std() > 0.1


def test_populations_of_other_examples_draw_their_own():
    one, other = (noisy(np.random.default_rng(s), 8, n) for s, n in ((5, 4), (6, 7)))
    draws = half_draws_pooled(lambda a, b: a.mean() - b.mean(), one, other, examples=("forget", "test"))
    assert np.isfinite(draws.both).all() and draws.clusters == 4


@pytest.mark.parametrize("members, examples", [(6, 40), (32, 12), (9, 9)])
def test_t_intervals_hold_their_truth(members, examples):
    """200 studies; a mean gap of .5 of members and examples at large."""
    held = 0
    for study in range(200):
        rng = np.random.default_rng([members, study])
        pull = rng.normal(0.5, 0.6, examples)
        u, none = noisy(rng, members, examples, pull), noisy(rng, members, examples)
        found = t_estimate(half_draws(mean_gap, u, none, seed=study, resamples=100))
        held += found.ci_low <= 0.5 <= found.ci_high
    assert 0.91 <= held / 200 <= 0.98


def test_bands_from_an_oracle_of_twice_the_size_hold_fresh_populations():
    """200 studies; the band of 8 + 8 members, the mean over examples of a squared gap."""
    squared = lambda a, b: float((mean_gap(a, b) ** 2).mean())
    held = []
    for study in range(200):
        rng = np.random.default_rng([1, study])
        oracle, fresh = noisy(rng, 16, 10), noisy(rng, 8, 10)
        signed, distance = split_band(lambda a, b: mean_gap(a, b).mean(), oracle), split_band(squared, oracle, sides=1)
        held.append([signed.low <= mean_gap(fresh, oracle[:8]).mean() <= signed.high])
        held[-1].append(squared(fresh, oracle[:8]) <= distance.high)
        assert distance.low <= distance.mean <= distance.high
    assert all(0.91 <= share <= 0.98 for share in np.mean(held, axis=0)), np.mean(held, axis=0)


def test_intervals_stay_within_the_range_and_one_member_tells_no_spread():
    u = noisy(np.random.default_rng(7), 6, 4)
    found = t_estimate(half_draws(mean_gap, u, u + 1.0), low=-1.2, high=-0.9)
    assert found.ci_low == -1.2 and found.ci_high == -0.9
    alone = t_estimate(half_draws(mean_gap, u[:1], u[1:2]))
    assert np.isnan([alone.ci_members_low, alone.ci_members_high]).all() and np.isfinite(alone.ci_low)


def test_an_oracle_that_cannot_be_split_is_refused():
    with pytest.raises(InputError, match="no two parts of 5"):
        split_band(lambda a, b: 0.0, np.zeros((8, 2)), members=5)
    with pytest.raises(InputError, match="no two parts of 1"):
        split_band(lambda a, b: 0.0, np.zeros((1, 2)))
