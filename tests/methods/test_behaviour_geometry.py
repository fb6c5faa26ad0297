"""Methods in the geometry of features and weights: DUCK, SFRon and RFE; by NumPy."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import batch, begin, finish, flat, followed, losses, moved, outputs, padded, slope, update, whole

from unlearn_jax.methods import METHODS, duck, rfe, sfron
from unlearn_jax.methods.support.common import Recipe

# --- DUCK ----------------------------------------------------------------------------------------------------------


def cosine(a, b):
    """(B, K) by NumPy."""
    unit = lambda x: x / np.linalg.norm(x, axis=1, keepdims=True)
    return unit(a) @ unit(b).T


def test_the_nearest_wrong_centroid_is_numpys():
    rng = np.random.default_rng(0)
    features, centroids, labels = rng.normal(size=(40, 6)), rng.normal(size=(5, 6)), rng.integers(0, 5, 40)
    found = jax.jit(duck.nearest_wrong)(
        *(jnp.asarray(x, jnp.float32) for x in (features, centroids)), jnp.asarray(labels)
    )
    alike = cosine(features, centroids)
    expected = [max((c for c in range(5) if c != y), key=lambda c, i=i: alike[i, c]) for i, y in enumerate(labels)]
    np.testing.assert_array_equal(found, expected)
    assert len(set(expected)) == 5 and (np.argmax(alike, axis=1) == labels).any()


def test_duck_pulls_features_to_centroids_of_the_original(learned):
    student = learned | {"dense0": jax.tree.map(lambda x: jnp.asarray(np.roll(x, 5, axis=-1)), learned["dense0"])}
    state = begin("duck", whole(learned) | asked(0.0))
    for some in (batch(toy.KEPT[:9], weight=np.arange(9) < 8), batch(toy.KEPT[8:17])):
        state, _ = update("duck", state, padded(duck.GATHER, retain=some))
    kept, labels = outputs(learned, batch(toy.KEPT[:17]))[1], np.asarray(toy.stored().targets)[:17]
    centroids = np.stack([kept[labels == c].mean(axis=0) for c in range(toy.CLASSES)])
    forget, retain = padded().forget, padded().retain
    alike, otherwise = (cosine(outputs(p, forget)[1], centroids) for p in (learned, student))
    for found in (alike, otherwise):
        found[np.arange(5), np.asarray(forget.targets)[:5]] = -2.0
    assert (alike.argmax(axis=1) != otherwise.argmax(axis=1)).any()
    goal = centroids[alike.argmax(axis=1)]
    away = 1.0 - np.diagonal(cosine(outputs(student, forget)[1], goal))  # the goal stays while the student moves
    settings = {"forget_weight": 1.3, "retain_weight": 0.6, "temperature": 2.0}
    after, loss = update("duck", state._replace(params=student), padded(duck.FIT), **settings)
    held = losses(student, retain, temperature=2.0).mean()
    assert float(loss) == pytest.approx(1.3 * away.mean() + 0.6 * held, rel=1e-4)
    now, _ = update("duck", after, padded(duck.FIT), forget_weight=1.0, retain_weight=0.0)
    later = 1.0 - np.diagonal(cosine(outputs(now.params, forget)[1], goal))
    assert later.mean() < away.mean()
    toy.same(after.extra, state.extra)
    late, loss = update("duck", state._replace(params=student), padded(duck.SETTLE), forget_weight=10.0)
    held = losses(student, retain, temperature=2.0).mean()
    assert float(loss) == pytest.approx(away.mean() + held, rel=1e-4)  # a tenth, and 1 whatever retain_weight is
    step = np.abs(flat(moved(late.params, student)))
    assert step.max() == pytest.approx(METHODS["duck"].numeric["settle_lr"], rel=1e-2)  # Adam's first


def asked(stop):
    """What DUCK keeps of a member's request, and the accuracy on it below which its first phase ends."""
    some = batch(toy.REQUESTED[:6])
    inputs = {"inputs": some.inputs, "targets": some.targets, "weight": jnp.asarray(np.arange(6) < 5, jnp.float32)}
    return {"request": inputs, "stop": jnp.float32(stop)}


def test_duck_stops_once_accuracy_on_the_request_is_below_that_of_held_out_examples(learned):
    right = (
        outputs(learned, batch(toy.REQUESTED[:5]))[0].argmax(axis=1)
        == np.asarray(toy.stored().targets)[toy.REQUESTED[:5]]
    ).mean()
    for stop, stopped in ((right, False), (right + 0.1, True)):
        state, _ = update("duck", begin("duck", whole(learned) | asked(stop)), padded(duck.LOOK))
        after, _ = update("duck", state, padded(duck.FIT))
        assert (flat(moved(after.params, learned)) == 0).all() == stopped
        settled, _ = update("duck", after, padded(duck.SETTLE))  # the second phase runs in any case
        assert np.abs(flat(moved(settled.params, after.params))).max() > 0


def test_duck_is_told_the_originals_accuracy_on_held_out_examples_or_a_hundredth_for_a_whole_class():
    targets = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    guesses = np.array([[0, 0, 0, 1, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 0]])
    context = types.SimpleNamespace(
        stored=types.SimpleNamespace(inputs=np.zeros((8, 2)), targets=targets),
        kept=[np.array([2, 3]), np.array([3])],
        requested=[np.array([0, 1]), np.array([0, 1, 2])],
        heldout=[np.array([4, 5]), np.array([4, 5])],
        predict=lambda variables: np.eye(2)[guesses],
    )
    found, cost = duck.begin(context, {}, {"params": 1})
    np.testing.assert_allclose(found["stop"], [0.5, 0.01])
    assert cost == (0.0, pytest.approx(2 / 3)) and found["params"] == 1


# --- SFRon ---------------------------------------------------------------------------------------------------------

STILL = {"weight_decay": 0.0, "lr": 1.0}  # with momentum, which is nothing at the first step


@pytest.fixture(scope="module")
def weighed(learned):
    """SFRon's state after a pass over five requested and eight retained examples, and the salient weights by NumPy."""
    state = begin("sfron", whole(learned))
    for phase in (sfron.SCORE_F, sfron.SCORE_R):
        state, _ = update("sfron", state, padded(phase))
    fisher = lambda rows: np.mean([np.square(flat(slope(learned, batch([row])))) for row in rows], axis=0)
    return state, fisher(toy.REQUESTED[:5]), fisher(toy.KEPT[:8])


def ascent(learned, fade):
    """(P,) the ascent's direction by NumPy: losses to the power -fade, the batch's mean weight 1."""
    lost = losses(learned, padded().forget)
    each = np.stack([flat(slope(learned, batch([row]))) for row in toy.REQUESTED[:5]])
    weights = lost**-fade / np.mean(lost**-fade)
    return (weights[:, None] * each).mean(axis=0)


@pytest.mark.parametrize("size", [1.0, 1e-3, 1e-5])  # of the losses: memorised examples weigh as much as any others
def test_sfrons_weights_have_a_mean_of_one_and_fade_with_the_loss(size):
    lost, live = np.array([0.5, 2.0, 1.0, 4.0]) * size, np.array([1, 1, 0, 1.0])
    found = np.asarray(jax.jit(sfron.faded)(jnp.float32(lost), jnp.float32(live), 0.5))
    assert found[live > 0].mean() == pytest.approx(1.0, rel=1e-5)
    np.testing.assert_allclose(found / found[0], (lost / lost[0]) ** -0.5, rtol=1e-4)
    assert np.isfinite(sfron.faded(jnp.zeros(3), jnp.ones(3), 0.5)).all()


def test_sfron_ascends_on_salient_weights_with_fading_examples(weighed, learned):
    state, of_forget, of_retain = weighed
    np.testing.assert_allclose(flat(state.extra["forget"]) / 5, of_forget, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(flat(state.extra["retain"]) / 8, of_retain, rtol=1e-3, atol=1e-6)
    threshold, given, rate = 2.0, padded(sfron.ASCEND, rate=0.5), 0.5
    rule = {"alpha": 0.6, "fade": 0.7, "threshold": threshold, "clip": 1e6, "bound": np.inf} | STILL
    after, _ = update("sfron", state, given, **rule)
    way = rate * 0.6 * rate * ascent(learned, 0.7)  # the cosine scales the ascent's weight and the rate of the update
    found = flat(moved(after.params, learned))
    ratio = of_forget / np.maximum(of_retain, 1e-30)
    chosen, clear = ratio >= threshold, np.abs(np.log(np.maximum(ratio, 1e-30) / threshold)) > 1e-2
    np.testing.assert_allclose(found[clear], np.where(chosen, way, 0.0)[clear], rtol=2e-3, atol=1e-6)
    assert 0.1 < chosen[way != 0].mean() < 0.9
    toy.same(after.extra["slow"], learned)
    for clip in (0.5, 2.0):  # of the gradient's norm, mask included
        size = np.linalg.norm(found[clear]) / rate
        short, _ = update("sfron", state, given, **(rule | {"clip": np.float32(clip * size)}))
        np.testing.assert_allclose(flat(moved(short.params, learned)), min(clip, 1.0) * found, rtol=1e-2, atol=1e-6)


def test_sfron_pushes_no_example_whose_loss_is_above_the_bound(weighed, learned):
    state, _, _ = weighed
    rule = {"alpha": 0.6, "fade": 0.0, "threshold": 0.0, "clip": 1e6} | STILL
    lost, given = losses(learned, padded().forget), padded(sfron.ASCEND)
    border = np.sort(lost)[1:3].mean()
    bound = float(border / np.log(toy.CLASSES))
    after, _ = update("sfron", state, given, bound=bound, **rule)
    each = np.stack([flat(slope(learned, batch([row]))) for row in toy.REQUESTED[:5]])
    way = (each * (lost < border)[:, None]).sum(axis=0) / 5
    np.testing.assert_allclose(flat(moved(after.params, learned)), 0.6 * way, rtol=2e-3, atol=1e-6)
    none, _ = update("sfron", state, given, bound=0.0, **rule)
    toy.same(none.params, learned)


def test_sfrons_ascent_and_repair_share_one_momentum(weighed, learned):
    state, _, _ = weighed
    rule = {"threshold": 0.0, "clip": 1e6, "alpha": 0.3, "weight_decay": 0.0, "lr": 0.1}
    up, _ = update("sfron", state, padded(sfron.ASCEND), **rule)
    first = moved(learned, up.params)
    down, loss = update("sfron", up, padded(sfron.REPAIR), **rule)
    assert float(loss) == pytest.approx(losses(up.params, padded().retain).mean(), rel=1e-4)
    own = slope(up.params, padded().retain)
    way = jax.tree.map(lambda g, m: np.asarray(g) + 0.9 * np.asarray(m) / 0.1, own, first)
    followed(up.params, down.params, way, 0.1, 1e-4)
    again, _ = update("sfron", down, padded(sfron.ASCEND), **rule)
    step, carried = flat(moved(down.params, again.params)), 0.9 * flat(moved(up.params, down.params))
    fresh = flat(
        moved(down.params, update("sfron", state._replace(params=down.params), padded(sfron.ASCEND), **rule)[0].params)
    )
    np.testing.assert_allclose(step, fresh + carried, rtol=1e-3, atol=1e-5)


def test_sfron_follows_slowly(weighed, learned):
    state, _, _ = weighed
    fast, _ = update("sfron", state, padded(sfron.REPAIR), lr=0.1, weight_decay=0.0)
    followed(learned, fast.params, slope(learned, padded().retain), 0.1, 1e-5)
    toy.same(fast.extra["slow"], learned)
    after, _ = update("sfron", fast, padded(sfron.FOLLOW), slow=0.3)
    law = jax.tree.map(lambda a, b: np.asarray(0.7 * a + 0.3 * b), learned, fast.params)
    toy.close(after.params, law, 1e-6)
    toy.same(after.extra["slow"], after.params)
    toy.same(finish("sfron", after)["params"], after.params)
    toy.close(update("sfron", fast, padded(sfron.FOLLOW))[0].params, fast.params, 1e-6)  # the default goes all the way


def test_sfron_ends_every_round_by_following_and_every_run_along_a_cosine():
    plan = sfron.plan(toy.SIZES, {"rounds": 4, "inner": 3, "batch": 8}, Recipe())
    round_ = [sfron.ASCEND, *[sfron.REPAIR] * 3, sfron.FOLLOW]
    np.testing.assert_array_equal(plan.phase, [sfron.SCORE_F] * 2 + [sfron.SCORE_R] * 5 + round_ * 4)
    assert plan.forget_pass == 2 and plan.retain_pass == 5
    fall = (1 + np.cos(np.pi * np.arange(12) / 12)) / 2
    np.testing.assert_allclose(plan.rate[plan.phase == sfron.REPAIR], fall, atol=1e-6)
    np.testing.assert_allclose(plan.rate[plan.phase == sfron.ASCEND], fall[::3], atol=1e-6)


# --- RFE -----------------------------------------------------------------------------------------------------------


_without_rise, _distance = jax.jit(rfe.without_rise), jax.jit(rfe.gaussian_distance)


def test_only_a_rising_component_is_removed():
    rng = np.random.default_rng(0)
    tree = lambda: {
        "a": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32),
        "b": jnp.asarray(rng.normal(size=5), jnp.float32),
    }
    gradient, across = tree(), tree()
    g = flat(gradient)
    across = jax.tree.map(lambda x, y: x - y * jnp.float32(flat(across) @ g / (g @ g)), across, gradient)
    for along, left in ((0.7, 0.0), (0.0, 0.0), (-0.7, -0.7)):
        update_ = jax.tree.map(lambda x, y, c=along: x + jnp.float32(c) * y, across, gradient)
        expected = flat(across) + left * g
        np.testing.assert_allclose(flat(_without_rise(update_, gradient)), expected, rtol=1e-5, atol=1e-6)
    toy.same(_without_rise(across, jax.tree.map(jnp.zeros_like, gradient)), across)


def test_the_gaussian_distance_equals_its_closed_form():
    rng = np.random.default_rng(0)
    a, b, weight = rng.normal(size=(7, 4)), 2 * rng.normal(size=(7, 4)) + 1, np.array([1, 1, 1, 0, 1, 0, 0.0])
    some = weight > 0
    expected = np.square(a[some].mean(axis=0) - b[some].mean(axis=0)).sum()
    expected += np.square(a[some].std(axis=0) - b[some].std(axis=0)).sum()
    found = _distance(*(jnp.asarray(x, jnp.float32) for x in (a, b, weight)))
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(_distance(*(jnp.asarray(x, jnp.float32) for x in (a, a, weight)))) == 0.0


RFE = (("adjacent", 0.4), ("batch", 9))


def adjacent(learned):
    """(8,) which of the retained examples of ``padded()`` are adjacent: 4 of 9 slots, by the largest cosine."""
    near = cosine(outputs(learned, padded().retain)[1], outputs(learned, padded().forget)[1]).max(axis=1)
    return near >= np.sort(near)[-4]


def test_rfe_constrains_the_loss_of_remote_retained_data(learned, student):
    far = ~adjacent(learned)
    settings = {"multiplier": 0.8, "tolerance": 0.05, "rho": 2.0, "dual_lr": 0.1, "bound": np.inf}
    state = begin("rfe", whole(learned), static=RFE, **settings)._replace(params=student)
    after, loss = update("rfe", state, padded(rfe.CONSTRAIN), static=RFE, **settings)
    excess = losses(student, padded().retain)[far].mean() - losses(learned, padded().retain)[far].mean() - 0.05
    pressed = max(0.8 + 2.0 * excess, 0.0)
    expected = -losses(student, padded().forget).mean() + (pressed**2 - 0.8**2) / 4.0
    assert abs(excess) > 0.01 and float(loss) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert float(after.extra["multiplier"]) == pytest.approx(max(0.8 + 0.1 * excess, 0.0), rel=1e-4)
    toy.same(after.extra["original"], whole(learned))


def test_rfe_spares_adjacent_data_whatever_adam_makes_of_the_gradient(learned, student):
    near = adjacent(learned)
    state = begin("rfe", whole(learned), static=RFE)._replace(params=student)
    after, loss = update("rfe", state, padded(rfe.PROJECT), static=RFE, w2=0.7, bound=np.inf, lr=1e-3)
    before, now = (outputs(p, padded().retain)[1][near] for p in (learned, student))
    spread = lambda x: np.sqrt(x.var(axis=0) + 1e-6)
    pull = np.square(before.mean(axis=0) - now.mean(axis=0)).sum() + np.square(spread(before) - spread(now)).sum()
    ascent = losses(student, padded().forget).mean()
    assert float(loss) == pytest.approx(0.7 * pull - ascent, rel=1e-3)
    g = flat(slope(student, batch(toy.KEPT[:8][near])))
    step = flat(moved(after.params, student))
    assert step @ g <= 1e-3 * np.linalg.norm(step) * np.linalg.norm(g)
    assert losses(after.params, padded().forget).mean() > ascent


def test_rfe_has_as_many_updates_of_each_kind():
    plan = rfe.plan(toy.SIZES, {"steps": 7, "batch": 8}, Recipe())
    np.testing.assert_array_equal(plan.phase, [rfe.CONSTRAIN] * 7 + [rfe.PROJECT] * 7)
