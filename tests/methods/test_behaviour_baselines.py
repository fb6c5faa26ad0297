"""What makes each of the common baselines that method, against closed forms and plain NumPy."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import log_softmax, softmax
from scipy.stats import kstest
from steps import (
    SGD,
    backward,
    batch,
    begin,
    both,
    combined,
    cross_entropy,
    difference,
    entropy_slope,
    finish,
    forward,
    gradient,
    logits,
    loss_gradient,
    nudged,
    update,
)

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, amun, boundary_shrink, jit_lipschitz, rurk, salun, scrub, scrub_r, unsir
from unlearn_jax.methods.common import Recipe, Trained
from unlearn_jax.methods.parts import attacked
from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.models import build_model, standardize
from unlearn_jax.types import Batch

RNG = np.random.default_rng
LN_K = float(np.log(toy.CLASSES))
PLAIN = {"lr": 1.0, "weight_decay": 0.0}  # with descent, and at first with momentum: an update by the gradient itself


@pytest.fixture(scope="module")
def teacher(original):
    """One member that has memorised the request."""
    return jax.tree.map(jnp.asarray, toy.member(original, 0))


@pytest.fixture(scope="module")
def student(teacher):
    """Parameters some way off the teacher's."""
    return nudged(teacher["params"])


def other(some, shift=1.0, labels=1):
    """The same slots with other pixels and labels."""
    return some._replace(inputs=-some.inputs + shift, targets=(some.targets + labels) % toy.CLASSES)


def followed(before, after, expected, lr=1.0, tolerance=2e-5):
    """Assert that a plain descent has followed the expected gradient, and that there was one."""
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-3
    found = gradient(before, after, lr)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=tolerance)


# --- SalUn ---------------------------------------------------------------------------------------------------------


def top_by_numpy(tree, share):
    """The mask by sorting, for scores without ties."""
    flat = np.concatenate([np.abs(np.asarray(x)).ravel() for x in jax.tree.leaves(tree)])
    kept = np.sort(flat)[::-1][: round(share * flat.size)]
    least = kept.min() if kept.size else np.inf
    return jax.tree.map(lambda x: (np.abs(np.asarray(x)) >= least).astype(np.float32), tree)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 1.0])
def test_saluns_share_is_of_all_tensors_together_and_exact(share):
    rng = RNG(0)
    scores = {"large": jnp.asarray(rng.normal(size=(9, 7)), jnp.float32)}
    scores["small"] = jnp.asarray(0.01 * rng.normal(size=37), jnp.float32)
    top = jax.jit(salun.top_share)
    toy.same(jax.device_get(top(scores, jnp.float32(share))), top_by_numpy(scores, share))
    dead = jax.tree.map(
        lambda x: jnp.where(jnp.arange(x.size).reshape(x.shape) % 4 == 0, x, 0.0), scores
    )  # three quarters are 0
    mask = jax.device_get(top(dead, jnp.float32(share)))
    assert sum(x.sum() for x in mask.values()) == round(share * 100)
    assert share < 0.5 or all((mask[k][np.asarray(dead[k]) != 0] == 1).all() for k in dead)


def gathered(teacher, keep=0.3, static=()):
    """SalUn's state with its mask, from two batches of which one has a dead slot, and the state before the cut."""
    state, some = begin("salun", teacher, static=static), batch(toy.REQUESTED[5:], weight=[1, 1, 1, 1, 0])
    for forget in (batch(toy.REQUESTED[:5]), some):
        state, _ = update("salun", state, both(forget, phase=salun.GATHER), static=static)
    return update("salun", state, both(phase=salun.CUT), static=static, keep=keep)[0], state


def test_saluns_mask_is_the_top_share_by_the_summed_signed_gradient(teacher):
    state, before = gathered(teacher)
    some = batch(toy.REQUESTED[:9])
    slope = entropy_slope(logits(teacher["params"], some), some.targets)
    summed, _ = backward(teacher["params"], some.inputs, slope)
    toy.close(before.extra["sum"], summed, 1e-5)
    single = [backward(teacher["params"], some.inputs[i : i + 1], slope[i : i + 1])[0] for i in range(9)]
    of_sizes = jax.tree.map(lambda *xs: sum(np.abs(x) for x in xs), *single)
    toy.same(jax.device_get(state.extra["mask"]), top_by_numpy(summed, 0.3))
    assert difference(top_by_numpy(of_sizes, 0.3), top_by_numpy(summed, 0.3)) == 1  # another rule, another mask
    toy.same(state.params, teacher["params"])


@pytest.mark.parametrize(
    "optimizer, static", [("sgd", ()), pytest.param("adam", (("optimizer", "adam"),), marks=pytest.mark.slow)]
)
def test_weights_outside_saluns_mask_stay_bit_identical_and_all_others_move(optimizer, static, teacher):
    state, _ = gathered(teacher, static=static)
    for step in range(3):
        state, _ = update("salun", state, both(phase=salun.FIT), key=step, static=static, weight_decay=0.3, lr=0.1)
    for mask, a, b in zip(*map(jax.tree.leaves, (state.extra["mask"], teacher["params"], state.params))):
        np.testing.assert_array_equal(np.asarray(a != b), np.asarray(mask) == 1)
    shapes = [x.shape for x in jax.tree.leaves(state.params)]
    moments = [x for x in jax.tree.leaves(state.optimizer) if x.ndim]
    assert [x.shape for x in moments] == shapes * (1 if optimizer == "sgd" else 2)
    for mask, moment in zip(jax.tree.leaves(state.extra["mask"]) * 2, moments):
        assert (np.asarray(moment)[np.asarray(mask) == 0] == 0).all() and np.abs(moment).max() > 0


def test_salun_fits_labels_drawn_anew_beside_the_true_ones(teacher):
    state, given = begin("salun", teacher), both(phase=salun.FIT)
    key = jax.random.key(4)
    drawn = wrong_labels(jax.random.fold_in(key, 7), given.forget, toy.CLASSES, True)
    after, loss = update("salun", state, given, key=4, retain_weight=0.5, **PLAIN)
    parts = [loss_gradient(teacher["params"], given.forget, drawn), loss_gradient(teacher["params"], given.retain)]
    assert float(loss) == pytest.approx(parts[0][0] + 0.5 * parts[1][0], rel=1e-4)
    followed(teacher["params"], after.params, combined((1.0, parts[0][1]), (0.5, parts[1][1])))
    again, _ = update("salun", state, given, key=5, retain_weight=0.5, **PLAIN)
    assert difference(again.params, after.params) > 0


def test_salun_scans_the_request_once_before_it_cuts_and_fits():
    plan = salun.plan(toy.SIZES, METHODS["salun"].static | {"epochs": 2, "batch": 4}, Recipe())
    np.testing.assert_array_equal(plan.phase, [0] * 3 + [1] + [2] * 20)
    np.testing.assert_array_equal(plan.forget_step[:3], [0, 1, 2])
    assert plan.forget_pass == 3 and plan.forget_cost[3] == plan.retain_cost[:4].sum() == 0


# --- bad teacher ---------------------------------------------------------------------------------------------------


def divergence(p, q, temperature=1.0):
    """(B,) temperature^2 KL by NumPy."""
    p, q = log_softmax(p / temperature, axis=1), log_softmax(q / temperature, axis=1)
    return temperature**2 * (np.exp(p) * (p - q)).sum(axis=1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_bad_teachers_loss_is_a_mean_over_the_mixtures_examples(temperature, teacher, student):
    state, given = begin("bad_teacher", teacher, static=SGD)._replace(params=student), both()
    _, loss = update("bad_teacher", state, given, temperature=temperature, static=SGD)
    bad = divergence(*(logits(p, given.forget) for p in (state.extra["bad"]["params"], student)), temperature)
    good = divergence(*(logits(p, given.retain) for p in (teacher["params"], student)), temperature)
    assert float(loss) == pytest.approx((bad.sum() + good.sum()) / 13, rel=1e-4)  # not over 13 x classes


def test_bad_teachers_gradient_at_the_original_is_that_of_the_request_alone(teacher):
    state, given = begin("bad_teacher", teacher, static=SGD), both()
    after, _ = update("bad_teacher", state, given, static=SGD, **PLAIN)
    own, bad = (softmax(logits(p, given.forget), axis=1) for p in (teacher["params"], state.extra["bad"]["params"]))
    followed(teacher["params"], after.params, backward(teacher["params"], given.forget.inputs, (own - bad) / 13)[0])


def test_the_incompetent_teacher_is_drawn_by_key_and_nobody_reads_labels(teacher):
    first, second = (begin("bad_teacher", teacher, key=key, static=SGD) for key in (1, 2))
    toy.same(first.extra["good"], teacher)
    for a, b in ((first, second), (first, first._replace(extra={"bad": teacher}))):
        assert difference(a.extra["bad"]["params"], b.extra["bad"]["params"]) > 0.1
    broken = jax.tree.map(lambda x: x * jnp.nan, teacher)
    toy.same(begin("bad_teacher", broken, static=SGD).extra["bad"], first.extra["bad"])
    given, moved = both(), first._replace(params=nudged(teacher["params"]))
    blind = given._replace(
        **{part: getattr(given, part)._replace(targets=jnp.zeros_like(getattr(given, part).targets))
           for part in ("forget", "retain")}
    )  # fmt: skip
    toy.same(*(update("bad_teacher", moved, some, static=SGD)[0].params for some in (given, blind)))


def test_bad_teachers_mixture_holds_the_request_and_the_share_of_the_rest():
    sizes = toy.SIZES._replace(forget=100, retain=1000)
    plan = METHODS["bad_teacher"].plan(sizes, METHODS["bad_teacher"].static | {"epochs": 4, "batch": 40}, Recipe())
    assert plan.steps == 4 * 10 and (plan.forget_batch, plan.retain_batch) == (10, 30)


# --- l1-sparse -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [0.0, 0.5, 1.0])
def test_the_l1_penalty_fades_linearly_to_zero_and_pulls_every_weight(tail, teacher):
    static, alpha = (("tail", tail),) if tail else (), 0.02
    state = begin("l1_sparse", teacher, static=static)
    loss, plain = loss_gradient(teacher["params"], both().retain)
    sign = jax.tree.map(lambda x: np.sign(np.asarray(x, np.float64)), teacher["params"])
    size = sum(np.abs(np.asarray(x, np.float64)).sum() for x in jax.tree.leaves(teacher["params"]))
    for progress in (0.0, 0.2, 0.5, 0.9):
        fade = max(0.0, 1 - progress / (1 - tail)) if tail < 1 else 0.0
        after, found = update("l1_sparse", state, both(progress=progress), static=static, alpha=alpha, **PLAIN)
        assert float(found) == pytest.approx(loss + alpha * fade * size, rel=1e-4)
        followed(teacher["params"], after.params, combined((1.0, plain), (alpha * fade, sign)))


# --- the last layers alone -----------------------------------------------------------------------------------------


def test_eu_k_draws_a_new_head_that_owes_nothing_to_the_original(teacher):
    broken = teacher | {
        "params": teacher["params"] | {"head": jax.tree.map(lambda x: x + jnp.nan, teacher["params"]["head"])}
    }
    start = begin("eu_k", teacher).params
    toy.same(begin("eu_k", broken).params, start)
    toy.same(start["dense0"], teacher["params"]["dense0"])
    assert difference(start["head"]["kernel"], teacher["params"]["head"]["kernel"]) > 0.1
    assert difference(begin("eu_k", teacher, key=2).params["head"], start["head"]) > 0.1
    both_groups = (("k", 2),)
    nothing = jax.tree.map(lambda x: x + jnp.nan, teacher)
    toy.same(begin("eu_k", nothing, static=both_groups), begin("eu_k", teacher, static=both_groups))


def test_cf_k_starts_from_the_original(teacher):
    toy.same(begin("cf_k", teacher).params, teacher["params"])


@pytest.mark.parametrize("name", ["eu_k", "cf_k"])
def test_the_last_layers_alone_follow_the_retained_data(name, teacher):
    start = begin(name, teacher)
    after, loss = update(name, start, both(), **PLAIN)
    expected, slope = loss_gradient(start.params, both().retain)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    followed(start.params["head"], after.params["head"], slope["head"])
    state = begin(name, teacher)
    for step in range(3):
        state, _ = update(name, state, both(), key=step, lr=0.1, weight_decay=0.3)
    toy.same(state.params["dense0"], teacher["params"]["dense0"])
    assert difference(state.params["head"]["kernel"], start.params["head"]["kernel"]) > 1e-2
    blind = both(forget=other(both().forget))
    toy.same(update(name, start, blind, **PLAIN)[0].params, after.params)


@pytest.mark.parametrize("k", [0, 3])
def test_a_count_of_layers_that_the_model_lacks_is_refused(k, teacher):
    with pytest.raises(InputError, match=f"k is {k} and the model has 2 groups of layers"):
        begin("eu_k", teacher, static=(("k", k),))


def test_statistics_of_re_drawn_layers_are_new_and_of_the_others_kept():
    model = build_model("convnet", toy.CLASSES, toy.SHAPE, widths=(2, 2), norm="batch")
    fresh = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])
    old = fresh | {"state": jax.tree.map(lambda x: x + 0.5, fresh["state"])}
    start = begin("eu_k", old, model=model, static=(("k", 2),))
    assert set(start.params) == {"block0", "block1", "head"}
    toy.same(start.state["batch_stats"]["block0"], old["state"]["batch_stats"]["block0"])
    toy.same(start.state["batch_stats"]["block1"], fresh["state"]["batch_stats"]["block1"])
    after, _ = update("eu_k", start, both(), model=model, static=(("k", 2),))
    toy.same(after.state, start.state)


# --- boundary shrink and expand ------------------------------------------------------------------------------------

MEAN, STD = 0.5, 0.25


@pytest.fixture(scope="module")
def images():
    """A perceptron that takes raw images, two sets of its weights, and 24 grey images (float32 in [0, 1])."""
    model = standardize(toy.perceptron(), mean=(MEAN,), std=(STD,))
    rng = RNG(3)
    make = jax.jit(toy.perceptron().init)
    weights = [make(jax.random.key(i), jnp.zeros((1, *toy.SHAPE)))["params"] for i in range(2)]
    grey = jnp.asarray(rng.integers(0, 256, (24, *toy.SHAPE)), jnp.uint8)
    labels = jnp.argmax(model.apply({"params": weights[0], "state": {}}, grey)[0].logits, axis=1).astype(jnp.int32)
    some = Batch(grey, labels.at[:4].set((labels[:4] + 1) % 3), jnp.ones(24), jnp.arange(24, dtype=jnp.int32))
    return model, weights, some


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
def test_boundary_shrinks_label_is_that_of_the_signed_neighbour(certain, images):
    model, (weights, _), some = images
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


def test_boundary_shrink_asks_the_frozen_original_and_fits_its_answer(images):
    model, (weights, moved), some = images
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


# --- UNSIR ---------------------------------------------------------------------------------------------------------

NOISY = (("momentum", 0.0), ("noises", 12))
LEARN, IMPAIR, REPAIR = unsir.NOISE, unsir.IMPAIR, unsir.REPAIR


@pytest.fixture(scope="module")
def of_one_class():
    """Six kept examples of class 1."""
    return batch(toy.KEPT[np.asarray(toy.stored().targets)[toy.KEPT] == 1][:6])


@pytest.fixture(scope="module")
def spoiled(teacher, of_one_class):
    """UNSIR's states before, after one and after all updates of its noise."""
    states = [begin("unsir", teacher, static=NOISY)]
    for _ in range(40):
        states.append(update("unsir", states[-1], both(of_one_class, phase=LEARN), static=NOISY)[0])
    return states[0], states[1], states[-1]


def test_unsirs_noise_starts_normal_and_raises_the_originals_loss_before_weights_move(spoiled, teacher):
    loss = lambda state: cross_entropy(forward(teacher["params"], state.extra["noise"])[-1], np.ones(12, int)).mean()
    start, _, last = spoiled
    assert loss(last) > loss(start) + 2 * LN_K and loss(last) > 3 * LN_K
    toy.same(last.params, teacher["params"])
    np.testing.assert_array_equal(np.asarray(last.extra["labels"]), 1)
    many = np.asarray(begin("unsir", teacher, static=(("noises", 400),)).extra["noise"])
    assert many.shape == (400, *toy.SHAPE) and kstest(many.ravel(), "norm").pvalue > 1e-3
    assert (
        np.abs(np.asarray(begin("unsir", teacher, key=2, static=NOISY).extra["noise"] - start.extra["noise"])).max() > 1
    )


def test_unsirs_noise_descends_minus_the_loss_plus_the_mean_squared_length(spoiled, teacher, of_one_class):
    start, first, _ = spoiled
    noise = np.asarray(start.extra["noise"], np.float64)
    slope = entropy_slope(forward(teacher["params"], noise)[-1], np.ones(12, int)) / 12
    steep = 2 * 0.1 * noise / 12 - backward(teacher["params"], noise, slope)[1]
    clear = np.abs(steep) > 1e-5
    assert clear.mean() > 0.9
    moved = np.asarray(first.extra["noise"], np.float64) - noise  # Adam's first step is the rate by the sign
    np.testing.assert_allclose(moved[clear], -0.1 * np.sign(steep[clear]), rtol=2e-3)
    _, value = update("unsir", start, both(of_one_class, phase=LEARN), static=NOISY, penalty=0.3)
    lost = cross_entropy(forward(teacher["params"], noise)[-1], np.ones(12, int)).mean()
    assert float(value) == pytest.approx(-lost + 0.3 * (noise**2).sum() / 12, rel=1e-4)
    blind = both(other(of_one_class, labels=0), other(both().retain), phase=LEARN)
    toy.same(update("unsir", start, blind, static=NOISY)[0].extra, first.extra)  # labels, not images


def test_unsir_impairs_on_noise_beside_retained_data_and_repairs_on_these(spoiled, teacher, of_one_class):
    last, rule = spoiled[2], {"lr": 1.0, "static": NOISY}
    noise = of_one_class._replace(inputs=last.extra["noise"], targets=np.ones(12, int))
    wrong, kept = loss_gradient(teacher["params"], noise), loss_gradient(teacher["params"], both().retain)
    after, loss = update("unsir", last, both(of_one_class, phase=IMPAIR), **rule)
    assert float(loss) == pytest.approx((12 * wrong[0] + 8 * kept[0]) / 20, rel=1e-4)
    followed(teacher["params"], after.params, combined((12 / 20, wrong[1]), (8 / 20, kept[1])), tolerance=1e-4)
    np.testing.assert_array_equal(after.extra["noise"], last.extra["noise"])
    healed, _ = update("unsir", last, both(of_one_class, phase=REPAIR), repair=0.25, **rule)
    followed(teacher["params"], healed.params, combined((0.25, kept[1])))
    blind = both(other(of_one_class), phase=REPAIR)
    toy.same(update("unsir", last, blind, repair=0.25, **rule)[0].params, healed.params)


def test_unsir_without_a_request_impairs_nothing(spoiled, teacher):
    none = batch(np.zeros(6, int), weight=np.zeros(6))
    after, loss = update("unsir", spoiled[2], both(none, phase=IMPAIR), lr=1.0, static=NOISY)
    kept = loss_gradient(teacher["params"], both().retain)
    assert float(loss) == pytest.approx(8 / 20 * kept[0], rel=1e-4)
    followed(teacher["params"], after.params, combined((8 / 20, kept[1])))


def test_unsir_learns_noise_then_impairs_then_repairs():
    static = METHODS["unsir"].static | {"epochs": 2, "batch": 16, "noise_steps": 5}
    plan = unsir.plan(toy.SIZES, static, Recipe())
    np.testing.assert_array_equal(plan.phase, [LEARN] * 5 + [IMPAIR] * 6 + [REPAIR] * 6)
    assert plan.grad_evals_forget == pytest.approx(11 * 20) and plan.grad_evals_retain == 12 * 16


# --- DELETE --------------------------------------------------------------------------------------------------------


def test_delete_distils_the_original_without_the_true_class(teacher, student):
    state, some = begin("delete", teacher)._replace(params=student), both().forget
    after, loss = update("delete", state, both(), **PLAIN)
    true = np.eye(toy.CLASSES)[np.asarray(some.targets)] > 0
    own, found = softmax(logits(teacher["params"], some), axis=1), softmax(logits(student, some), axis=1)
    target = np.where(true, 0.0, own) / np.where(true, 0.0, own).sum(axis=1, keepdims=True)
    ratio = np.divide(target, found, out=np.ones_like(target), where=~true)
    assert float(loss) == pytest.approx((target * np.log(ratio)).sum(axis=1).mean(), rel=1e-4)
    slope = (found - target) / 5  # the true logit's is its probability
    assert (slope[true] > 0.05 / 5).all()
    followed(student, after.params, backward(student, some.inputs, slope)[0])
    toy.same(after.extra, teacher)
    toy.same(update("delete", state, both(retain=other(both().retain)), **PLAIN)[0].params, after.params)


# --- JiT -----------------------------------------------------------------------------------------------------------


def test_jits_ratio_and_gradient_on_a_linear_model_equal_the_closed_form():
    model, draws = build_model("linear", toy.CLASSES, toy.SHAPE), 4
    variables, static = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1]), (*SGD, ("draws", draws))
    state = begin("jit_lipschitz", variables, model=model, static=static)
    after, loss = update("jit_lipschitz", state, both(), key=9, model=model, static=static, noise=0.3, **PLAIN)
    keys = jax.random.split(jax.random.key(9), draws)
    noise = np.stack([np.asarray(jax.random.normal(k, (5, *toy.SHAPE))).reshape(5, -1) for k in keys]).astype(float)
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    size, through = np.linalg.norm(noise, axis=2, keepdims=True), noise @ kernel
    stretch = np.linalg.norm(through, axis=2, keepdims=True)
    assert float(loss) == pytest.approx((stretch / size).mean(), rel=1e-4)  # whatever the size of the noise
    slope = np.einsum("dbi,dbk->ik", noise, through / stretch / size) / (draws * 5)
    followed(kernel, after.params["head"]["kernel"], slope)
    toy.same(after.params["head"]["bias"], state.params["head"]["bias"])
    blind = both(both().forget._replace(targets=jnp.zeros(5, jnp.int32)), other(both().retain))
    same, _ = update("jit_lipschitz", state, blind, key=9, model=model, static=static, noise=0.3, **PLAIN)
    toy.same(same.params, after.params)
    other_noise, _ = update("jit_lipschitz", state, both(), key=8, model=model, static=static, noise=0.3, **PLAIN)
    assert difference(other_noise.params, after.params) > 1e-4


def test_jits_noise_is_in_pixels_of_zero_to_one(images):
    model, (weights, _), some = images
    own = {"params": weights, "state": {}}
    grey = some.inputs.astype(jnp.float32) / 255
    found = lambda m, inputs, noise: jit_lipschitz.sensitivity(
        toy.problem(m), own, some._replace(inputs=inputs), jax.random.key(0), jnp.float32(noise), 2
    )
    measure = lambda: (found(model, some.inputs, 0.1), found(model, grey, 0.1))
    raw, scaled, inside = jax.jit(lambda: (*measure(), found(toy.perceptron(), (grey - MEAN) / STD, 0.1 / STD)))()
    np.testing.assert_allclose(raw, scaled, rtol=1e-5)
    np.testing.assert_allclose(raw, inside / STD, rtol=1e-3)  # the same noise, in standard deviations


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


# --- SCRUB+R -------------------------------------------------------------------------------------------------------

REWIND = METHODS["scrub_r"].static | {"forget_batch": 4, "batch": 16, "epochs": 4, "max_epochs": 2}


def test_scrub_r_keeps_a_copy_after_each_epoch_and_costs_what_scrub_costs():
    own, base = scrub_r.plan(toy.SIZES, REWIND, Recipe()), scrub.plan(toy.SIZES, REWIND, Recipe())
    copies = own.phase == scrub_r.KEEP
    for column in ("phase", "forget_step", "retain_step", "rate", "forget_cost", "retain_cost"):
        np.testing.assert_array_equal(getattr(own, column)[~copies], getattr(base, column))
        assert getattr(own, column).dtype == getattr(base, column).dtype
    np.testing.assert_array_equal(np.flatnonzero(copies), [6, 13, 17, 21])  # epochs of 3 + 3, 3 + 3, 3 and 3 updates
    assert own.grad_evals_forget == pytest.approx(base.grad_evals_forget)
    assert own.grad_evals_retain == pytest.approx(base.grad_evals_retain)
    assert own.forget_pass == base.forget_pass


def constant(label):
    """Parameters that give every input one label."""
    zero = jax.tree.map(jnp.zeros_like, jax.jit(toy.perceptron().init)(jax.random.key(0), toy.stored().inputs[:1]))
    return zero["params"] | {"head": zero["params"]["head"] | {"bias": 5.0 * jax.nn.one_hot(label, toy.CLASSES)}}


def labelled(counts, dead=0):
    """Examples with so many of each label, and some without weight."""
    targets = np.repeat([0, 1, 2], counts)
    weight = np.concatenate([np.ones(len(targets)), np.zeros(dead)])
    targets = np.concatenate([targets, np.zeros(dead)])
    inputs = jnp.zeros((len(targets), *toy.SHAPE))
    return {"inputs": inputs, "targets": jnp.asarray(targets, jnp.int32), "weight": jnp.asarray(weight, jnp.float32)}


THREE = (("epochs", 3),)


def rewinding(variables, unseen=(5, 3, 2)):
    """SCRUB+R's start for three epochs, with ten requested examples, ten unseen ones, and slots without weight."""
    return begin(
        "scrub_r", variables | {"request": labelled([5, 3, 2], 9), "unseen": labelled(unseen, 5)}, static=THREE
    )


@pytest.mark.parametrize("unseen, chosen", [([5, 2, 3], 1), ([2, 7, 1], 2), ([2, 2, 6], 0)])
def test_scrub_r_returns_the_epoch_whose_error_is_nearest_the_last_models_on_unseen_examples(unseen, chosen, teacher):
    state = rewinding(teacher, unseen)
    for label in range(3):  # errors on the request .5, .7 and .8; the last model's on the unseen 1 - unseen[2] / 10
        state = state | {"trained": state["trained"]._replace(params=constant(label))}
        state, _ = update("scrub_r", state, both(phase=scrub_r.KEEP), static=THREE)
    assert int(state["epoch"]) == 3
    toy.same(finish("scrub_r", state, static=THREE), {"params": constant(chosen), "state": {}})


@pytest.mark.parametrize("phase", [scrub.MAX, scrub.MIN])
def test_scrub_r_moves_as_scrub_does(phase, teacher, student):
    state = rewinding(teacher)
    state = state | {"trained": state["trained"]._replace(params=student)}
    after, _ = update("scrub_r", state, both(phase=phase), static=THREE)
    base, _ = update("scrub", begin("scrub", teacher)._replace(params=student), both(phase=phase))
    toy.close(after["trained"].params, base.params, 1e-6)
    toy.same(after["kept"], state["kept"])
    kept, _ = update("scrub_r", after, both(phase=scrub_r.KEEP), static=THREE)
    toy.same(kept["trained"], after["trained"])
    toy.same(jax.tree.map(lambda x: x[0], kept["kept"]["params"]), after["trained"].params)


def test_scrub_r_looks_at_as_many_held_out_examples_of_each_class_as_were_requested():
    targets = np.repeat([0, 1, 2], 20)
    stored = types.SimpleNamespace(inputs=np.arange(60.0)[:, None], targets=targets)
    heldout = [np.r_[5:20, 25:40, 59], np.r_[5:20, 25:40]]
    requested = [np.array([0, 1, 20, 40, 41]), np.array([2])]
    context = types.SimpleNamespace(seed=0, stored=stored, requested=requested, heldout=heldout)
    found, cost = scrub_r.begin(context, {}, {"params": 1})
    assert cost == (0.0, 0.0) and found["params"] == 1
    for i, counts in enumerate(([2, 1, 1], [1, 0, 0])):  # the third class has one held-out example only
        live = found["unseen"]["weight"][i] == 1
        rows = found["unseen"]["inputs"][i, live, 0].astype(int)
        np.testing.assert_array_equal(np.bincount(found["unseen"]["targets"][i][live], minlength=3), counts)
        assert set(rows) <= set(heldout[i]) and len(set(rows)) == len(rows)
        asked = found["request"]["weight"][i] == 1
        np.testing.assert_array_equal(found["request"]["inputs"][i, asked, 0], requested[i])
    context.requested[1] = np.array([40])
    with pytest.raises(InputError, match="held-out examples of the request's classes and there are none"):
        scrub_r.begin(context, {}, {"params": 1})


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
    images = ascended(teacher["params"], some, radius)
    labels = forward(teacher["params"], images)[-1].argmax(axis=1)
    crossed = labels != np.asarray(some.targets)
    assert 2 <= crossed.sum() <= 18
    state = begin("amun", teacher)._replace(params=student)
    after, loss = update("amun", state, both(some), radius=radius, **PLAIN)
    fitted = some._replace(inputs=images[crossed], targets=labels[crossed])
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
    images, labels = jax.device_get(attack(own))
    assert (labels != np.asarray(some.targets)).all()
    np.testing.assert_array_equal(labels, logits(own["params"], some._replace(inputs=images)).argmax(axis=1))
    gone = np.linalg.norm((images - np.asarray(some.inputs)).reshape(8, -1), axis=1)
    assert (gone <= 4.0 * (1 + 1e-5)).all()


# --- RURK ----------------------------------------------------------------------------------------------------------


def test_points_are_uniform_in_the_ball():
    images = jnp.full((4000, 2, 3, 1), 0.4)
    moved = np.asarray(jax.jit(rurk.in_ball)(jax.random.key(0), images, 0.7) - images, np.float64).reshape(4000, 6)
    radius = np.linalg.norm(moved, axis=1)
    assert radius.max() <= 0.7 * (1 + 1e-5)
    assert kstest((radius / 0.7) ** 6, "uniform").pvalue > 1e-3  # a ball's volume grows with the sixth power
    assert np.abs((moved / radius[:, None]).mean(axis=0)).max() < 5 / np.sqrt(6 * 4000)
    assert np.abs(moved.T @ moved / 4000 - 0.49 / 8 * np.eye(6)).max() < 5 * 0.49 / 8 * np.sqrt(2 / 4000)


def test_rurk_descends_on_retained_data_and_ascends_on_points_around_the_request(teacher, student):
    state, given = Trained(student, {}, begin("rurk", teacher, static=SGD).optimizer), both()
    rule = {"static": SGD, "weight": 0.4, "radius": 0.8, **PLAIN}
    after, loss = update("rurk", state, given, key=6, bound=np.inf, **rule)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(6), 1), METHODS["rurk"].static["draws"])
    around = [given.forget._replace(inputs=rurk.in_ball(key, given.forget.inputs, 0.8)) for key in keys]
    kept, lost = loss_gradient(student, given.retain), [loss_gradient(student, some) for some in around]
    assert float(loss) == pytest.approx(kept[0] - 0.4 * np.mean([x for x, _ in lost]), rel=1e-3)
    share = 0.4 / len(keys)
    followed(student, after.params, combined((1.0, kept[1]), *((-share, slope) for _, slope in lost)))
    still, _ = update("rurk", state, given, key=6, bound=0.0, **rule)
    followed(student, still.params, kept[1])
