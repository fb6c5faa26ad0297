"""Equinox modules behind `Model`: what Linen gives with the same weights, batch statistics, dropout, unlearning."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from unlearn_jax import InputError, unlearn
from unlearn_jax.models import from_equinox, from_linen

X = np.random.default_rng(0).normal(size=(12, 6, 5, 2)).astype(np.float32)
Y = np.arange(12) % 3
SETS = {"forget": (X[:4], Y[:4]), "retain": (X[4:], Y[4:])}


class Flax(nn.Module):
    """A convolution and two layers."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.tanh(nn.Conv(4, (3, 3), padding="VALID", name="conv")(x)).reshape(len(x), -1)
        features = nn.tanh(nn.Dense(7, name="layers_0")(x))
        return nn.Dense(3, name="layers_1")(features), features


class Same(eqx.Module):
    """`Flax` for one example."""

    conv: eqx.nn.Conv2d
    layers: list

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.conv = eqx.nn.Conv2d(2, 4, 3, key=a)
        self.layers = [eqx.nn.Linear(48, 7, key=b), eqx.nn.Linear(7, 3, key=c)]

    def __call__(self, x):
        x = jnp.tanh(self.conv(x.transpose(2, 0, 1))).transpose(1, 2, 0).reshape(-1)
        features = jnp.tanh(self.layers[0](x))
        return self.layers[1](features), features


class Normed(eqx.Module):
    """Batch statistics and dropout; logits alone."""

    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    drop: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key, rate=0.5):
        one, two = jax.random.split(key)
        self.first, self.last = eqx.nn.Linear(60, 6, key=one), eqx.nn.Linear(6, 3, key=two)
        self.norm = eqx.nn.BatchNorm(6, axis_name="batch", mode="batch", momentum=0.5)
        self.drop = eqx.nn.Dropout(rate)

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.first(x.reshape(-1)), state)
        return self.last(self.drop(jax.nn.relu(x), key=key)), state


class Paired(Normed):
    """With features."""

    def __call__(self, x, state, key=None):
        x, state = self.norm(self.first(x.reshape(-1)), state)
        return (self.last(self.drop(jax.nn.relu(x), key=key)), x), state


def test_the_same_weights_give_what_linen_gives():
    linen, mine = from_linen(Flax()), from_equinox(Same)
    theirs = linen.init(jax.random.key(0), X)
    shapes = jax.tree.map(np.shape, mine.init(jax.random.key(1), X)["params"])
    ours = jax.tree.map(np.shape, theirs["params"])
    ours["conv"]["bias"] = (4, 1, 1)  # as Equinox has it
    assert shapes == ours
    params = jax.tree.map(np.asarray, theirs["params"])
    params["conv"]["bias"] = np.full((4, 1, 1), 0.25, np.float32)
    theirs["params"]["conv"]["bias"] = jnp.full(4, 0.25)
    found, _ = mine.apply({"params": params, "state": {}}, X, None, True)
    wanted, _ = linen.apply(theirs, X)
    np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-5)
    np.testing.assert_allclose(found.features, wanted.features, atol=1e-5)


def test_training_moves_batch_statistics_and_draws_dropout_under_vmap_and_scan():
    model = from_equinox(lambda key: eqx.nn.make_with_state(Paired)(key))

    def member(key):
        variables = model.init(key, X)

        def step(variables, i):
            def loss(params):
                drawn = jax.random.fold_in(key, i)
                outputs, state = model.apply({**variables, "params": params}, X, drawn, True)
                return -jnp.take_along_axis(jax.nn.log_softmax(outputs.logits), Y[:, None], 1).mean(), state

            (value, state), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
            params = jax.tree.map(lambda p, g: p - 0.2 * g, variables["params"], slope)
            return {"params": params, "state": state}, value

        return variables, *jax.lax.scan(step, variables, jnp.arange(80))

    before, after, losses = jax.jit(jax.vmap(member))(jax.random.split(jax.random.key(0), 2))
    assert (losses[:, -10:].mean(axis=1) < 0.8 * losses[:, 0]).all()
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert any((a != b).any() for a, b in zip(jax.tree.leaves(before["state"]), jax.tree.leaves(after["state"])))
    one = jax.tree.map(lambda x: x[0], after)
    (seen, kept), (again, _) = model.apply(one, X), model.apply(one, X, jax.random.key(5), False)
    np.testing.assert_array_equal(seen.logits, again.logits)
    toy.same(kept, one["state"])
    drawn = [model.apply(one, X, jax.random.key(seed), True)[0].logits for seed in (0, 0, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3


@pytest.mark.parametrize("kind", ["plain", "with state"])
@jax.numpy_dtype_promotion("standard")  # Equinox multiplies its counter of batches with a fraction
def test_a_trained_module_is_unlearned_and_comes_back_as_one(kind):
    whole = Same(jax.random.key(0)) if kind == "plain" else eqx.nn.make_with_state(Normed)(jax.random.key(0), 0.0)
    module, state = (whole, None) if kind == "plain" else whole
    same = unlearn(module, state, **SETS, method="do_nothing")
    assert jax.tree.structure(same) == jax.tree.structure(whole)
    toy.same(eqx.filter(same, eqx.is_array), eqx.filter(whole, eqx.is_array))
    new = unlearn(module, state, **SETS, method="finetune", epochs=2, batch=8)
    moved = new if kind == "plain" else new[0]
    assert type(moved) is type(module)
    layer, old = (moved.layers[1], module.layers[1]) if kind == "plain" else (moved.last, module.last)
    assert layer.weight.shape == old.weight.shape and np.abs(layer.weight - old.weight).max() > 1e-4


def test_a_list_of_modules_is_a_population_and_new_weights_come_from_init():
    modules = [Same(jax.random.key(seed)) for seed in range(3)]
    several = unlearn(modules[0], modules, **SETS, method="finetune", epochs=1, batch=8)
    stacked = eqx.filter_vmap(Same)(jax.random.split(jax.random.key(0), 3))
    many = unlearn(stacked, **SETS, method="finetune", epochs=1, batch=8, members=3)
    assert len(several) == 3 and isinstance(several[2], Same)
    assert many.conv.weight.shape == stacked.conv.weight.shape == (3, 4, 2, 3, 3)
    assert many.layers[0].weight.shape == (3, 7, 48)
    with pytest.raises(InputError, match="of an Equinox module of a key"):
        unlearn(modules[0], **SETS, method="eu_k", epochs=1)
    new = unlearn(modules[0], **SETS, method="eu_k", init=Same, epochs=1, batch=8)
    assert np.abs(new.layers[1].weight - modules[0].layers[1].weight).max() > 1e-3


def test_what_does_not_fit_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="params of an Equinox module are of type dict: give its eqx.nn.State"):
        unlearn(Same(jax.random.key(0)), {"a": X}, **SETS)

    class Alone(eqx.Module):
        layer: eqx.nn.Linear

        def __call__(self, x):
            return self.layer(x.reshape(-1))

    model = from_equinox(lambda key: Alone(eqx.nn.Linear(60, 3, key=key)))
    variables = model.init(jax.random.key(0), X)
    with pytest.raises(InputError, match="let it return \\(logits, features\\) of one example"):
        model.apply(variables, X)
