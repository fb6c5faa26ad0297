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

from unlearn_jax.methods import METHODS, amun, boundary_shrink, l2ul
from unlearn_jax.methods.support import attacks
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.population.plans import Sizes

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


@pytest.mark.parametrize("certain", toy.some([60.0, 1.0], 1))
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


def test_boundary_shrink_asks_the_original_once_and_fits_its_answers_by_row():
    model, (weights, moved), some = images()
    asked = (("slots", 24),)
    state, rule = (
        begin("boundary_shrink", {"params": weights, "state": {}}, model=model, static=asked),
        {"epsilon": 0.2},
    )
    parts = [jax.tree.map(lambda x, i=i: x[i : i + 12], some) for i in (0, 12)]
    parts[1] = parts[1]._replace(weight=jnp.ones(12).at[11].set(0.0), index=parts[1].index.at[11].set(3))  # a dead slot
    for part in parts:
        state, _ = update("boundary_shrink", state, both(part), model=model, static=asked, **rule)
    toy.same(state.params, weights)
    student = state._replace(params=moved)
    order = np.random.default_rng(0).permutation(23)[:10]
    given = both(jax.tree.map(lambda x: x[order], some), phase=boundary_shrink.FIT)
    after, loss = update("boundary_shrink", student, given, model=model, static=asked, **rule, **PLAIN)
    labels, by_student = (neighbours_by_numpy(p, some, 0.2)[order] for p in (weights, moved))
    assert (labels != by_student).any() and len(set(labels)) > 1
    scaled = given.forget._replace(inputs=(np.asarray(given.forget.inputs, np.float64) / 255 - MEAN) / STD)
    expected, slope = loss_gradient(moved, scaled, labels)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    followed(moved, after.params, slope)
    toy.same(after.extra, state.extra)


@pytest.mark.parametrize("name, first", [("boundary_shrink", 4 / 3), ("l2ul", 1 + 40), ("amun", 50 + 1 / 3)])
def test_attacks_are_paid_for_once(name, first):
    entry, sizes = METHODS[name], Sizes(30, 1200)
    plans = [entry.plan(sizes, entry.static | {"epochs": n}, Recipe()) for n in (1, 2, 11)]
    costs = np.array([plan.grad_evals_forget for plan in plans])
    assert costs[2] - costs[1] == pytest.approx(9 * (costs[1] - costs[0]))
    assert 2 * costs[0] - costs[1] == pytest.approx(30 * first)  # of no epoch at all
    for plan in plans:  # an exact pass before anything else
        builds = int((plan.phase == 0).sum())
        assert builds == plan.forget_pass and (plan.phase[:builds] == 0).all()
        assert 30 <= builds * plan.forget_batch < 30 + plan.forget_batch


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

TWO = (*SGD, ("images", 2), ("slots", 5))
REACH = 1.5


@pytest.fixture(scope="module")
def weighed(teacher):
    """L2UL's state after its pass over five requested examples, the last without weight."""
    forget = batch(toy.REQUESTED[:5], weight=[1, 1, 1, 1, 0])
    return update("l2ul", begin("l2ul", teacher, static=TWO), both(forget), static=TWO, radius=REACH)[0]


def asked(n=4, **given):
    """What an update after that pass is given."""
    return both(batch(toy.REQUESTED[:n]), phase=l2ul.FIT, **given)


def test_l2uls_importance_is_the_summed_absolute_slope_of_the_squared_outputs(weighed, teacher):
    some = batch(toy.REQUESTED[:4])
    slope = 2 * logits(teacher["params"], some)
    single = [backward(teacher["params"], some.inputs[i : i + 1], slope[i : i + 1])[0] for i in range(4)]
    toy.close(weighed.extra["importance"], jax.tree.map(lambda *xs: sum(map(np.abs, xs)), *single), 1e-3)
    toy.same(weighed.params, teacher["params"])


def test_l2uls_pull_is_half_a_squared_distance_and_spares_the_important_weights(weighed, teacher, student):
    rule = {"static": TWO, **PLAIN}
    pulled, free = (update("l2ul", weighed, asked(), pull=pull, **rule) for pull in (1e3, 0.0))
    assert float(pulled[1]) == float(free[1])
    toy.same(pulled[0].params, free[0].params)
    away = weighed._replace(params=student)
    pulled, free = (update("l2ul", away, asked(), pull=pull, **rule) for pull in (2.0, 0.0))
    scaled = jax.tree.map(lambda x: (x - x.min()) / (x.max() - x.min()), jax.device_get(weighed.extra["importance"]))
    held = jax.tree.map(
        lambda share, a, b: (1 - share) * (np.asarray(a) - np.asarray(b)), scaled, student, teacher["params"]
    )
    size = sum(
        (h * (np.asarray(a) - np.asarray(b))).sum()
        for h, a, b in zip(*map(jax.tree.leaves, (held, student, teacher["params"])))
    )
    assert float(pulled[1] - free[1]) == pytest.approx(2.0 * size / 2, rel=1e-3)
    followed(free[0].params, pulled[0].params, combined((2.0, held)), tolerance=1e-4)


def test_l2uls_images_fool_the_original_into_different_wrong_labels(teacher, weighed):
    some, far = batch(toy.REQUESTED[:4]), {"static": TWO, "radius": 4.0}
    kept = update("l2ul", begin("l2ul", teacher, static=TWO), both(some), **far)[0].extra["kept"]
    (images, labels), rows = jax.device_get(kept.values), np.asarray(kept.rows)
    np.testing.assert_array_equal(rows, [*toy.REQUESTED[:4], -1])
    np.testing.assert_array_equal(weighed.extra["kept"].rows, rows)  # where the fifth was dead
    images, labels = images[:4], labels[:4]
    assert (labels[:, 0] != labels[:, 1]).all() and (labels != np.asarray(some.targets)[:, None]).all()
    for i in range(2):
        moved = some._replace(inputs=images[:, i])
        np.testing.assert_array_equal(logits(teacher["params"], moved).argmax(axis=1), labels[:, i])
        gone = np.linalg.norm((images[:, i] - np.asarray(some.inputs)).reshape(4, -1), axis=1)
        assert (gone <= 4.0 * (1 + 1e-5)).all()
    other = update("l2ul", begin("l2ul", teacher, key=9, static=TWO), both(some), **far)[0]
    assert (np.asarray(other.extra["kept"].values[1])[:4] != labels).any()  # drawn anew by the member's key


@pytest.mark.slow
def test_l2ul_ascends_and_holds_its_images_in_proportion_to_their_numbers(weighed, student):
    given, order = asked(), [2, 0, 3]
    away, part = weighed._replace(params=student), jax.tree.map(lambda x: x[jnp.asarray(order)], given.forget)
    images, labels = (x[jnp.asarray(order)].reshape(6, *x.shape[2:]) for x in weighed.extra["kept"].values)
    moved = batch(np.repeat(toy.REQUESTED[order], 2))._replace(inputs=images)
    own, held = loss_gradient(student, part), loss_gradient(student, moved, np.asarray(labels))
    rule = {"static": TWO, "radius": 1e-3, "pull": 0.0, "bound": np.inf, **PLAIN}  # the radius no longer matters
    after, loss = update("l2ul", away, both(part, phase=l2ul.FIT), **rule)
    assert float(loss) == pytest.approx((2 * held[0] - own[0]) / 3, rel=1e-3)
    followed(student, after.params, combined((-1 / 3, own[1]), (2 / 3, held[1])), tolerance=1e-4)
    still, _ = update("l2ul", away, both(part, phase=l2ul.FIT), **(rule | {"bound": 0.0}))
    followed(student, still.params, combined((2 / 3, held[1])), tolerance=1e-4)


@pytest.mark.slow
def test_l2ul_stops_once_a_whole_pass_has_no_right_answer(weighed, teacher):
    right, wrong = asked(3), asked(3)
    found = logits(teacher["params"], right.forget).argmax(axis=1)
    right, wrong = (
        g._replace(forget=g.forget._replace(targets=jnp.asarray((found + i) % toy.CLASSES, jnp.int32)))
        for i, g in enumerate((right, wrong))
    )
    rule = {"static": TWO, "bound": np.inf, "lr": 0.3}
    for one in (right, wrong):  # a pass of five examples has two batches of three
        after, _ = update("l2ul", weighed, one, **rule)
        assert difference(after.params, weighed.params) > 1e-5
    after, _ = update("l2ul", after, wrong, **rule)  # the second without a right answer
    again, _ = update("l2ul", after, wrong, **rule)
    toy.same(again.params, after.params)
    mixed = wrong.forget.targets.at[1].set(int(logits(after.params, wrong.forget).argmax(axis=1)[1]))
    resumed, _ = update("l2ul", after, wrong._replace(forget=wrong.forget._replace(targets=mixed)), **rule)
    assert difference(resumed.params, after.params) > 1e-5


# --- AMUN ----------------------------------------------------------------------------------------------------------


def crossed_by_numpy(params, some, radius, steps, radii):
    """The first wrong point on the way up the loss in balls that double, and the radius there, an example at a time."""
    start, found, where = np.asarray(some.inputs, np.float64), [], []
    for i, label in enumerate(np.asarray(some.targets)):
        moved, limit = np.zeros(start.shape[1:]), np.inf
        for step in range(radii * steps + 1):
            at = forward(params, (start[i] + moved)[None])[-1]
            if at.argmax() != label or step == radii * steps:
                break
            limit = radius * 2 ** (step // steps)
            slope = backward(params, (start[i] + moved)[None], margin_slope(at, [label]))[1][0]
            moved = moved + 0.1 * limit * slope / np.linalg.norm(slope)
            moved = moved * min(1.0, limit / np.linalg.norm(moved))
        found.append(start[i] + moved)
        where.append(limit)
    return np.stack(found), np.asarray(where)


def test_an_attack_stops_at_the_smallest_radius_that_crosses(teacher):
    some, rule = batch(toy.KEPT[8:28]), (0.15, 12, 4)
    attack = jax.jit(lambda v: attacks.crossing(toy.problem(), v, some, *rule))
    found, labels = jax.device_get(attack(teacher))
    expected, where = crossed_by_numpy(teacher["params"], some, *rule)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(labels, forward(teacher["params"], expected)[-1].argmax(axis=1))
    gone = np.linalg.norm((found - np.asarray(some.inputs)).reshape(20, -1), axis=1)
    wrong = labels != np.asarray(some.targets)
    assert (gone <= where * (1 + 1e-5))[where < np.inf].all() and wrong.any()
    assert len(set(where[wrong & (where < np.inf)])) >= 3  # each at a radius of its own


LADDER = (*SGD, ("slots", 20), ("radii", 2))


def built(teacher, some, radius, static=LADDER):
    """AMUN's state after its pass over some examples."""
    return update("amun", begin("amun", teacher, static=static), both(some), static=static, radius=radius)[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["amun", "advonly"])
def test_amun_fits_the_union_of_retained_and_crossed_examples(variant, teacher, student):
    some, static = batch(toy.KEPT[8:28]), (*LADDER, ("variant", variant))
    state = built(teacher, some, 0.3, static)
    toy.same(state.params, teacher["params"])
    found, _ = crossed_by_numpy(teacher["params"], some, 0.3, 10, 2)
    labels = forward(teacher["params"], found)[-1].argmax(axis=1)
    order = np.r_[5:20]
    crossed = (labels != np.asarray(some.targets))[order]
    assert 2 <= crossed.sum() <= 13
    given = both(jax.tree.map(lambda x: x[order], some), phase=amun.FIT)
    after, loss = update("amun", state._replace(params=student), given, static=static, radius=1e-6, **PLAIN)
    fitted = some._replace(inputs=found[order][crossed], targets=labels[order][crossed])
    parts = [(8, loss_gradient(student, given.retain)), (crossed.sum(), loss_gradient(student, fitted))]
    parts += [(15, loss_gradient(student, given.forget))] * (variant == "amun")
    total = sum(n for n, _ in parts)
    assert float(loss) == pytest.approx(sum(n * part[0] for n, part in parts) / total, rel=1e-3)
    followed(student, after.params, combined(*((n / total, part[1]) for n, part in parts)), tolerance=1e-3)


def test_amun_leaves_out_what_does_not_cross(teacher, student):
    some = batch(toy.KEPT[8:28])
    static = (*LADDER, ("variant", "advonly"))
    state = built(teacher, some, 1e-6, static)._replace(params=student)
    kept, slope = loss_gradient(student, both().retain)
    after, loss = update("amun", state, both(some, phase=amun.FIT), static=static, **PLAIN)
    wrong = logits(teacher["params"], some).argmax(axis=1) != np.asarray(some.targets)
    assert not wrong.any() and float(loss) == pytest.approx(kept, rel=1e-4)
    followed(student, after.params, slope)


def test_amun_shows_the_request_once_an_epoch_and_lets_the_rate_fall():
    static = METHODS["amun"].static | {"epochs": 4, "fall": 2}
    plan = amun.plan(Sizes(30, 1200), static, Recipe())
    fits = plan.phase == amun.FIT
    assert plan.forget_batch == 3 and plan.forget_pass == 10 and fits.sum() == 40
    np.testing.assert_allclose(plan.rate[fits], np.repeat([1.0, 1.0, 0.1, 0.1], 10), rtol=1e-6)
    np.testing.assert_array_equal(plan.forget_step[fits] % 10, np.tile(np.arange(10), 4))


@pytest.mark.parametrize("certain", toy.some([30.0, 1.0], 1))
def test_amuns_attack_crosses_however_certain_the_original_is(certain, teacher):
    head = jax.tree.map(lambda x: certain * x, teacher["params"]["head"])
    own, some = {"params": teacher["params"] | {"head": head}, "state": {}}, batch(toy.KEPT[:8])
    attack = jax.jit(lambda v: attacks.crossing(toy.problem(), v, some, 0.5, 20, 4))
    found, labels = jax.device_get(attack(own))
    assert (labels != np.asarray(some.targets)).all()
    np.testing.assert_array_equal(labels, logits(own["params"], some._replace(inputs=found)).argmax(axis=1))
    gone = np.linalg.norm((found - np.asarray(some.inputs)).reshape(8, -1), axis=1)
    assert (gone <= 4.0 * (1 + 1e-5)).all()
