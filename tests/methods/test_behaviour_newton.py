"""Newton steps: influence, Warnecke and others' two methods and WoodFisher, against dense solutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from oneshot import (
    ASKED,
    KEPT,
    WEIGHTS,
    K,
    batch,
    gauss_newton,
    gradients,
    keys,
    run,
    start,
    sum_of_gradients,
    weights_of,
)

from unlearn_jax.methods import woodfisher
from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.methods.support import newton
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.metrics.ridge import leave_out_leverage, retrain_residual, ridge_fit
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.run import Stored
from unlearn_jax.population.shuffle import slots
from unlearn_jax.types import Model, Outputs, Task

# --- Newton steps --------------------------------------------------------------------------------------------------

D, RIDGE = 5, 12.0  # inputs, penalty on the sum
PLAIN, COPIED = np.arange(20), np.r_[np.arange(17), 23, 24, 25]  # rows 23..25 are copies of the request, 20..22
LINES = [
    (PLAIN, [20, 21, 22]),
    (COPIED, [20, 21, 22]),
    (np.r_[np.arange(12), 23], [20]),
    (np.r_[:12, 23, 26, 27], [20]),
]


def regression_examples():
    """28 examples of a noisy line; rows 23..25 repeat 20..22, 26 and 27 repeat 20."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(28, D))
    y = x @ rng.normal(size=D) + rng.normal(size=28)
    y[20:23] += 3.0  # what is asked for is unlike the rest
    x[23:26], y[23:26] = x[20:23], y[20:23]
    x[26:], y[26:] = x[20], y[20]
    return x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64)


@functools.cache
def line():
    """Linear regression by squared error as a problem of the library."""

    def apply(own, x, key=None, train=False):
        layer = own["params"]["head"]
        return Outputs(x @ layer["kernel"] + layer["bias"][None], x), own["state"]

    def init(key, x):
        return {"params": {"head": {"kernel": jnp.zeros((D, 1)), "bias": jnp.zeros(1)}}, "state": {}}

    squared = lambda logits, b: 0.5 * (logits[:, 0] - b.targets) ** 2
    task = Task(squared, lambda z, b: -squared(z, b), lambda z, b: jnp.zeros_like(b.targets))
    return TrainSpec(Model(init, apply), task, jax.ShapeDtypeStruct((1, D), jnp.float32), 2, Recipe())


def fitted(rows):
    """(1 + D,) the exact minimum on some rows, bias first, which is penalised as well."""
    x, y = regression_examples()
    x = np.c_[np.ones(len(x)), x]
    return ridge_fit(x[rows], y[rows], np.ones(len(rows)), RIDGE)


@functools.cache
def removed(solver):
    """What `influence` makes of the four exact fits, (4, 1 + D)."""
    fits = np.stack([fitted(np.r_[kept, asked]) for kept, asked in LINES]).astype(np.float32)
    own = {"params": {"head": {"bias": fits[:, :1], "kernel": fits[:, 1:, None]}}, "state": {}}
    x, y = regression_examples()
    # the plan expects 40: a batch of 20 holds all of any member, and every other LiSSA batch is dead
    static = {"solver": solver, "batch": 20 if solver == "lissa" else 8, "steps": 500 if solver == "lissa" else 12}
    damping = np.float32([RIDGE / len(kept) for kept, _ in LINES])
    after = run(
        "influence", data=Stored(jnp.float32(x), jnp.float32(y)), own=own, kept=[np.asarray(k) for k, _ in LINES],
        asked=[np.asarray(a) for _, a in LINES], static=static, task=line, sizes=Sizes(3, 40), damping=damping,
        scale=6.0,
    )  # fmt: skip
    return np.stack([weights_of(after, i) for i in range(len(LINES))])


@pytest.mark.parametrize("solver", toy.some(newton.SOLVERS, 1))
def test_influence_is_exact_removal_on_ridge_regression(solver):
    for found, (kept, asked) in zip(removed(solver), LINES):
        assert np.abs(fitted(np.r_[kept, asked]) - fitted(kept)).max() > 0.02
        np.testing.assert_allclose(found, fitted(kept), rtol=0, atol=1e-5)


def test_influence_leaves_what_the_copies_that_stay_tell():
    x = np.c_[np.ones(28), regression_examples()[0]]
    for member, copies in ((2, 1), (3, 3)):
        kept, asked = LINES[member]
        predict = lambda weights: x[20] @ weights
        oracle, original = predict(fitted(np.arange(12))), predict(fitted(np.r_[kept, asked]))
        leverage = leave_out_leverage(x[np.r_[:12, 20]], 12, RIDGE)
        left = (predict(removed("cg")[member]) - oracle) / (original - oracle)
        assert left == pytest.approx(retrain_residual(copies, leverage), abs=1e-4) and left > 0.5


BENT, TILT = np.array([4.0, 4.0, -0.1]), np.array([1.0, 2.0, 1.0])  # curvature of R, gradient of F


@functools.cache
def saddle():
    """Three free weights; the retained loss is an indefinite parabola, the request's a plane."""
    return bent(tuple(BENT))


@functools.cache
def steep():
    """The same with a curvature of 40 that is never negative."""
    return bent((40.0, 4.0, 1.0))


def bent(curvature):
    """The problem of three free weights with given curvatures of the retained loss."""

    def apply(own, x, key=None, train=False):
        kernel = own["params"]["head"]["kernel"]
        return Outputs(kernel[None] + 0.0 * x, x), own["state"]

    def loss(z, b):
        return jnp.where(b.targets > 0, z @ jnp.float32(TILT), 0.5 * z**2 @ jnp.float32(curvature))

    init = lambda key, x: {"params": {"head": {"kernel": jnp.zeros(3)}}, "state": {}}
    task = Task(loss, loss, loss)
    return TrainSpec(Model(init, apply), task, jax.ShapeDtypeStruct((1, 3), jnp.float32), 2, Recipe())


def stepped(task, **given):
    """(3,) what `influence` adds to the three weights, from nought, for two requested and two retained examples."""
    own = {"params": {"head": {"kernel": np.zeros((1, 3), np.float32)}}, "state": {}}
    data = Stored(jnp.zeros((4, 3)), jnp.asarray([0, 0, 1, 1], jnp.int32))
    sets = {"kept": [np.arange(2)], "asked": [np.arange(2, 4)], "sizes": Sizes(2, 2)}
    static = {"curvature": "hessian", "steps": given.pop("steps"), "solver": given.pop("solver")}
    return weights_of(run("influence", data=data, own=own, task=task, static=static, damping=0.0, **sets, **given), 0)


def test_conjugate_gradients_stop_for_good_at_negative_curvature():
    for cut in (3, None):  # one iteration, all twelve
        found = stepped(saddle, steps=12, solver="cg", cut=cut)
        first_line = (TILT @ TILT) / (TILT @ (BENT * TILT)) * TILT  # the only direction of positive curvature taken
        np.testing.assert_allclose(found, first_line, rtol=1e-5)


@pytest.mark.parametrize("scale", toy.some([0.1, 6.0, 100.0], 1))
def test_lissa_converges_whatever_the_scale_that_is_given(scale):
    found = stepped(steep, steps=1500, solver="lissa", scale=scale)
    np.testing.assert_allclose(found, TILT / np.array([40.0, 4.0, 1.0]), rtol=1e-3)


def test_lissa_keeps_its_best_solution_where_negative_curvature_makes_it_diverge():
    steps, scale = 4000, 6.0  # (1 + .1 / 6)^4000 is beyond float32
    found = stepped(saddle, steps=steps, solver="lissa", scale=scale)
    x, best, least = np.zeros(3), np.zeros(3), np.inf
    for _ in range(steps):  # one batch is a pass
        gap = TILT - BENT * x
        x = x + gap / scale
        if gap @ gap <= min(least, TILT @ TILT):
            best, least = x, gap @ gap
    assert np.isfinite(found).all() and np.abs(x).max() > 1e20
    np.testing.assert_allclose(found, best, rtol=1e-2)
    assert np.abs(found[:2] - TILT[:2] / 4.0).max() < 0.1  # what can be solved is


# --- first and second order steps of a change of labels ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("change", ["relabel", "delete"])
def test_warneckes_first_step_is_tau_times_the_difference_of_gradients(change):
    after = run("warnecke_first", static={"change": change, "batch": 4}, tau=0.02)
    for member in (0, 1):
        truth = 0.02 * difference(member, "warnecke_first", change)
        assert np.abs(truth).max() > 0.02
        np.testing.assert_allclose(weights_of(after, member) - weights_of(start(), member), truth, rtol=1e-3, atol=2e-6)


@pytest.mark.slow
def test_warneckes_second_step_is_newtons_with_that_difference():
    damping, rate = 0.3, 0.7
    after = run("warnecke_second", static={"solver": "dense"}, damping=damping, rate=rate)
    for member in (0, 1):
        kept, change = KEPT[member], difference(member, "warnecke_second", "relabel")
        curve = gauss_newton(member, kept) / len(kept) + damping * np.eye(WEIGHTS)
        truth = rate * np.linalg.solve(curve, change) / len(kept)
        assert np.abs(truth).max() > 0.02
        np.testing.assert_allclose(weights_of(after, member) - weights_of(start(), member), truth, rtol=1e-3, atol=1e-5)


def difference(member, name, change):
    """(P,) sum over the request of grad l(old) - grad l(new), new labels by the member's key."""
    rows = ASKED[member]
    old = sum_of_gradients(member, rows)
    if change == "delete":
        return old
    labels = np.asarray(wrong_labels(jax.random.fold_in(keys(name)[member], 0), batch(rows), K, False))
    assert (labels != toy.examples()[1][rows]).all()
    return old - gradients(member, rows, labels).sum(axis=0)


# --- WoodFisher ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m, size", toy.some([(12, 20), (20, 12), (1, 5)], 1))
def test_the_inverse_is_the_dense_one_and_that_of_rank_one_updates(m, size):
    rng, damping = np.random.default_rng(m), 0.05
    rows, vector = rng.normal(size=(m, size)), rng.normal(size=size)
    found = woodfisher.inverse_times(jnp.float32(rows), damping, jnp.float32(vector), jnp.float32(m))
    dense = np.linalg.solve(damping * np.eye(size) + rows.T @ rows / m, vector)
    inverse = np.eye(size) / damping
    for g in rows:  # the published recursion
        inverse -= np.outer(inverse @ g, g @ inverse) / (m + g @ inverse @ g)
    np.testing.assert_allclose(inverse @ vector, dense, rtol=1e-9)
    np.testing.assert_allclose(found, dense, rtol=1e-4, atol=1e-4)


SAMPLES = 70  # more than anybody's examples, and not a number of whole batches


def sampled_rows(member):
    """Rows of the single examples: what the retained stream shows after its first pass of three batches of 16."""
    found = []
    for step in range(3, 3 + -(-SAMPLES // 16)):
        stream = jax.random.fold_in(jax.random.fold_in(keys("woodfisher")[member], 2), 0)
        at, live = _draw(stream, jnp.int32(step), 16, jnp.int32(len(KEPT[member])), jnp.int32(3))
        found.append(np.where(live, KEPT[member][np.asarray(at)], -1))
    rows = np.concatenate(found)[:SAMPLES]
    return rows[rows >= 0]


_draw = jax.jit(slots, static_argnums=2)


@pytest.mark.slow
def test_woodfisher_weighs_both_sets_and_takes_single_retained_examples():
    alpha, damping = 0.6, 0.05
    after = run("woodfisher", static={"samples": SAMPLES}, alpha=alpha, damping=damping)
    for member in (0, 1):
        kept, asked, before = KEPT[member], ASKED[member], weights_of(start(), member)
        rows = sampled_rows(member)  # a whole pass, with dead slots, and the first 22 slots of the next
        assert np.isin(rows, kept).all() and len(rows) == len(kept) + 22
        n, forgotten, retained = len(kept) + len(asked), len(asked), len(kept)
        forget, single = sum_of_gradients(member, asked), gradients(member, rows)
        change = forget / n - forgotten / (n * retained) * sum_of_gradients(member, kept)
        matrix = damping * np.eye(WEIGHTS) + single.T @ single / len(rows)
        truth = alpha * np.linalg.solve(matrix, change)
        np.testing.assert_allclose(weights_of(after, member) - before, truth, rtol=2e-3, atol=2e-5)
        public = alpha * np.linalg.solve(matrix, forget * (1 / n - forgotten / (n * retained)))
        assert np.abs(public - truth).max() > 0.01  # where the request's loader stood for the retained one
