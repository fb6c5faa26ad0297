"""The challenge's entries that make a damaged student of the original: PRMQ and KDE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from scipy.special import log_softmax
from steps import SGD, batch, begin, convnet, finish, flat, losses, moved, outputs, padded, tensors, update, whole

from unlearn_jax.methods import kde, prmq
from unlearn_jax.methods.support.common import Recipe
from unlearn_jax.models import build_model

LONG = {"epochs": 4, "batch": 16}  # passes of 3 batches
COSINE = [1.0, 0.5 + np.sqrt(0.125), 0.5, 0.5 - np.sqrt(0.125)]  # of four epochs

# --- PRMQ ------------------------------------------------------------------------------------------------------------


def _fresh(model, key=1, shape=(1, *toy.SHAPE)):
    """What a method whose first key is ``key`` draws."""
    return jax.jit(model.init)(jax.random.fold_in(jax.random.key(key), 1), jnp.zeros(shape))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_prmq_draws_the_smallest_weights_of_all_layers_anew(share):
    model = toy.normed()
    rng = np.random.default_rng(0)
    variables = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])
    params = jax.tree.map(lambda x: jnp.asarray(x + 0.1 * rng.normal(size=x.shape), x.dtype), variables["params"])
    given = variables | {"params": params}
    after, before = tensors(begin("prmq", given, model=model, prune=share).params), tensors(params)
    layers = [name for name in before if "norm" not in name]
    size = np.concatenate([np.abs(before[name]).ravel() for name in layers])
    least = np.append(np.sort(size), np.inf)[round(share * size.size)]
    drawn = tensors(_fresh(model)["params"])
    for name, x in before.items():
        pruned = (np.abs(x) < least) & (name in layers)
        np.testing.assert_array_equal(after[name], np.where(pruned, drawn[name], x))
        if share > 0.4 and name in layers:
            assert pruned.any()  # kernels, biases and the head
        if "kernel" in name:
            assert (after[name] != 0).all()


def test_prmq_prunes_convolutions_and_the_head_by_one_threshold():
    model, params = convnet()
    after, before = tensors(begin("prmq", whole(params), model=model, prune=0.9).params), tensors(params)
    kernels = {name: (after[name] != x) for name, x in before.items() if x.ndim > 1}
    largest = max(np.abs(before[name])[changed].max() for name, changed in kernels.items())
    assert all(changed.any() for changed in kernels.values())
    kept = [np.abs(before[name])[~changed] for name, changed in kernels.items()]
    assert np.concatenate(kept).min() >= largest
    zero_biases = 4 + 4 + toy.CLASSES
    pruned = zero_biases + sum(changed.sum() for changed in kernels.values())
    assert pruned == round(0.9 * sum(x.size for x in before.values()))


def test_prmq_matches_entropies_and_weighs_classes_by_their_counts(learned):
    state = begin("prmq", whole(learned), static=SGD, prune=0.5)
    toy.same(state.extra["teacher"]["params"], learned)
    rows = np.r_[0, 3, 6, 9, 12, 15, 1, 2, 5]  # six of class 0, one of 1, two of 2, of which the last is dead
    some = padded(retain=batch(rows, weight=np.arange(9) < 8))
    labels = np.asarray(some.retain.targets)[:8]
    counts = np.bincount(labels, minlength=3)
    np.testing.assert_array_equal(counts, [6, 1, 1])
    for seen in (counts, 2 * counts):  # the second time counts have doubled, and the weights are the same
        own, target = (log_softmax(outputs(p, some.retain)[0], axis=1) for p in (state.params, learned))
        own, target = (-(np.exp(x) * x).sum(axis=1) for x in (own, target))
        hard = np.average(losses(state.params, some.retain), weights=seen[labels] ** -0.1)
        state, loss = update("prmq", state, some, static=SGD, match=0.7, lr=0.1, weight_decay=0.0)
        assert float(loss) == pytest.approx(hard + 0.7 * np.square(own - target).mean(), rel=1e-4)
        np.testing.assert_array_equal(state.extra["counts"], seen)


def test_prmq_weighs_examples_of_many_labels_alike():
    some = batch(toy.KEPT[:4])._replace(targets=jnp.zeros((4, 5), jnp.int32))
    np.testing.assert_array_equal(prmq.class_counts(3, some), [0, 0, 0])
    np.testing.assert_array_equal(prmq.class_weight(jnp.array([9.0, 1.0, 1.0]), some), np.ones(4))


def test_prmq_returns_what_half_precision_holds(original):
    variables = jax.tree.map(jnp.asarray, toy.member(original, 0))
    variables = variables | {"state": {"batch_stats": {"mean": jnp.array([0.1, 1 / 3])}}}
    state = begin("prmq", variables, prune=0.0)
    found, given = finish("prmq", state), {"params": variables["params"], "state": variables["state"]}
    for x, y in zip(jax.tree.leaves(given), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(np.asarray(y), np.asarray(x).astype(np.float16).astype(np.float32))
    assert all(np.abs(flat(moved(found[part], given[part]))).max() > 0 for part in given)
    assert float(prmq.entropy(jnp.zeros((1, 5)))[0]) == pytest.approx(np.log(5))


# --- KDE -------------------------------------------------------------------------------------------------------------


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


@pytest.mark.slow
def test_kde_renews_the_running_statistics_of_the_first_layer():
    model = toy.normed()
    variables = jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])
    used = variables | {"state": jax.tree.map(lambda x: x + 0.5, variables["state"])}
    state = begin("kde", used, model=model)
    toy.same(state.state, variables["state"])
    toy.same(state.params["norm"], used["params"]["norm"])
    toy.same(state.extra["state"], used["state"])
    deep = build_model("convnet", toy.CLASSES, toy.SHAPE, widths=(8, 8), norm="batch")
    variables = jax.jit(deep.init)(jax.random.key(0), toy.stored().inputs[:1])
    used = variables | {"state": jax.tree.map(lambda x: x + 0.5, variables["state"])}
    found = jax.jit(lambda v: kde.renewed(toy.problem(deep), jax.random.key(1), v))(used)
    changed = {name: bool((x != tensors(used["state"])[name]).any()) for name, x in tensors(found["state"]).items()}
    assert changed == {name: "block0" in name for name in changed} and len(set(changed.values())) == 2


def test_kde_distils_and_then_fits_labels_and_predictions_at_its_temperature(learned):
    state, t = begin("kde", whole(learned)), 5.0
    own, target = (outputs(p, padded().retain)[0] for p in (state.params, learned))
    soft, aim = log_softmax(own / t, axis=1), log_softmax(target / t, axis=1)
    apart, cross = (np.exp(aim) * (aim - soft)).sum(axis=1), -(np.exp(aim) * soft).sum(axis=1)
    hard = losses(state.params, padded().retain)
    for phase, expected in ((kde.DISTIL, apart), (kde.FIT, hard + cross + apart)):
        _, loss = update("kde", state, padded(phase))
        assert float(loss) == pytest.approx(expected.mean(), rel=1e-4)


@pytest.mark.slow
def test_kde_phases_have_rates_and_optimizers_of_their_own(learned):
    state = begin("kde", whole(learned))
    for phase, name in ((kde.DISTIL, "warm_lr"), (kde.FIT, "lr")):
        still, _ = update("kde", state, padded(phase), weight_decay=0.0, **{name: 0.0})
        toy.same(still.params, state.params)
        after, _ = update("kde", state, padded(phase), **{name: 0.1})
        assert np.abs(flat(moved(after.params, state.params))).max() > 1e-3
        for i, (old, new) in enumerate(zip(state.optimizer, after.optimizer)):
            assert (np.abs(flat(moved(new, old))).max() > 0) == (i == phase)
    plan = kde.plan(toy.SIZES, LONG, Recipe())
    np.testing.assert_array_equal(plan.phase, [kde.DISTIL] * 12 + [kde.FIT] * 12)
    np.testing.assert_allclose(plan.rate, np.repeat([1.0] * 4 + COSINE, 3), rtol=1e-6)
