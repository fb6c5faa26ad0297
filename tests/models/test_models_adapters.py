import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from unlearn_jax.errors import InputError
from unlearn_jax.models import adapters
from unlearn_jax.types import Model, Outputs


class Dropping(nn.Module):
    """Half of the features are dropped in training; a counter and a constant live outside params."""

    @nn.compact
    def __call__(self, x, train):
        calls = self.variable("batch_stats", "calls", jnp.zeros, ())
        fixed = self.variable("constants", "scale", jnp.ones, ())
        if train:
            calls.value = calls.value + 1.0
        features = nn.Dropout(0.5, deterministic=not train)(x * fixed.value)
        return nn.Dense(2)(features), features


@pytest.fixture(scope="module")
def x():
    return 1.0 + jax.random.uniform(jax.random.key(3), (5, 32))


def test_linen_variables_and_outputs(x):
    model = adapters.from_linen(Dropping())
    variables = model.init(jax.random.key(0), x)
    assert set(variables) == {"params", "state"} and set(variables["state"]) == {"batch_stats", "constants"}
    outputs, state = model.apply({**variables, "shared": {"ignored": 1}}, x)
    assert isinstance(outputs, Outputs) and outputs.hidden is None
    assert state is variables["state"]
    np.testing.assert_array_equal(outputs.features, x)


def test_linen_train_moves_only_the_mutable_state_and_key_feeds_dropout(x):
    model = adapters.from_linen(Dropping())
    variables = model.init(jax.random.key(0), x)
    outputs, state = model.apply(variables, x, jax.random.key(1), True)
    assert jax.tree.structure(state) == jax.tree.structure(variables["state"])
    assert float(state["batch_stats"]["calls"]) == 1.0 and float(state["constants"]["scale"]) == 1.0
    assert 0.2 < float((outputs.features == 0).mean()) < 0.8
    again, _ = model.apply(variables, x, jax.random.key(1), True)
    other, _ = model.apply(variables, x, jax.random.key(2), True)
    np.testing.assert_array_equal(again.features, outputs.features)
    assert (other.features != outputs.features).any()
    kept, _ = model.apply(variables, x, jax.random.key(1), False)
    np.testing.assert_array_equal(kept.features, x)


def test_linen_module_without_state_has_an_empty_one(x):
    class Plain(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            return nn.Dense(2)(x), x

    model = adapters.from_linen(Plain())
    variables = model.init(jax.random.key(0), x)
    assert variables["state"] == {}
    assert model.apply(variables, x, train=True)[1] == {}


@pytest.mark.slow
def test_init_and_apply_use_each_key_once(x):
    model = adapters.from_linen(Dropping())

    @jax.jit
    def program(key):
        init_key, *keys = jax.random.split(key, 3)
        variables = model.init(init_key, x)
        return [model.apply(variables, x, k, True)[0].features for k in keys]

    a, b = program(jax.random.key(1))
    assert (a != b).any()


ECHO = Model(
    lambda key, inputs: {"params": {"shape": jnp.zeros(inputs.shape)}, "state": {}},
    lambda variables, inputs, key=None, train=False: (Outputs(inputs, inputs), {"key": key, "train": train}),
)


def test_standardize_bytes_floats_and_passes_arguments_on():
    model = adapters.standardize(ECHO, mean=(0.5, 0.25), std=(0.5, 2.0))
    raw = jax.random.randint(jax.random.key(0), (3, 4, 4, 2), 0, 256).astype(jnp.uint8)
    expected = (np.asarray(raw) / 255.0 - np.array([0.5, 0.25])) / np.array([0.5, 2.0])
    variables = model.init(jax.random.key(1), raw)
    assert variables["params"]["shape"].shape == raw.shape
    (logits, _, _), state = jax.jit(lambda x: model.apply(variables, x))(raw)
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert logits.dtype == jnp.float32 and state == {"key": None, "train": False}
    floats = raw.astype(jnp.float32) / 255.0
    np.testing.assert_allclose(model.apply(variables, floats)[0].logits, expected, atol=1e-6)
    state = model.apply(variables, np.asarray(raw), 7, True)[1]
    assert state == {"key": 7, "train": True}


@pytest.mark.parametrize(
    "mean, std, inputs, message",
    [
        ((0.5,), (0.0,), None, "std above 0"),
        ((0.5, 0.5), (1.0,), None, "one value of each per channel"),
        (0.5, 1.0, None, "one value of each per channel"),
        ((0.5, 0.5), (1.0, 1.0), np.zeros((1, 2, 2, 3), np.float32), "3 channels, mean 2"),
        ((0.5,), (1.0,), np.zeros((1, 2, 2, 1), np.int32), "int32"),
    ],
)
def test_standardize_refuses(mean, std, inputs, message):
    with pytest.raises(InputError, match=message):
        model = adapters.standardize(ECHO, mean=mean, std=std)
        model.apply({}, inputs)


class Small(nnx.Module):
    """Dense, batch norm, dropout, dense."""

    def __init__(self, rngs, rate=0.5):
        self.first = nnx.Linear(32, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.last = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        features = self.drop(nnx.relu(self.norm(self.first(x))))
        return self.last(features), features


def test_nnx_trains_under_vmap_and_scan(x):
    model = adapters.from_nnx(Small)
    labels = jnp.arange(5) % 3

    def member(key):
        init_key, later = jax.random.split(key)
        variables = model.init(init_key, x)

        def step(variables, i):
            def loss(params):
                outputs, state = model.apply({**variables, "params": params}, x, jax.random.fold_in(later, i), True)
                picked = jnp.take_along_axis(jax.nn.log_softmax(outputs.logits), labels[:, None], 1)
                return -picked.mean(), state

            (value, state), slope = jax.value_and_grad(loss, has_aux=True)(variables["params"])
            params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], slope)
            return {"params": params, "state": state}, value

        return variables, *jax.lax.scan(step, variables, jnp.arange(100))

    keys = jax.random.split(jax.random.key(0), 3)
    quick = {"xla_backend_optimization_level": 0}
    before, after, losses = jax.device_get(jax.jit(jax.vmap(member), compiler_options=quick)(keys))
    assert (losses[:, -10:].mean(axis=1) < 0.7 * losses[:, 0]).all()
    assert jax.tree.structure(before) == jax.tree.structure(after)
    assert (before["state"]["norm"]["mean"] != after["state"]["norm"]["mean"]).any()
    kernels = before["params"]["first"]["kernel"]
    assert kernels.shape == (3, 32, 8) and (kernels[0] != kernels[1]).any()


@pytest.mark.slow
def test_nnx_modes_and_keys(x):
    model = adapters.from_nnx(Small)
    variables = model.init(jax.random.key(0), x)
    assert set(variables) == {"params", "state"} and set(variables["state"]) == {"norm"}
    apply = jax.jit(model.apply, static_argnames="train")
    first, state = model.apply(variables, x)
    assert state is variables["state"]
    np.testing.assert_array_equal(first.logits, model.apply(variables, x, jax.random.key(1))[0].logits)
    a, moved = apply(variables, x, jax.random.key(1), train=True)
    b, _ = apply(variables, x, jax.random.key(2), train=True)
    assert (a.features != b.features).any()
    assert (moved["norm"]["mean"] != state["norm"]["mean"]).any()
    with pytest.raises(InputError, match="pass key"):
        model.apply(variables, x, train=True)
