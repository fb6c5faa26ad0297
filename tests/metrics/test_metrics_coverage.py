"""Do intervals and null bands hold what they promise? Many synthetic studies with a known truth."""

import numpy as np
import pytest
import toy
from attack_studies import holds, repeated

from unlearn_jax.metrics import (
    combine,
    mean_draws,
    mean_estimate,
    null_band,
    price,
    residual_distance,
    residual_influence,
)

GAP, GAP_SPREAD, KEPT, KEPT_SPREAD = 8.0, 2.0, 0.6, 0.15  # of the targets at large
DISTANCE = np.sqrt(KEPT**2 + KEPT_SPREAD**2)  # root of E (kept gap)^2 / E gap^2
LESS = 2.0  # nats that a second method keeps less
# members and targets of each request, requests, heavy tails
QUICK = [(8, 30, 1, False), (8, 1, 8, False)]
FULL = [(n, t, 1, False) for n in (8, 16, 32) for t in (5, 10, 30, 120)]
FULL += [
    (3, 30, 1, False),
    (4, 10, 1, False),
    (4, 4, 4, False),
    (8, 1, 8, False),
    (8, 10, 1, True),
    (8, 3, 6, False),
    (3, 5, 5, False),
    (4, 1, 16, False),
    (16, 30, 1, True),
]


def scatter(rng, shape, heavy):
    return rng.standard_t(4, shape) / np.sqrt(2) if heavy else rng.normal(0, 1, shape)


def study(rng, members, targets, heavy):
    low = -2.0 + 1.5 * scatter(rng, targets, heavy)
    gap = GAP + GAP_SPREAD * scatter(rng, targets, heavy)
    kept = low + gap * (KEPT + KEPT_SPREAD * scatter(rng, targets, heavy))
    noise = lambda: 0.8 * scatter(rng, (members, 1), heavy) + 0.8 * rng.normal(0, 1, (members, targets))
    start = noise()  # what a member that started from an original has of it
    less = kept + start - LESS + rng.normal(0, 1.0, targets) + rng.normal(0, 0.4, (members, targets))
    return kept + start, low + gap + start, low + noise(), less


def coverage(members, targets, requests, heavy, studies, resamples):
    rows = []
    for number in range(studies):
        rng = np.random.default_rng([members, targets, requests, heavy, number])
        u, full, none, less = zip(*(study(rng, members, targets, heavy) for _ in range(requests)))
        u, full, none, less, setting = list(u), list(full), list(none), list(less), {"resamples": resamples}
        setting["seed"] = number
        signed, distance = (f(u, full, none, **setting) for f in (residual_influence, residual_distance))
        cost = price(u, none, unit="margin", roles=("original", "oracle"), **setting)
        apart = combine(lambda a, b: a - b, mean_draws(u, **setting), mean_draws(less, **setting))
        truths = {"signed": KEPT, "distance": DISTANCE, "price": -KEPT * GAP, "difference": LESS}
        found = {"signed": signed, "distance": distance, "price": cost, "difference": apart}
        rows.append([found[name].ci_low <= truth <= found[name].ci_high for name, truth in truths.items()])
        rows[-1].append(signed.ci_members_low <= KEPT <= signed.ci_members_high)
    return dict(zip([*truths, "members only"], np.mean(rows, axis=0)))


@pytest.mark.parametrize(
    "case, studies", [*((c, 80) for c in QUICK), *(pytest.param(c, 1000, marks=pytest.mark.slow) for c in FULL)]
)
def test_intervals_cover_the_truth(case, studies):
    found = coverage(*case, studies=studies, resamples=max(200, studies))
    found.pop("members only")
    for share in found.values():
        holds(share, studies, 0.9, 0.99)


def test_members_alone_are_not_enough_because_targets_are_a_sample_too():
    assert coverage(24, 40, 1, False, 40, 100)["members only"] < 0.8


def right(rng, members, examples):
    odds = 4.6 + rng.normal(0, 0.3, (members, 1)) + rng.normal(0, 1.5, examples)
    return (rng.random((members, examples)) < 1 / (1 + np.exp(-odds))).astype(np.float64)


@repeated(80, 250)
@pytest.mark.parametrize("members, examples", [(16, 30), (8, 60)])
def test_an_accuracy_near_one_is_covered(members, examples, studies):
    truth = right(np.random.default_rng(0), 1000, 2000).mean()
    found = []
    for number in range(studies):
        data = right(np.random.default_rng([members, number]), members, examples)
        found.append(mean_estimate(data, seed=number, resamples=250))
    # right and wrong answers scatter for each member and example apart, which the two-way draws count thrice
    holds(np.mean([e.ci_low <= truth <= e.ci_high for e in found]), studies, high=0.995)
    assert max(e.ci_low for e in found) < 1.0


@pytest.mark.parametrize("blocks", toy.some([([4],), ([3, 16],), ([8],), ([32],), ([4, 4, 4, 4],)], 2))
def test_the_null_band_holds_at_every_size_and_over_blocks(blocks):
    rng, studies, inside = np.random.default_rng(1), 3000, 0
    spread = rng.uniform(0.5, 2.0, len(blocks))  # requests differ in how far members scatter
    for _ in range(studies):
        none, fresh = ([rng.normal(0, s, (n, 1)) * np.ones(3) for n, s in zip(blocks, spread)] for _ in range(2))
        inside += abs(np.mean([b.mean() for b in none]) - np.mean([b.mean() for b in fresh])) <= null_band(none)
    assert 0.93 <= inside / studies <= 0.965  # Welch and Satterthwaite are a little off for 3 beside 16
