"""Relearning, perturbed images, features and gradients of toy members against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax.audits import probing
from unlearn_jax.audits.relearning import Relearning, relearned
from unlearn_jax.population.evaluate import features, predict
from unlearn_jax.population.run import DEFAULTS

MEMBERS, LR, UPDATES = 4, 0.3, 12
SIMILAR = np.arange(20)


@pytest.fixture(scope="module")
def members():
    """Models that never saw the request."""
    return toy.train(MEMBERS).variables


def slow_relearning(variables, member, rows):
    """Accuracy on the request before each step of plain gradient descent on all of ``rows``."""
    inputs, targets = toy.examples()
    model = toy.perceptron()
    own = jax.tree.map(lambda x: jnp.asarray(x[member]), variables)
    known = []

    def loss(params, at):
        logits = model.apply(own | {"params": params}, at)[0].logits
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(len(rows)), targets[rows]])

    step, params = jax.jit(jax.grad(loss)), own["params"]
    for _ in range(UPDATES):
        logits = model.apply(own | {"params": params}, jnp.asarray(inputs[toy.REQUESTED]))[0].logits
        known.append(np.mean(np.asarray(logits).argmax(axis=1) == targets[toy.REQUESTED]))
        slope = step(params, jnp.asarray(inputs[rows]))
        params = jax.tree.map(lambda p, g: p - jnp.float32(LR) * g, params, slope)
    return np.asarray(known)


def relearn(variables, benign, similar=SIMILAR, **changes):
    setting = Relearning(LR, UPDATES, len(similar))
    rows = [toy.REQUESTED] * MEMBERS, [similar] * MEMBERS
    return relearned(toy.problem(), toy.stored(**changes), variables, *rows, setting, benign=benign, options=DEFAULTS)


@pytest.mark.parametrize("benign", [False, True])
def test_relearning_is_gradient_descent_on_the_request_or_on_similar_samples_alone(members, benign):
    curves = relearn(members, benign)
    assert curves.shape == (MEMBERS, UPDATES)
    for member in range(MEMBERS):
        expected = slow_relearning(members, member, SIMILAR if benign else toy.REQUESTED)
        np.testing.assert_allclose(curves[member], expected, atol=1e-6)


def test_relearning_on_the_request_learns_it_and_copies_of_it_would_do(members):
    curves = relearn(members, False)
    assert curves[:, 0].mean() < 0.3 and curves[:, -1].mean() > curves[:, 0].mean() + 0.2
    copies = relearn(members, True, similar=toy.REQUESTED)  # similar to the point of being the same
    np.testing.assert_allclose(copies, curves, atol=1e-6)


def batch():
    inputs, targets = toy.examples()
    return probing.batch_of(inputs[toy.REQUESTED], targets[toy.REQUESTED])


def sure(variables, at):
    """Probability of the true label of stored rows."""
    logits = predict(toy.perceptron(), variables, jax.tree.map(lambda x: x[at], toy.stored()), width=MEMBERS)
    p = np.exp(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    return np.take_along_axis(p, toy.examples()[1][at][None, :, None], axis=-1)[..., 0]


def test_at_radius_zero_perturbed_images_are_the_images(members):
    radii = np.array([0.0, 0.5])
    noisy = probing.noisy_recognition(toy.problem(), members, batch(), radii, draws=3)
    assert noisy.shape == (MEMBERS, 2, len(toy.REQUESTED))
    np.testing.assert_allclose(noisy[:, 0], sure(members, toy.REQUESTED), rtol=2e-5, atol=1e-6)
    assert np.abs(noisy[:, 1] - noisy[:, 0]).max() > 1e-3
    again = probing.noisy_recognition(toy.problem(), members, batch(), radii, draws=3)
    np.testing.assert_array_equal(noisy, again)  # the noise is the same for every population


def test_noise_has_the_length_that_it_is_said_to_have(monkeypatch, members):
    seen = []

    def watched(problem):
        def at(own, shared, batch, radii, noise):
            seen.append(np.asarray(noise))
            return np.zeros((2, 10))

        return at

    monkeypatch.setattr(probing, "_noisy", watched)
    probing.noisy_recognition(toy.problem(), members, batch(), np.array([0.0, 0.5]), draws=3)
    lengths = np.sqrt((seen[0] ** 2).sum(axis=(2, 3, 4)))
    np.testing.assert_allclose(lengths, 1.0, rtol=1e-5)


def test_targeted_images_move_towards_the_label_and_others_are_asked_at_the_same(members):
    other = toy.train(MEMBERS, keys=jax.random.split(jax.random.key(9), MEMBERS)).variables
    found = probing.targeted_recognition(toy.problem(), members, [members, other], batch(), np.array([0.0, 0.3]))
    assert found.shape == (3, MEMBERS, 2, len(toy.REQUESTED))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)  # the same members at the same images
    np.testing.assert_allclose(found[0, :, 0], sure(members, toy.REQUESTED), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(found[2, :, 0], sure(other, toy.REQUESTED), rtol=2e-5, atol=1e-6)
    assert (found[0, :, 1] > found[0, :, 0]).mean() > 0.95


def test_features_and_gradients_are_those_of_the_model(members):
    inputs, _ = toy.examples()
    mine = probing.member_features(toy.problem(), members, inputs[:7], members=3)
    joined = features(toy.perceptron(), members, inputs[:7], members=3)
    np.testing.assert_allclose(np.concatenate(list(mine), axis=1), joined, rtol=1e-5)
    whole = probing.flat_gradients(toy.problem(), members, batch(), members=2)
    single = probing.example_gradients(toy.problem(), members, batch())
    assert single.shape == (len(toy.REQUESTED), whole.shape[1])
    np.testing.assert_allclose(single.sum(axis=0), whole[0], rtol=1e-4, atol=1e-5)


def test_layers_are_named_and_keep_their_member_axis(members):
    found = probing.layers(members)
    assert {name.split("/")[-1] for name in found} == {"kernel", "bias"}
    assert all(len(weights) == MEMBERS for weights in found.values())
