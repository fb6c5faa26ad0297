"""The relative three-sample test: stakes in closed form, false alarms whenever one looks, and power."""

import numpy as np
import pytest

from unlearn_jax.errors import InputError
from unlearn_jax.metrics.relative import relative_test


def stakes_of(gain, members):
    """The stake after each member where all but the first gain the same, worked out one by one."""
    total, square, stake, out = 0.25, 0.5, 1.0, []
    for at in range(members):
        bet = min(max(total / square, 0.0), 0.9)
        this = gain if at else 0.0
        stake *= 1 + bet * this
        total, square = total + this, square + this**2
        out.append(stake)
    return np.asarray(out)


@pytest.mark.parametrize("residual", [0.0, 0.2, 0.8, 0.95, 1.0, 1.5])
def test_populations_without_noise_have_stakes_in_closed_form(residual):
    original, reference = np.full((12, 5), 4.0), np.full((12, 5), 1.0)
    found = relative_test(original * residual + reference * (1 - residual), reference, original)
    assert found.stakes == pytest.approx(stakes_of(np.clip(1 - residual - 0.1, -1, 1), 12), rel=1e-9)
    assert found.nearer == (residual <= 0.2) and found.e_value == found.stakes[-1]
    assert found.decided is None or found.stakes[found.decided - 1] >= 20 > found.stakes[: found.decided - 1].max()


def study(rng, residual, members=16, examples=20, signal=1.0):
    """Unlearned, reference and original margins."""
    base, way = rng.normal(8, 1, examples), rng.normal(signal, 0.3, examples)
    draw = lambda mean: mean + rng.normal(0, 1, (members, examples))
    return draw(base - way * (1 - residual)), draw(base - way), draw(base)


@pytest.mark.parametrize(("kernel", "trials", "members"), [("margins", 200, 64), ("gaussian", 20, 16)])
def test_false_alarms_are_few_whenever_one_looks(kernel, trials, members):
    rng = np.random.default_rng(0)
    alarms = sum(relative_test(*study(rng, 1.0, members), kernel=kernel).nearer for _ in range(trials))
    assert alarms <= 0.05 * trials + 2 * np.sqrt(0.05 * 0.95 * trials)


def test_without_any_share_that_does_not_count_false_alarms_are_few_too():
    rng = np.random.default_rng(1)
    alarms = sum(relative_test(*study(rng, 1.0, 40), least=0.0).nearer for _ in range(200))
    assert alarms <= 16  # 10 are expected at most; binomial, one in forty is above 16


@pytest.mark.parametrize("kernel", ["margins", "gaussian"])
def test_a_residual_of_a_fifth_is_found_with_sixteen_members(kernel):
    rng = np.random.default_rng(2)
    assert sum(relative_test(*study(rng, 0.2), kernel=kernel).nearer for _ in range(20)) >= 18


def test_more_than_means_are_seen_by_a_kernel():
    rng = np.random.default_rng(3)
    draw = lambda spread: spread * rng.choice([-1.0, 1.0], (40, 1)) + rng.normal(0, 0.3, (40, 4))
    unlearned, reference, original = draw(3.0), draw(3.0), draw(0.0)
    assert relative_test(unlearned, reference, original, kernel="gaussian").nearer
    assert not relative_test(unlearned, reference, original).nearer


def test_a_farther_population_is_never_nearer():
    rng = np.random.default_rng(4)
    assert not any(relative_test(*study(rng, 1.5, 40)).nearer for _ in range(50))


def test_requests_follow_one_another_and_broken_members_are_passed_over():
    rng = np.random.default_rng(5)
    one, two = study(rng, 0.5), study(rng, 0.5, examples=7)
    both = relative_test(*zip(one, two))
    assert both.members == 32 and both.stakes[:16] == pytest.approx(relative_test(*one).stakes)
    broken = [np.insert(values, 3, np.nan, axis=0) for values in one]
    assert relative_test(*broken).stakes == pytest.approx(relative_test(*one).stakes)


def test_nothing_is_concluded_of_nobody():
    empty = np.zeros((0, 3))
    found = relative_test(empty, empty, empty)
    assert np.isnan([found.e_value, found.p_value]).all() and (found.nearer, found.members) == (False, 0)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (([np.zeros((3, 4))], [np.zeros((3, 4))], [np.zeros((3, 5))]), "examples"),
        ((np.zeros(3), np.zeros(3), np.zeros(3)), "members, examples"),
        (([], [], []), "members, examples"),
    ],
)
def test_populations_that_do_not_fit_are_refused(given, named):
    with pytest.raises(InputError, match=named):
        relative_test(*given)


def test_an_unknown_kernel_is_refused():
    with pytest.raises(InputError, match="kernel"):
        relative_test(*[np.zeros((3, 4))] * 3, kernel="linear")
