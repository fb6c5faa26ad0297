"""Do intervals and null bands hold what they promise? Many synthetic studies with a known truth."""

import numpy as np
import pytest

from unlearn_jax.metrics import null_band, price, residual_distance, residual_influence

STUDIES, MEMBERS, TARGETS = 300, 24, 40
GAP, GAP_SPREAD, KEPT, KEPT_SPREAD = 8.0, 2.0, 0.6, 0.15  # of the targets at large
DISTANCE = np.sqrt(KEPT**2 + KEPT_SPREAD**2)  # root of E (kept gap)^2 / E gap^2


def study(rng):
    """Margins of an unlearned population, its original, its oracle and a second, independent oracle."""
    low = rng.normal(-2.0, 1.5, TARGETS)
    gap = rng.normal(GAP, GAP_SPREAD, TARGETS)
    kept = low + gap * rng.normal(KEPT, KEPT_SPREAD, TARGETS)
    noise = lambda: rng.normal(0, 0.8, (MEMBERS, 1)) + rng.normal(0, 0.8, (MEMBERS, TARGETS))
    start = noise()  # what a member that started from an original has of it
    return kept + start, low + gap + start, low + noise(), low + noise()


@pytest.fixture(scope="module")
def found():
    """Per study, whether each interval held its truth."""
    rng, rows = np.random.default_rng(0), []
    for number in range(STUDIES):
        u, full, none, fresh = study(rng)
        setting = {"seed": number, "resamples": 300}
        signed, distance = (f(u, full, none, **setting) for f in (residual_influence, residual_distance))
        cost = price(u, none, unit="margin", roles=("original", "oracle"), **setting)
        rows.append(
            {
                "signed": signed.ci_low <= KEPT <= signed.ci_high,
                "distance": distance.ci_low <= DISTANCE <= distance.ci_high,
                "price": cost.ci_low <= -KEPT * GAP <= cost.ci_high,
                "members only": signed.ci_members_low <= KEPT <= signed.ci_members_high,
                "band": abs(fresh.mean() - none.mean()) <= null_band(none),
            }
        )
    return {name: np.mean([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize("figure", ["signed", "distance", "price"])
def test_intervals_cover_the_truth(found, figure):
    assert 0.90 <= found[figure] <= 0.995


def test_members_alone_are_not_enough_because_targets_are_a_sample_too(found):
    assert found["members only"] < 0.8


def test_a_fresh_population_of_the_same_kind_falls_inside_the_null_band(found):
    assert 0.90 <= found["band"] <= 0.99


@pytest.mark.parametrize("blocks", [[4], [8], [32], [4, 4, 4, 4], [3, 16]])
def test_the_null_band_holds_at_every_size_and_over_blocks(blocks):
    rng, studies, inside = np.random.default_rng(1), 3000, 0
    spread = rng.uniform(0.5, 2.0, len(blocks))  # requests differ in how far members scatter
    for _ in range(studies):
        none, fresh = ([rng.normal(0, s, (n, 1)) * np.ones(3) for n, s in zip(blocks, spread)] for _ in range(2))
        inside += abs(np.mean([b.mean() for b in none]) - np.mean([b.mean() for b in fresh])) <= null_band(none)
    assert 0.93 <= inside / studies <= 0.965  # Welch and Satterthwaite are a little off for 3 beside 16
