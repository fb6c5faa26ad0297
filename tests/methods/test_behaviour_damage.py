"""The challenge's entries that damage the original and mend it: CFW, CT, RNI, PRMQ and KDE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import log_softmax
from scipy.stats import kstest
from steps import (
    SGD,
    begin,
    convnet,
    finish,
    flat,
    followed,
    losses,
    moved,
    outputs,
    padded,
    slope,
    tensors,
    update,
    whole,
)

from unlearn_jax.methods import ct, kde, prmq, rni
from unlearn_jax.methods.common import Recipe
from unlearn_jax.models import build_model

# --- CFW, CT, RNI: noise and transposition before a fine-tune ------------------------------------------------------


def test_cfw_shakes_convolutions_by_their_own_spread():
    model, params = convnet()
    start = lambda key, **hp: begin("cfw", whole(params), model=model, key=key, **hp).params
    for name, before in tensors(params).items():
        after, other = tensors(start(1))[name], tensors(start(2))[name]
        if before.ndim < 4:
            np.testing.assert_array_equal(after, before)
        else:
            drawn = ((after - before) / (0.6 * before.std())).ravel()
            assert kstest(drawn, "norm").pvalue > 1e-3 and abs(np.corrcoef(drawn, (other - before).ravel())[0, 1]) < 0.6
    toy.same(start(1, noise=0.0), params)


@pytest.mark.parametrize("name, settings", [("cfw", {"noise": 0.0, "class_weight": 0.7}), ("ct", {})])
def test_the_fine_tune_is_plain_descent_on_the_retained_data(name, settings, learned):
    state = begin(name, whole(learned), static=SGD, **settings)
    after, loss = update(name, state, padded(), static=SGD, lr=0.1, weight_decay=0.0, **settings)
    factor = settings.get("class_weight", 1.0)
    assert float(loss) == pytest.approx(factor * losses(state.params, padded().retain).mean(), rel=1e-4)
    way = jax.tree.map(lambda g: factor * g, slope(state.params, padded().retain))
    followed(state.params, after.params, way, 0.1, 1e-5)


def test_ct_exchanges_the_spatial_axes_of_every_convolution_and_nothing_else():
    model, params = convnet()
    after = begin("ct", whole(params), model=model).params
    kinds = set()
    for name, before in tensors(params).items():
        turned = np.einsum("hwio->whio", before) if before.ndim == 4 else before
        np.testing.assert_array_equal(tensors(after)[name], turned)
        kinds.add((before.ndim == 4, bool((turned != before).any())))
    assert (True, True) in kinds and (False, True) not in kinds
    toy.same(ct.transposed(toy.problem(model), after), params)  # its own inverse


def test_ct_transposes_square_hidden_kernels_of_a_perceptron_and_never_the_head():
    model = build_model("mlp", toy.CLASSES, toy.SHAPE, widths=(16, 16, 3))
    params = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])["params"]
    after = begin("ct", whole(params), model=model).params
    assert params["head"]["kernel"].shape == (3, 3) and params["dense2"]["kernel"].shape == (16, 3)
    for name in ("dense0", "dense1"):
        np.testing.assert_array_equal(after[name]["kernel"], params[name]["kernel"].T)
        np.testing.assert_array_equal(after[name]["bias"], params[name]["bias"])
    toy.same({n: after[n] for n in ("dense2", "head")}, {n: params[n] for n in ("dense2", "head")})


@pytest.mark.parametrize("count", [1, 3, 50])
def test_rni_shakes_as_many_tensors_as_asked(count):
    model, params = convnet()
    leaves = len(jax.tree.leaves(params))
    state = begin("rni", whole(params), tensors=count, model=model)
    hit = np.zeros(leaves)
    for key in range(12):
        after, _ = update("rni", state, padded(rni.SHAKE), model=model, key=key, noise=0.04, tensors=count)
        changed = [bool((x != 0).all()) for x in tensors(moved(after.params, params)).values()]
        assert sum(changed) == min(count, leaves)
        noise = np.concatenate([x.ravel() for x in tensors(moved(after.params, params)).values() if x.any()])
        assert noise.std() == pytest.approx(0.04, rel=5 / np.sqrt(2 * noise.size))
        toy.same(after.optimizer, state.optimizer)
        hit += changed
    assert (hit > 0).sum() > min(count, leaves - 1)  # not always the same ones


def test_rni_shakes_once_before_every_epoch():
    plan = rni.plan(toy.SIZES, {"epochs": 3, "batch": 16}, Recipe())
    np.testing.assert_array_equal(plan.phase, [rni.SHAKE, rni.FIT, rni.FIT, rni.FIT] * 3)
    np.testing.assert_array_equal(plan.retain_step[plan.phase == rni.FIT], np.arange(9))
    assert plan.grad_evals_retain == 9 * 16 and plan.grad_evals_forget == 0


# --- PRMQ, KDE: a damaged student of the original ------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.75, 0.99, 1.0])
def test_prmq_prunes_convolution_weights_by_one_threshold(share):
    model, params = convnet()
    after, before = tensors(begin("prmq", whole(params), model=model, prune=share).params), tensors(params)
    size = np.concatenate([np.abs(x).ravel() for x in before.values() if x.ndim == 4])
    least = np.append(np.sort(size), np.inf)[round(share * size.size)]
    for name, x in before.items():
        np.testing.assert_array_equal(after[name], x if x.ndim < 4 else np.where(np.abs(x) >= least, x, 0.0))
    assert sum((x == 0).sum() for n, x in after.items() if before[n].ndim == 4) == round(share * size.size)


def test_prmq_matches_entropies_while_pruned_weights_grow_again(learned):
    state = begin("prmq", whole(learned), static=SGD, prune=0.5)
    toy.same(state.extra["params"], learned)
    after, loss = update("prmq", state, padded(), static=SGD, match=0.7, lr=0.1, weight_decay=0.0)
    own, target = (log_softmax(outputs(p, padded().retain)[0], axis=1) for p in (state.params, learned))
    own, target = (-(np.exp(x) * x).sum(axis=1) for x in (own, target))
    expected = losses(state.params, padded().retain).mean() + 0.7 * np.square(own - target).mean()
    assert float(loss) == pytest.approx(expected, rel=1e-4)
    pruned = np.asarray(state.params["dense0"]["kernel"]) == 0
    assert pruned.sum() == 128 and (np.asarray(after.params["dense0"]["kernel"])[pruned] != 0).mean() > 0.5


def test_prmq_returns_weights_that_half_precision_holds(learned):
    state = begin("prmq", whole(learned), prune=0.0)
    found = finish("prmq", state)
    for x, y in zip(jax.tree.leaves(learned), jax.tree.leaves(found["params"]), strict=True):
        np.testing.assert_array_equal(np.asarray(y), np.asarray(x).astype(np.float16).astype(np.float32))
    assert np.abs(flat(moved(found["params"], learned))).max() > 0
    assert float(prmq.entropy(jnp.zeros((1, 5)))[0]) == pytest.approx(np.log(5))


def test_kde_draws_the_first_and_the_last_layers_anew():
    model = build_model("mlp", toy.CLASSES, toy.SHAPE, widths=(8, 8, 8))
    params = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])["params"]
    state, other = (begin("kde", whole(params), model=model, key=k) for k in (1, 2))
    for name in ("dense0", "head"):
        kernels = [moved(s.params[name], params[name])["kernel"] for s in (state, other)]
        assert (kernels[0] != 0).all() and np.abs(kernels[0] - kernels[1]).max() > 0.01
    middle = lambda tree: {name: tree[name] for name in ("dense1", "dense2")}
    toy.same(middle(state.params), middle(params))
    toy.same(state.extra["params"], params)
    lost = middle(params) | {n: jax.tree.map(lambda x: x * jnp.nan, params[n]) for n in ("dense0", "head")}
    toy.same(begin("kde", whole(lost), model=model).params, state.params)


def test_kde_distils_and_then_mixes_labels_with_predictions(learned):
    state = begin("kde", whole(learned))
    own, target = (log_softmax(outputs(p, padded().retain)[0], axis=1) for p in (state.params, learned))
    _, distil = update("kde", state, padded(kde.DISTIL))
    assert float(distil) == pytest.approx((np.exp(target) * (target - own)).sum(axis=1).mean(), rel=1e-4)
    _, soften = update("kde", state, padded(kde.SOFTEN))
    mixed = 0.5 * np.exp(target) + 0.5 * np.eye(toy.CLASSES)[np.asarray(padded().retain.targets)[:8]]
    assert float(soften) == pytest.approx(-(mixed * own).sum(axis=1).mean(), rel=1e-4)
    plan = kde.plan(toy.SIZES, {"epochs": 2, "batch": 16}, Recipe())
    np.testing.assert_array_equal(plan.phase, [kde.DISTIL] * 6 + [kde.SOFTEN] * 6)
