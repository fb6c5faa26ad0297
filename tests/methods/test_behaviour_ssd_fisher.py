"""Dampening and noise by importance: SSD, LFSSD and Fisher forgetting, against single examples by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from jax.flatten_util import ravel_pytree
from oneshot import (
    ALL,
    ASKED,
    KEPT,
    WEIGHTS,
    WIDTH,
    K,
    batch,
    examples,
    forward,
    gradients,
    jacobian,
    probabilities,
    problem,
    run,
    start,
    variables,
    weights_of,
)
from steps import flat

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, fisher, ssd
from unlearn_jax.population.plans import Sizes
from unlearn_jax.studies.config import StudyConfig
from unlearn_jax.studies.resolve import resolve
from unlearn_jax.studies.setup import prepare_study

# --- SSD -----------------------------------------------------------------------------------------------------------


def dampening(w, forget, full, alpha, scale):
    """Equation 4 of the paper, a weight at a time."""
    found = w.copy()
    for i in range(len(w)):
        if forget[i] > alpha * full[i]:
            found[i] *= min(scale * full[i] / forget[i], 1.0)
    return found


def dampened_by(member, importance, alpha, scale, everything=True):
    """Weights that importances (n, P) of all rows give; D is F and R, or R alone."""
    forget, retain = importance[ASKED[member]], importance[KEPT[member]]
    full = np.concatenate([forget, retain]) if everything else retain
    return dampening(weights_of(start(), member), forget.mean(axis=0), full.mean(axis=0), alpha, scale)


CHOICE = dict(alpha=1.3, scale=0.8)


@pytest.mark.parametrize("size", toy.some([7, 16], 1))
def test_ssd_dampens_by_squared_gradients_of_single_examples_in_batches_of_any_size(size):
    after = run("ssd", static={"batch": size, "micro": 4}, **CHOICE)
    for member in (0, 1):
        squares, before = gradients(member, ALL) ** 2, weights_of(start(), member)
        truth = dampened_by(member, squares, **CHOICE)
        changed = truth != before
        assert 3 < changed.sum() < WEIGHTS - 3
        np.testing.assert_allclose(weights_of(after, member), truth, rtol=2e-4, atol=1e-6)
        np.testing.assert_array_equal(weights_of(after, member)[~changed], before[~changed])
        without_request = dampened_by(member, squares, **CHOICE, everything=False)
        assert np.abs(truth - without_request).max() > 0.01  # D is all data, the request included


@pytest.mark.slow
def test_ssd_is_not_the_public_codes_square_of_batch_means():
    after = run("ssd", static={"batch": 16, "micro": 4}, **CHOICE)
    for member in (0, 1):
        means = []
        for rows in (ASKED[member], KEPT[member], np.concatenate([ASKED[member], KEPT[member]])):
            batches = np.array_split(gradients(member, rows), -(-len(rows) // 16))
            means.append(np.mean([b.mean(axis=0) ** 2 for b in batches], axis=0))
        public = dampening(weights_of(start(), member), means[0], means[2], **CHOICE)
        assert np.abs(public - weights_of(after, member)).max() > 0.05


def test_dampening_is_bounded_and_leaves_weights_without_importance():
    forget, full = np.array([0.0, 1.0, 4.0, 4.0, 0.0, 3.0]), np.array([0.0, 1.0, 1.0, 0.0, 2.0, 1.0])
    for alpha, scale in ((1.0, 1.0), (2.0, 0.5), (2.0, 5.0), (10.0, 1.0)):
        one = {"w": jnp.asarray([1.0, -2.0, 3.0, -4.0, 5.0, 6.0])}
        found = ssd.dampened(one, {"w": jnp.float32(forget)}, {"w": jnp.float32(full)}, alpha, scale)["w"]
        np.testing.assert_allclose(found, dampening(np.asarray(one["w"]), forget, full, alpha, scale), rtol=1e-6)
        assert (np.abs(found) <= np.abs(one["w"])).all()


@pytest.mark.parametrize("name", toy.some(["ssd", "lfssd"], 1))
def test_no_weight_matters_more_to_the_request_than_all_data_by_more_than_their_ratio(name):
    after = run(name, static={"micro": 4}, alpha=(40 + 10) / 10 + 1e-3, scale=0.1)  # of the first member
    toy.same(toy.member(after, 0), toy.member(start(), 0))


@pytest.mark.parametrize("name", ["ssd", "lfssd"])
def test_an_alpha_at_which_nothing_can_move_is_refused_and_the_default_never_is(name):
    entry = METHODS[name]
    for asked, kept in ((30, 1170), (150, 1050), (120, 1080), (1, 10)):
        sizes = Sizes(asked, kept)
        entry.check(sizes, entry.static, entry.numeric)
        most = (asked + kept) / asked
        found = float(ssd.threshold(entry.numeric, asked, asked + kept))
        assert 1.0 < found < most
        entry.check(sizes, entry.static, entry.numeric | {"alpha": 0.99 * most})
        with pytest.raises(InputError, match="no weight can matter more to") as caught:
            entry.check(sizes, entry.static, entry.numeric | {"alpha": most})
        assert "\n" not in str(caught.value)
    for level in (-0.1, 1.0):
        with pytest.raises(InputError, match="give 0 or more and less than 1"):
            entry.check(Sizes(30, 1170), entry.static, entry.numeric | {"level": level})
    entry.check(Sizes(0, 0), entry.static, entry.numeric | {"alpha": 1e9})  # sizes that are not known


@pytest.mark.slow
def test_a_study_refuses_such_an_alpha_before_anything_is_trained():
    config = StudyConfig(methods="ssd", hp=("ssd.alpha=1200",), copies="0", targets="random", members=2)
    with pytest.raises(InputError, match="no weight can matter more to 30 of 1,200 examples than 40 times"):
        prepare_study(resolve(config))


def test_ssds_alpha_goes_from_one_to_the_bound_by_the_level():
    for level, expected in ((0.0, 1.0), (0.25, 1.0 + 0.25 * 39.0), (1.0, 40.0)):
        assert float(ssd.threshold({"alpha": 0.0, "level": level}, 30.0, 1200.0)) == pytest.approx(expected)
    assert float(ssd.threshold({"alpha": 7.0, "level": 0.5}, 30.0, 1200.0)) == 7.0


def test_ssd_without_a_request_changes_nothing():
    after = run("ssd", asked=[ASKED[0], np.arange(0)], static={"micro": 4}, **CHOICE)
    toy.same(toy.member(after, 1), toy.member(start(), 1))
    assert np.abs(weights_of(after, 0) - weights_of(start(), 0)).max() > 0.01


def test_lfssd_reads_no_label_and_takes_the_gradient_of_the_squared_output_norm():
    after = run("lfssd", static={"micro": 4}, alpha=1.0, scale=0.8)
    shuffled = np.random.default_rng(0).permutation(toy.examples()[1])
    toy.same(run("lfssd", data=examples(shuffled), static={"micro": 4}, alpha=1.0, scale=0.8), after)
    for member in (0, 1):
        size = np.abs(np.einsum("nk,nkp->np", 2 * forward(member, ALL)[-1], jacobian(member, ALL)))
        truth = dampened_by(member, size, alpha=1.0, scale=0.8)
        assert 3 < (truth != weights_of(start(), member)).sum() < WEIGHTS - 3
        np.testing.assert_allclose(weights_of(after, member), truth, rtol=2e-4, atol=1e-6)


# --- Fisher forgetting ---------------------------------------------------------------------------------------------


def expected_fisher(member, rows):
    """(P,) mean over examples and the model's own labels of the squared gradient, label by label."""
    total = np.zeros(WEIGHTS)
    for label in range(K):
        chance = probabilities(member, rows)[:, label]
        total += (chance[:, None] * gradients(member, rows, np.full(len(rows), label)) ** 2).sum(axis=0)
    return total / len(rows)


def variance(found, clamp, power):
    """(P,) variance of the noise per unit of alpha, tensor by tensor as the public code has it."""
    bias0, kernel0, bias, kernel = np.split((found + 1e-8) ** -power, np.cumsum([WIDTH, 4 * WIDTH, K]))
    by_unit = lambda x, limit, out: np.tile(np.minimum(x, limit).reshape(-1, out).mean(axis=0), x.size // out)
    return np.concatenate(
        [
            10 * np.minimum(bias0, clamp),
            by_unit(kernel0, clamp, WIDTH),
            10 * np.minimum(bias, clamp / 10),
            10 * by_unit(kernel, clamp / 10, K),
        ]
    )


def test_the_fisher_diagonal_expects_over_the_models_own_labels():
    diagonal = jax.jit(lambda own, b: fisher.fisher_diagonal(problem(), own, b))
    found = sum(flat(diagonal(variables(0), batch([row]))) for row in KEPT[1]) / len(KEPT[1])
    np.testing.assert_allclose(found, expected_fisher(0, KEPT[1]), rtol=1e-4, atol=1e-8)
    empirical = (gradients(0, KEPT[1]) ** 2).mean(axis=0)
    assert np.abs(found - empirical).max() > 0.01  # the true labels would be another matrix


@pytest.mark.parametrize("clamp, power", toy.some([(20.0, 1.0), (1e3, 0.5), (1e3, 1.0)], 2))
def test_the_variance_is_clamped_then_averaged_over_a_units_inputs(clamp, power):
    truth = expected_fisher(0, KEPT[0])
    assert 0 < (truth**-1 > 20.0).sum() < WEIGHTS
    tree = ravel_pytree(variables(0)["params"])[1](jnp.float32(truth))
    found = fisher.noise_variance(problem(), variables(0)["params"], tree, clamp, power)
    np.testing.assert_allclose(flat(found), variance(truth, clamp, power), rtol=1e-4)


@pytest.mark.slow
def test_fisher_adds_noise_of_mean_zero_and_of_that_variance_to_every_weight():
    members, alpha = 80, 1e-4
    own = jax.tree.map(lambda x: np.repeat(x[:1], members, axis=0), start())
    sets = dict(kept=[KEPT[1]] * members, asked=[ASKED[1]] * members)
    after = run("fisher", own=own, **sets, static={"micro": 4}, alpha=alpha, clamp=1e3)
    moved = np.stack([weights_of(after, i) for i in range(members)]) - weights_of(start(), 0)
    scaled = moved / np.sqrt(alpha * variance(expected_fisher(0, KEPT[1]), 1e3, 1.0))
    assert np.abs(scaled.mean(axis=0)).max() < 4.5 / np.sqrt(members)
    assert np.abs(scaled.std(axis=0) - 1).max() < 4.5 / np.sqrt(2 * members)
    assert abs(scaled.mean()) < 4 / np.sqrt(scaled.size) and abs((scaled**2).mean() - 1) < 4 * np.sqrt(2 / scaled.size)
    between = np.corrcoef(scaled.T)[np.triu_indices(WEIGHTS, 1)]
    assert np.abs(between).max() < 0.5 and abs(between.mean()) < 0.05  # no two weights share a draw
