"""Methods that choose which weights move: SalUn, l1-sparse, EU-k and CF-k; by NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from steps import (
    PLAIN,
    backward,
    batch,
    begin,
    both,
    combined,
    difference,
    entropy_slope,
    followed,
    logits,
    loss_gradient,
    other,
    update,
)

from unlearn_jax.methods import METHODS, salun
from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.models import build_model

# --- SalUn ---------------------------------------------------------------------------------------------------------


def top_by_numpy(tree, share):
    """The mask by sorting, for scores without ties."""
    flat = np.concatenate([np.abs(np.asarray(x)).ravel() for x in jax.tree.leaves(tree)])
    kept = np.sort(flat)[::-1][: round(share * flat.size)]
    least = kept.min() if kept.size else np.inf
    return jax.tree.map(lambda x: (np.abs(np.asarray(x)) >= least).astype(np.float32), tree)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 1.0])
def test_saluns_share_is_of_all_tensors_together_and_exact(share):
    rng = np.random.default_rng(0)
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
    for step, phase in enumerate((salun.WRONG, salun.TRUE, salun.TRUE)):
        state, _ = update("salun", state, both(phase=phase), key=step, static=static, weight_decay=0.3, lr=0.1)
    for mask, a, b in zip(*map(jax.tree.leaves, (state.extra["mask"], teacher["params"], state.params))):
        np.testing.assert_array_equal(np.asarray(a != b), np.asarray(mask) == 1)
    shapes = [x.shape for x in jax.tree.leaves(state.params)]
    moments = [x for x in jax.tree.leaves(state.optimizer) if x.ndim]
    assert [x.shape for x in moments] == shapes * (1 if optimizer == "sgd" else 2)
    for mask, moment in zip(jax.tree.leaves(state.extra["mask"]) * 2, moments):
        assert (np.asarray(moment)[np.asarray(mask) == 0] == 0).all() and np.abs(moment).max() > 0


def test_salun_fits_labels_drawn_anew_and_in_passes_of_their_own_the_true_ones(teacher):
    state, given = begin("salun", teacher), both(phase=salun.WRONG)
    drawn = wrong_labels(jax.random.fold_in(jax.random.key(4), 7), given.forget, toy.CLASSES, True)
    after, loss = update("salun", state, given, key=4, retain_weight=0.5, **PLAIN)
    expected, slope = loss_gradient(teacher["params"], given.forget, drawn)
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    followed(teacher["params"], after.params, slope)
    again, _ = update("salun", state, given, key=5, retain_weight=0.5, **PLAIN)
    assert difference(again.params, after.params) > 0
    after, loss = update("salun", state, both(phase=salun.TRUE), key=4, retain_weight=0.5, **PLAIN)
    expected, slope = loss_gradient(teacher["params"], given.retain)
    assert float(loss) == pytest.approx(0.5 * expected, rel=1e-4)
    followed(teacher["params"], after.params, combined((0.5, slope)))


def test_salun_scans_the_request_once_before_it_cuts_and_fits():
    plan = salun.plan(toy.SIZES, METHODS["salun"].static | {"epochs": 2, "batch": 4}, Recipe())
    np.testing.assert_array_equal(plan.phase, [0] * 3 + [1] + ([2] * 3 + [3] * 10) * 2)
    np.testing.assert_array_equal(plan.forget_step[:3], [0, 1, 2])
    assert plan.forget_pass == 3 and plan.forget_cost[3] == plan.retain_cost[:7].sum() == 0


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
