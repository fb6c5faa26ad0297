"""RMIA against a loop over targets, examples and population points."""

import numpy as np
from attack_studies import banded, covered, holds, noisy, over_studies, repeated
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses

from unlearn_jax.metrics.rmia import rmia

QUICK = settings(max_examples=40, deadline=None, database=None, derandomize=True)


def slow_rmia(p_x, p_z, out_x, out_z, unseen_x, unseen_z, in_x, seen_x, gamma, a, variant, strict, scale_z):
    shares = np.full(p_x.shape, np.nan)
    chosen = lambda p, mask, i: [p[r, i] for r in range(len(p)) if mask[r, i]]
    for t, i in np.ndindex(p_x.shape):
        out = chosen(out_x, unseen_x, i)
        inside = chosen(in_x, seen_x, i)
        if not out or (variant == "online" and not inside):
            continue
        prior = ((1 + a) * np.mean(out) + 1 - a) / 2
        if variant == "online":
            prior = (np.mean(inside) + np.mean(out)) / 2
        beaten, count = 0, 0
        for j in range(p_z.shape[1]):
            others = chosen(out_z, unseen_z, j)
            if not others:
                continue
            at_large = ((1 + a) * np.mean(others) + 1 - a) / 2 if scale_z else np.mean(others)
            ratio = (p_x[t, i] / prior) / (p_z[t, j] / at_large)
            beaten += ratio > gamma if strict else ratio >= gamma
            count += 1
        shares[t, i] = beaten / count if count else np.nan
    return shares


@QUICK
@given(st.integers(0, 10**6), st.booleans(), st.booleans(), st.sampled_from([0.5, 1.0, 2.0]), st.booleans())
def test_rmia_equals_its_transcription(seed, online, strict, gamma, scale_z):
    rng = np.random.default_rng(seed)
    n, m = rng.integers(1, 5), rng.integers(1, 6)
    p_x, p_z, out_x, out_z = (rng.uniform(0.01, 1, s) for s in ((2, n), (2, m), (4, n), (3, m)))
    in_x, variant = rng.uniform(0.01, 1, (5, n)), "online" if online else "offline"
    masks = [rng.random(p.shape) < 0.6 for p in (out_x, out_z, in_x)]
    found = rmia(
        p_x, p_z, out_x=out_x, out_z=out_z, unseen_x=masks[0], unseen_z=masks[1], in_x=in_x, seen_x=masks[2],
        gamma=gamma, a=0.3, variant=variant, strict=strict, scale_z=scale_z,
    )  # fmt: skip
    slow = slow_rmia(p_x, p_z, out_x, out_z, *masks[:2], in_x, masks[2], gamma, 0.3, variant, strict, scale_z)
    np.testing.assert_allclose(found, slow)


def test_closed_forms():
    flat = {"out_x": np.full((3, 1), 0.5), "out_z": np.full((3, 4), 0.5)}
    z = [[0.1, 0.2, 0.4, 0.8]]
    assert rmia([[0.5]], z, **flat, a=1.0).tolist() == [[0.5]]  # .1 and .2 are less than .25
    assert rmia([[0.5]], z, **flat, a=0.0).tolist() == [[0.25]]  # Pr(x) = .75: .1 alone is less than 1 / 6
    online = rmia([[0.5]], z, **flat, in_x=[[1.0]], variant="online")  # Pr(x) = .75 too
    assert online.tolist() == [[0.25]]
    flat = {"out_x": np.full((2, 3), 0.5), "out_z": np.full((2, 5), 0.5), "a": 1.0, "gamma": 1.0}
    half = np.full((1, 3), 0.25), np.full((1, 5), 0.25)
    assert rmia(*half, **flat).tolist() == [[0.0] * 3]
    assert rmia(*half, **flat, strict=False).tolist() == [[1.0] * 3]
    out = np.array([[0.9, 0.1], [0.1, 0.9], [0.1, 0.1]])
    unseen = out < 0.5  # those that have seen it are sure of it
    apart = rmia([[0.15, 0.15]], [[0.3, 0.3]], out_x=out, out_z=np.full((1, 2), 0.3), unseen_x=unseen, a=1.0, gamma=1.2)
    together = rmia([[0.15, 0.15]], [[0.3, 0.3]], out_x=out, out_z=np.full((1, 2), 0.3), a=1.0, gamma=1.2)
    assert apart.tolist() == [[1.0, 1.0]] and together.tolist() == [[0.0, 0.0]]
    rest = {"out_x": [[0.0, 0.5]], "out_z": [[0.0, 0.5]]}
    found = rmia([[0.0, 1.0]], [[0.0, 0.0]], **rest, a=1.0)
    assert found.tolist() == [[0.0, 1.0]]  # nothing is more than nothing; anything is
    assert rmia([[1.0, 1e-320]], [[5e-324, 1.0]], **rest, a=1.0, gamma=1e9).tolist() == [[1.0, 0.0]]


def test_odd_input():
    rng = np.random.default_rng(0)
    p_x, p_z, out_x, out_z = (rng.random(s) for s in ((2, 3), (2, 6), (4, 3), (4, 6)))
    found = rmia(p_x, p_z, out_x=out_x, out_z=out_z)
    gone = np.vstack([out_x, np.full((1, 3), np.nan)]), np.vstack([out_z, np.full((1, 6), np.nan)])
    np.testing.assert_array_equal(rmia(p_x, p_z, out_x=gone[0], out_z=gone[1]), found)
    for spoiled in ((np.where([[True], [False]], np.nan, p_x), p_z), (p_x, np.where([[True], [False]], np.nan, p_z))):
        scores = rmia(*spoiled, out_x=out_x, out_z=out_z)
        assert np.isnan(scores[0]).all() and np.array_equal(scores[1], found[1])
    part = p_x.copy()
    part[0, 1] = np.nan
    assert np.isnan(rmia(part, p_z, out_x=out_x, out_z=out_z)).tolist() == [[True] * 3, [False] * 3]
    none = rmia(p_x, p_z, out_x=out_x, out_z=out_z, unseen_x=np.ones((4, 3), bool) & [True, False, True])
    assert np.isnan(none).tolist() == [[False, True, False]] * 2
    assert np.isnan(rmia(p_x, p_z, out_x=out_x, out_z=out_z * np.nan)).all()
    assert np.isfinite(rmia(p_x[:1], p_z[:1], out_x=out_x[:1], out_z=out_z[:1])).all()
    good = {"out_x": out_x, "out_z": out_z}
    for arguments, said in (
        ({"p_x": p_x + 1, "p_z": p_z, **good}, "probabilities in"),
        ({"p_x": p_x[:, :0], "p_z": p_z, **good}, "at least one of each"),
        ({"p_x": p_x[:1], "p_z": p_z, **good}, "same models"),
        ({"p_x": p_x, "p_z": p_z, "out_x": out_x[:, :2], "out_z": out_z}, "for 3 examples"),
        ({"p_x": p_x, "p_z": p_z, **good, "unseen_x": np.ones((4, 3))}, "True or False"),
        ({"p_x": p_x, "p_z": p_z, **good, "gamma": 0.0}, "above 0"),
        ({"p_x": p_x, "p_z": p_z, **good, "a": 1.5}, "a in"),
        ({"p_x": p_x, "p_z": p_z, **good, "variant": "online"}, "needs in_x"),
        ({"p_x": p_x, "p_z": p_z, **good, "variant": "paper"}, "choose one of"),
    ):
        refuses(said, rmia, **arguments)


@repeated(80, 300)
def test_intervals_and_bands_of_the_mean_share_hold(studies):
    rng, half = np.random.default_rng(1), lambda margins: 1 / (1 + np.exp(-margins))
    at_large = rng.normal(0, 1, (16, 40))  # population points, under models that all studies share
    seen_by = lambda members: half(at_large[np.arange(members) % 16] + 0.5)

    @over_studies
    def figure(u, r):
        found = rmia(half(u), seen_by(len(u)), out_x=half(r), out_z=seen_by(len(r)), a=0.5, gamma=1.0)
        return found.mean(axis=0)

    make = lambda studies: (noisy(rng, studies, 16, 12, rng.normal(1, 0.8, (studies, 12))), noisy(rng, studies, 16, 12))
    truth = figure(*make(3000)).mean()
    holds(covered(figure, make(studies), truth), studies)
    fresh = [noisy(rng, studies, 16, 12) for _ in range(2)]
    holds(banded(figure, noisy(rng, studies, 32, 12), fresh, splits=120), studies)
