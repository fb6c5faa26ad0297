"""Models as users have them, and examples to unlearn: 3 classes of 4 features."""

import functools

import flax.linen as nn
import jax
import numpy as np
from flax import nnx

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4)).astype(np.float32)
Y = X[:, :3].argmax(axis=1)
FORGET, RETAIN, VALIDATION = ((X[i], Y[i]) for i in np.split(np.arange(60), [8, 48]))
SETS = {"forget": FORGET, "retain": RETAIN}
ALL = SETS | {"validation": VALIDATION}


class Plain(nn.Module):
    """No mode, logits alone."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3, name="last")(nn.tanh(nn.Dense(6)(x)))


class Normed(nn.Module):
    """Batch statistics and dropout, told its mode by one of the usual names, which subclasses choose."""

    rate: float = 0.0

    def call(self, x, training):
        x = nn.BatchNorm(use_running_average=not training, momentum=0.5, name="norm")(nn.Dense(6, name="first")(x))
        return nn.Dense(3, name="last")(nn.Dropout(self.rate, deterministic=not training)(nn.relu(x)))


class Train(Normed):
    @nn.compact
    def __call__(self, x, train):
        return self.call(x, train)


class Training(Normed):
    @nn.compact
    def __call__(self, x, *, is_training=False):
        return self.call(x, is_training)


class Deterministic(Normed):
    @nn.compact
    def __call__(self, x, deterministic=True):
        return self.call(x, not deterministic)


class Averaging(Normed):
    @nn.compact
    def __call__(self, x, use_running_average=True):
        return self.call(x, not use_running_average)


class Featured(nn.Module):
    """Returns (logits, features) of its own choice."""

    @nn.compact
    def __call__(self, x):
        features = nn.tanh(nn.Dense(6)(x))
        return nn.Dense(3, name="last")(features), 2.0 * features


class Nnx(nnx.Module):
    """`Normed` in NNX."""

    def __init__(self, rngs, rate=0.0):
        self.first = nnx.Linear(4, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs)
        self.last = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))


def forward(params, x):
    """A model that is a function, of params in a list."""
    (w, b), last = params
    return jax.nn.tanh(x @ w + b[None]) @ last


def listed(seed=0):
    """Its params."""
    rng = np.random.default_rng(seed)
    one, two = (rng.normal(size=size).astype(np.float32) for size in ((4, 6), (6, 3)))
    return [(one, np.zeros(6, np.float32)), two]


@functools.cache
def drawn(module, seed=0):
    """Variables of a Linen module."""
    if isinstance(module, Train):
        return module.init(jax.random.key(seed), X, train=False)
    return module.init(jax.random.key(seed), X)


def gap(a, b):
    """Largest difference of two trees."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    return max(float(np.abs(plain(x) - plain(y)).max()) for x, y in zip(*map(jax.tree.leaves, (a, b))))


def plain(x):
    """A leaf as numbers, a random key as its data."""
    key = jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(x) if key else x).astype(np.float64)


def stacked(trees):
    """Trees on a leading axis."""
    return jax.tree.map(lambda *xs: np.stack([np.asarray(x) for x in xs]), *trees)
