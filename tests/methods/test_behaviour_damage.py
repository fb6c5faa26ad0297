"""The challenge's entries that damage the original and mend it: CFW, CT and RNI."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.stats import kstest
from steps import SGD, begin, convnet, flat, followed, losses, moved, padded, slope, tensors, update, whole

from unlearn_jax.methods import cfw, ct, rni
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.models import build_model

LONG = {"epochs": 4, "batch": 16}  # passes of 3 batches
COSINE = [1.0, 0.5 + np.sqrt(0.125), 0.5, 0.5 - np.sqrt(0.125)]  # of four epochs

# --- CFW, CT ------------------------------------------------------------------------------------------------------


def test_cfw_shakes_convolutions_by_their_own_spread():
    model, params = convnet()
    start = lambda key, noise=0.6: begin("cfw", whole(params), model=model, key=key, noise=noise).params
    for name, before in tensors(params).items():
        after, other = tensors(start(1))[name], tensors(start(2))[name]
        if before.ndim < 4:
            np.testing.assert_array_equal(after, before)
        else:
            drawn = ((after - before) / (0.6 * before.std())).ravel()
            assert kstest(drawn, "norm").pvalue > 1e-3 and abs(np.corrcoef(drawn, (other - before).ravel())[0, 1]) < 0.6
    toy.same(start(1, noise=0.0), params)


def test_cfw_shakes_a_little_once_more():
    model, params = convnet()
    state = begin("cfw", whole(params), model=model)
    small, large = (update("cfw", state, padded(cfw.SHAKE), model=model, last_noise=s)[0] for s in (0.005, 0.05))
    for name, before in tensors(state.params).items():
        moves = [tensors(s.params)[name] - before for s in (small, large)]
        if before.ndim < 4:
            assert not np.any(moves)
        else:
            assert kstest((moves[1] / (0.05 * before.std())).ravel(), "norm").pvalue > 1e-3
            np.testing.assert_allclose(moves[0], 0.1 * moves[1], atol=1e-6)
    toy.same(small.optimizer, state.optimizer)


def test_cfw_and_ct_follow_a_cosine_of_the_epoch():
    plain = ct.plan(toy.SIZES, LONG, Recipe())
    np.testing.assert_allclose(plain.rate, np.repeat(COSINE, 3), rtol=1e-6)
    shaken = cfw.plan(toy.SIZES, LONG, Recipe())
    np.testing.assert_array_equal(shaken.phase, [cfw.FIT] * 9 + [cfw.SHAKE] + [cfw.FIT] * 3)
    np.testing.assert_allclose(shaken.rate[shaken.phase == cfw.FIT], plain.rate)
    np.testing.assert_array_equal(shaken.retain_step[shaken.phase == cfw.FIT], np.arange(12))
    assert shaken.grad_evals_retain == plain.grad_evals_retain == 12 * 16
    once = cfw.plan(toy.SIZES, LONG | {"epochs": 1}, Recipe())
    assert (once.phase == cfw.FIT).all() and once.steps == 3


@pytest.mark.parametrize(
    "name, settings, phase", [("cfw", {"noise": 0.0, "class_weight": 0.7}, cfw.FIT), ("ct", {}, 0)]
)
def test_the_fine_tune_is_plain_descent_on_the_retained_data(name, settings, phase, learned):
    state = begin(name, whole(learned), static=SGD, **settings)
    after, loss = update(name, state, padded(phase), static=SGD, lr=0.1, weight_decay=0.0, **settings)
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


# --- RNI -------------------------------------------------------------------------------------------------------------


def _rni(params, model, **settings):
    """RNI's state in which no momentum is left from before, and what a beginning of each kind makes of it."""
    state = begin("rni", whole(params), model=model, **settings)
    state = state._replace(optimizer=jax.tree.map(jnp.ones_like, state.optimizer))
    return state, lambda phase, key=0, **hp: update(
        "rni", state, padded(phase), model=model, key=key, noise=0.04, **settings, **hp
    )[0]


def test_rni_draws_the_head_alone_anew():
    model, params = convnet()
    state, other = (begin("rni", whole(params), model=model, key=k).params for k in (1, 2))
    assert (moved(state["head"], params["head"])["kernel"] != 0).all()
    assert (moved(state["head"], other["head"])["kernel"] != 0).all()
    rest = lambda tree: {name: part for name, part in tree.items() if name != "head"}
    toy.same(rest(state), rest(params))


@pytest.mark.parametrize("count, hit", toy.some([(4, 2), (1, 0), (2, 1), (50, 6)], 1))
def test_rni_shakes_its_share_of_as_many_tensors_as_asked(count, hit):
    model, params = convnet()
    leaves = len(jax.tree.leaves(params))
    state, start = _rni(params, model, tensors=count)
    seen = np.zeros(leaves)
    for key in range(12):
        after = start(rni.SHAKE, key)
        chosen, changed = np.asarray(jax.tree.leaves(after.extra)), tensors(moved(after.params, state.params))
        changed = np.asarray([bool((x != 0).all()) for x in changed.values()])
        assert chosen.sum() == min(count, leaves) and changed.sum() == hit
        assert (chosen[changed] == 1).all()  # noise on some of those that move
        if hit:
            noise = np.concatenate([x.ravel() for x in tensors(moved(after.params, state.params)).values() if x.any()])
            assert noise.std() == pytest.approx(0.04, rel=5 / np.sqrt(2 * noise.size))
        assert not flat(after.optimizer).any()
        seen += chosen
    assert (seen > 0).sum() > min(count, leaves - 1)  # not always the same ones


def test_rni_has_no_noise_in_the_first_and_the_last_epochs():
    model, params = convnet()
    state, start = _rni(params, model, tensors=3)
    first, last = start(rni.CHOOSE), start(rni.FREE)
    toy.same(first.params, state.params)
    toy.same(last.params, state.params)
    assert sum(map(float, jax.tree.leaves(first.extra))) == 3
    assert all(float(x) == 1 for x in jax.tree.leaves(last.extra))
    assert not flat(first.optimizer).any() and not flat(last.optimizer).any()


@pytest.mark.slow
def test_rni_leaves_every_bit_of_the_tensors_that_are_not_drawn():
    model = toy.normed()
    variables = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])
    state = begin("rni", variables, model=model, tensors=2)
    hits = set()
    for key in range(6):
        state, _ = update("rni", state, padded(rni.SHAKE), model=model, key=key, tensors=2)
        chosen = {name: float(x) for name, x in tensors(state.extra).items()}
        norms = {name for name in chosen if "norm" in name}
        assert len(norms) == 2 and all(chosen[name] == 1 for name in norms)  # they always move
        assert sum(chosen.values()) == 2 + len(norms)
        after = state
        for _ in range(2):
            after, _ = update("rni", after, padded(rni.FIT), model=model, tensors=2, lr=0.1, weight_decay=0.1)
        for name, x in tensors(after.params).items():
            assert bool((x != tensors(state.params)[name]).any()) == bool(chosen[name]), name
        hits |= {name for name, x in chosen.items() if x}
        state = after
    assert hits == set(chosen)


def test_rni_is_one_unshaken_four_shaken_and_four_free_epochs():
    plan = rni.plan(toy.SIZES, {"epochs": 9, "batch": 16}, Recipe())
    fit = [rni.FIT] * 3
    order = [rni.CHOOSE, *fit] + [rni.SHAKE, *fit] * 4 + [rni.FREE, *fit] * 4
    np.testing.assert_array_equal(plan.phase, order)
    np.testing.assert_array_equal(plan.retain_step[plan.phase == rni.FIT], np.arange(27))
    np.testing.assert_allclose(plan.rate[plan.phase == rni.FIT], [1.0] * 24 + [5.0] * 3)
    assert plan.grad_evals_retain == 27 * 16 and plan.grad_evals_forget == 0


@pytest.mark.parametrize("epochs, fine", [(0, 0), (1, 1), (2, 1), (4, 2), (18, 8), (90, 40)])
def test_rni_divides_other_lengths_alike(epochs, fine):
    kinds, rate = rni.stages(epochs)
    rest = epochs - fine
    assert kinds == [rni.CHOOSE] * min(rest, 1) + [rni.SHAKE] * max(rest - 1, 0) + [rni.FREE] * fine
    assert rate == [1.0] * (epochs - fine // 4) + [5.0] * (fine // 4)
