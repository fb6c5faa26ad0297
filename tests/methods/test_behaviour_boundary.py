"""Methods that look for the boundary of a class: boundary shrink and expand, L2UL and AMUN; by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import softmax
from steps import (
    MEAN,
    PLAIN,
    SGD,
    STD,
    backward,
    batch,
    begin,
    both,
    combined,
    difference,
    finish,
    followed,
    forward,
    images,
    logits,
    loss_gradient,
    other,
    update,
)

from unlearn_jax.methods import amun, boundary_shrink
from unlearn_jax.methods.parts import attacked
from unlearn_jax.methods.random_label import wrong_labels

# --- boundary shrink and expand ------------------------------------------------------------------------------------


def margin_slope(found, targets):
    """(B, K) slope of logsumexp of the other logits minus the true one: that of the loss but for a positive factor."""
    true = np.eye(found.shape[1])[np.asarray(targets)]
    return softmax(np.where(true > 0, -np.inf, found), axis=1) - true


def neighbours_by_numpy(params, some, epsilon):
    """Most likely wrong label after a signed step in pixels of [0, 1]."""
    pixels = np.asarray(some.inputs, np.float64) / 255
    scaled = lambda x: (x - MEAN) / STD
    found = forward(params, scaled(pixels))[-1]
    _, slope = backward(params, scaled(pixels), margin_slope(found, some.targets))
    moved = np.clip(pixels + epsilon * np.sign(slope), 0, 1)
    found = forward(params, scaled(moved))[-1]
    found[np.arange(len(found)), np.asarray(some.targets)] = -np.inf
    return np.argmax(found, axis=1)


@pytest.mark.parametrize("certain", [1.0, 60.0])
def test_boundary_shrinks_label_is_that_of_the_signed_neighbour(certain):
    model, (weights, _), some = images()
    weights = weights | {"head": jax.tree.map(lambda x: certain * x, weights["head"])}
    own, problem = {"params": weights, "state": {}}, toy.problem(model)
    label = jax.jit(lambda b, epsilon: boundary_shrink.nearest_wrong_label(problem, own, b, epsilon))
    found = {}
    for epsilon in (0.0, 0.1, 0.3):
        found[epsilon] = np.asarray(label(some, jnp.float32(epsilon)))
        np.testing.assert_array_equal(found[epsilon], neighbours_by_numpy(weights, some, epsilon))
        assert (found[epsilon] != np.asarray(some.targets)).all() and found[epsilon].dtype == np.int32
    assert (found[0.0] != found[0.3]).any()
    floats = some._replace(inputs=some.inputs.astype(jnp.float32) / 255)
    np.testing.assert_array_equal(label(floats, jnp.float32(0.1)), found[0.1])


def test_boundary_shrink_asks_the_frozen_original_and_fits_its_answer():
    model, (weights, moved), some = images()
    state = begin("boundary_shrink", {"params": weights, "state": {}}, model=model)
    state = state._replace(params=moved)
    after, loss = update("boundary_shrink", state, both(some), model=model, epsilon=0.2, **PLAIN)
    labels, by_student = (neighbours_by_numpy(p, some, 0.2) for p in (weights, moved))
    assert (labels != by_student).any()
    scaled = some._replace(inputs=(np.asarray(some.inputs, np.float64) / 255 - MEAN) / STD)
    expected, slope = loss_gradient(moved, scaled, labels)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    followed(moved, after.params, slope)
    toy.same(after.extra, {"params": weights, "state": {}})


def widened(params):
    """Boundary expand's network with the extra output as the head's last column."""
    head = jax.tree.map(lambda a, b: jnp.concatenate([a, b[..., None]], -1), params["network"]["head"], params["extra"])
    return params["network"] | {"head": head}


def test_boundary_expand_fits_one_class_more_and_cuts_it_off(teacher):
    state, some = begin("boundary_expand", teacher), both().forget
    wide = widened(state.params)
    after, loss = update("boundary_expand", state, both(), **PLAIN)
    expected, slope = loss_gradient(wide, some, np.full(5, toy.CLASSES))
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    followed(wide, widened(after.params), slope)
    ended = finish("boundary_expand", after)
    toy.same(ended, {"params": after.params["network"], "state": teacher["state"]})
    assert jax.tree.map(jnp.shape, ended) == jax.tree.map(jnp.shape, teacher)
    blind = both(forget=some._replace(targets=(some.targets + 1) % 3), retain=other(both().retain))
    toy.same(update("boundary_expand", state, blind, **PLAIN)[0].params, after.params)
    assert difference(begin("boundary_expand", teacher, key=2).params["extra"], state.params["extra"]) > 0.1


# --- L2UL ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weighed(teacher):
    """L2UL's state after it has weighed the weights on five requested examples, the last without weight."""
    forget = batch(toy.REQUESTED[:5], weight=[1, 1, 1, 1, 0])
    return update("l2ul", begin("l2ul", teacher, static=SGD), both(forget, phase=0), static=SGD)[0]


def test_l2uls_importance_is_the_summed_absolute_slope_of_the_squared_outputs(weighed, teacher):
    some = batch(toy.REQUESTED[:4])
    slope = 2 * logits(teacher["params"], some)
    single = [backward(teacher["params"], some.inputs[i : i + 1], slope[i : i + 1])[0] for i in range(4)]
    toy.close(weighed.extra["importance"], jax.tree.map(lambda *xs: sum(map(np.abs, xs)), *single), 1e-3)
    toy.same(weighed.params, teacher["params"])


def test_l2uls_pull_is_nothing_at_the_start_and_spares_the_important_weights(weighed, teacher, student):
    rule = {"static": SGD, **PLAIN}
    pulled, free = (update("l2ul", weighed, both(phase=1), pull=pull, **rule) for pull in (1e3, 0.0))
    assert float(pulled[1]) == float(free[1])
    toy.same(pulled[0].params, free[0].params)
    away = weighed._replace(params=student)
    pulled, free = (update("l2ul", away, both(phase=1), pull=pull, **rule) for pull in (2.0, 0.0))
    scaled = jax.tree.map(lambda x: (x - x.min()) / (x.max() - x.min()), jax.device_get(weighed.extra["importance"]))
    held = jax.tree.map(
        lambda share, a, b: (1 - share) * (np.asarray(a) - np.asarray(b)), scaled, student, teacher["params"]
    )
    size = sum(
        (h * (np.asarray(a) - np.asarray(b))).sum()
        for h, a, b in zip(*map(jax.tree.leaves, (held, student, teacher["params"])))
    )
    assert float(pulled[1] - free[1]) == pytest.approx(2.0 * size, rel=1e-3)
    followed(free[0].params, pulled[0].params, combined((2 * 2.0, held)), tolerance=1e-4)


def test_l2ul_ascends_and_holds_adversarial_examples_of_the_original(weighed, teacher, student):
    away, given, radius = weighed._replace(params=student), both(phase=1), 4.0
    kept = jax.random.wrap_key_data(weighed.extra["key"])
    labels = wrong_labels(jax.random.fold_in(kept, 7), given.forget, toy.CLASSES, False)
    made = jax.jit(lambda v: attacked(toy.problem(), v, given.forget, radius, 10, towards=labels))
    moved = given.forget._replace(inputs=made(teacher))
    np.testing.assert_array_equal(logits(teacher["params"], moved).argmax(axis=1), np.asarray(labels))
    assert (np.asarray(labels) != np.asarray(given.forget.targets)).all()
    gone = np.linalg.norm(np.asarray(moved.inputs - given.forget.inputs).reshape(5, -1), axis=1)
    assert (gone <= radius * (1 + 1e-5)).all()
    own, held = loss_gradient(student, given.forget), loss_gradient(student, moved, labels)
    rule = {"static": SGD, "radius": radius, "pull": 0.0, "bound": np.inf, **PLAIN}
    after, loss = update("l2ul", away, given, **rule)
    assert float(loss) == pytest.approx(held[0] - own[0], rel=1e-3)
    followed(student, after.params, combined((-1.0, own[1]), (1.0, held[1])), tolerance=1e-4)
    for key in (1, 2, 3):  # the labels are a member's own and stay, whatever the update
        toy.same(update("l2ul", away, given, key=key, **rule)[0].params, after.params)


# --- AMUN ----------------------------------------------------------------------------------------------------------


def ascended(params, some, radius, steps=10):
    """Adversarial images by NumPy: normalised steps up the loss, put back into the ball."""
    start, moved = np.asarray(some.inputs, np.float64), np.zeros(some.inputs.shape)
    length = lambda x: np.linalg.norm(x.reshape(len(x), -1), axis=1)[:, None, None, None]
    for _ in range(steps):
        found = forward(params, start + moved)[-1]
        slope = backward(params, start + moved, margin_slope(found, some.targets))[1]
        moved = moved + 2.5 / steps * radius * slope / length(slope)
        moved = moved * np.minimum(1.0, radius / length(moved))
    return start + moved


def test_amun_fits_the_originals_labels_where_the_attack_has_crossed_and_nowhere_else(teacher, student):
    some, radius = batch(toy.KEPT[8:28]), 0.6
    found = ascended(teacher["params"], some, radius)
    labels = forward(teacher["params"], found)[-1].argmax(axis=1)
    crossed = labels != np.asarray(some.targets)
    assert 2 <= crossed.sum() <= 18
    state = begin("amun", teacher)._replace(params=student)
    after, loss = update("amun", state, both(some), radius=radius, **PLAIN)
    fitted = some._replace(inputs=found[crossed], targets=labels[crossed])
    kept, wrong = loss_gradient(student, both().retain), loss_gradient(student, fitted)
    assert float(loss) == pytest.approx(kept[0] + wrong[0], rel=1e-3)
    followed(student, after.params, combined((1.0, kept[1]), (1.0, wrong[1])), tolerance=1e-3)
    none, loss = update("amun", state, both(both().retain), radius=1e-6, **PLAIN)  # none crosses
    assert float(loss) == pytest.approx(kept[0], rel=1e-4)
    followed(student, none.params, kept[1])


@pytest.mark.parametrize("certain", [1.0, 30.0])
def test_amuns_attack_crosses_however_certain_the_original_is(certain, teacher):
    head = jax.tree.map(lambda x: certain * x, teacher["params"]["head"])
    own, some = {"params": teacher["params"] | {"head": head}, "state": {}}, batch(toy.KEPT[:8])
    attack = jax.jit(lambda v: amun.adversarial(toy.problem(), v, some, 4.0, 10))
    found, labels = jax.device_get(attack(own))
    assert (labels != np.asarray(some.targets)).all()
    np.testing.assert_array_equal(labels, logits(own["params"], some._replace(inputs=found)).argmax(axis=1))
    gone = np.linalg.norm((found - np.asarray(some.inputs)).reshape(8, -1), axis=1)
    assert (gone <= 4.0 * (1 + 1e-5)).all()
