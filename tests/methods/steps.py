"""Single updates of a method on the toy perceptron, and the same perceptron by NumPy in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import toy
from flax import linen as nn
from scipy.special import log_softmax, softmax

from unlearn_jax.methods import METHODS
from unlearn_jax.models import from_linen, standardize
from unlearn_jax.models.layers import head
from unlearn_jax.types import Batch, Batches

SGD = (("momentum", 0.0), ("optimizer", "sgd"))  # an update by lr is then exactly the gradient times lr
PLAIN = {"lr": 1.0, "weight_decay": 0.0}  # with descent, and at first with momentum: an update by the gradient itself
LN_K = float(np.log(toy.CLASSES))
MEAN, STD = 0.5, 0.25  # of the pixels in `images`


# --- updates -------------------------------------------------------------------------------------------------------


@functools.cache
def _programs(name, static, model):
    """A method's jitted functions, numeric hyperparameters traced."""
    entry, problem = METHODS[name], toy.problem(model)
    fixed = entry.static | dict(static)
    build = lambda hp: entry.build(problem, fixed | {k: v for k, v in hp.items() if k in fixed}, hp)
    init = jax.jit(lambda hp, *given: build(hp).init(*given))
    update = jax.jit(lambda hp, *given: build(hp).update(*given))
    return init, update, jax.jit(lambda hp, state: build(hp).finish(state))


def _settings(name, hp):
    """Arrays, so that programs are shared; also of static settings where only arithmetic is done with them."""
    return {k: jnp.int32(v) if isinstance(v, int) else jnp.float32(v) for k, v in (METHODS[name].numeric | hp).items()}


def begin(name, variables, *, key=1, static=(), model=None, **hp):
    """The state from which a method starts."""
    init = _programs(name, static, model or toy.perceptron())[0]
    return init(_settings(name, hp), jax.random.key(key), variables)


def update(name, state, batches, *, key=0, static=(), model=None, **hp):
    """(state, loss) after one update with the defaults and what is given."""
    program = _programs(name, static, model or toy.perceptron())[1]
    return program(_settings(name, hp), jax.random.key(key), state, batches)


def finish(name, state, *, static=(), model=None):
    """The variables that a method returns."""
    return _programs(name, static, model or toy.perceptron())[2](_settings(name, {}), state)


# --- what they are given -------------------------------------------------------------------------------------------


def batch(rows, shift=0.0, weight=None):
    """Examples by row, optionally with other pixels or weights."""
    (inputs, targets), rows = toy.examples(), np.asarray(rows)
    weight = np.ones(len(rows)) if weight is None else weight
    given = inputs[rows] + np.float32(shift), targets[rows], np.asarray(weight, np.float32), rows.astype(np.int32)
    return Batch(*map(jnp.asarray, given))


def both(forget=None, retain=None, phase=0, rate=1.0, progress=0.0):
    """What an update is given; by default five requested and eight retained examples."""
    forget = batch(toy.REQUESTED[:5]) if forget is None else forget
    retain = batch(toy.KEPT[:8]) if retain is None else retain
    return Batches(forget, retain, jnp.int32(phase), jnp.int32(0), jnp.float32(rate), jnp.float32(progress))


def padded(phase=0, forget=None, retain=None, rate=1.0):
    """The same with a sixth and a ninth slot that are dead, the phase first."""
    forget = batch(toy.REQUESTED[:6], weight=np.arange(6) < 5) if forget is None else forget
    retain = batch(toy.KEPT[:9], weight=np.arange(9) < 8) if retain is None else retain
    return both(forget, retain, phase, rate)


def other(some, shift=1.0, labels=1):
    """The same slots with other pixels and labels."""
    return some._replace(inputs=-some.inputs + shift, targets=(some.targets + labels) % toy.CLASSES)


def live(some):
    """The examples of a batch that have weight."""
    rows = np.flatnonzero(np.asarray(some.weight))
    return Batch(*(np.asarray(x)[rows] for x in some[:4]))


def whole(params):
    """Variables of a model without running statistics."""
    return {"params": params, "state": {}}


class _Convolutions(nn.Module):
    """Two convolutions and a linear head: compiles in a third of the time of the library's smallest."""

    @nn.compact
    def __call__(self, x, train):
        for i in range(2):
            x = nn.relu(nn.Conv(4, (3, 3), name=f"block{i}")(x))
        features = x.mean(axis=(1, 2))
        return head(toy.CLASSES)(features), features


@functools.cache
def convnet():
    """A model with convolutions, and its parameters."""
    model = from_linen(_Convolutions())
    return model, jax.jit(model.init)(jax.random.key(0), toy.stored().inputs[:1])["params"]


@functools.cache
def images():
    """A perceptron that takes raw images, two sets of its weights, and 24 grey images (float32 in [0, 1])."""
    model = standardize(toy.perceptron(), mean=(MEAN,), std=(STD,))
    rng = np.random.default_rng(3)
    make = jax.jit(toy.perceptron().init)
    weights = [make(jax.random.key(i), jnp.zeros((1, *toy.SHAPE)))["params"] for i in range(2)]
    grey = jnp.asarray(rng.integers(0, 256, (24, *toy.SHAPE)), jnp.uint8)
    labels = jnp.argmax(model.apply({"params": weights[0], "state": {}}, grey)[0].logits, axis=1).astype(jnp.int32)
    some = Batch(grey, labels.at[:4].set((labels[:4] + 1) % 3), jnp.ones(24), jnp.arange(24, dtype=jnp.int32))
    return model, weights, some


# --- the perceptron by NumPy ---------------------------------------------------------------------------------------


def layers(params):
    """(weights, bias) from input to head, in double precision."""
    names = [*sorted(name for name in params if name != "head"), "head"]
    return names, [tuple(np.asarray(params[name][part], np.float64) for part in ("kernel", "bias")) for name in names]


def forward(params, inputs):
    """Activations by NumPy from the flat inputs to the logits (B, K)."""
    _, stack = layers(params)
    found = [np.asarray(inputs, np.float64).reshape(len(inputs), -1)]
    for i, (kernel, bias) in enumerate(stack):
        z = found[-1] @ kernel + bias
        found.append(np.maximum(z, 0.0) if i + 1 < len(stack) else z)
    return found


def logits(params, some):
    """(B, K) by NumPy."""
    return forward(params, some.inputs)[-1]


def outputs(params, some):
    """(logits, features) of the live examples of a batch, by NumPy."""
    *_, features, found = forward(params, live(some).inputs)
    return found, features


def backward(params, inputs, slope):
    """Gradient by NumPy of what has the gradient ``slope`` (B, K) at the logits: (like params, like inputs)."""
    names, stack = layers(params)
    values, found = forward(params, inputs), {}
    for i in reversed(range(len(stack))):
        found[names[i]] = {"kernel": values[i].T @ slope, "bias": slope.sum(axis=0)}
        slope = (slope @ stack[i][0].T) * (values[i] > 0 if i else 1.0)
    return found, slope.reshape(np.shape(inputs))


def cross_entropy(found, targets):
    """(B,) of logits by NumPy."""
    return -log_softmax(found, axis=1)[np.arange(len(found)), np.asarray(targets)]


def losses(params, some, temperature=1.0):
    """(B,) cross-entropies of the live examples of a batch, by NumPy."""
    return cross_entropy(outputs(params, some)[0] / temperature, live(some).targets)


def divergence(p, q, temperature=1.0):
    """(B,) temperature^2 KL(p || q) of logits by NumPy."""
    p, q = (log_softmax(np.asarray(x, np.float64) / temperature, axis=1) for x in (p, q))
    return temperature**2 * (np.exp(p) * (p - q)).sum(axis=1)


def entropy_slope(found, targets):
    """(B, K) gradient of each example's cross-entropy at its logits."""
    return softmax(found, axis=1) - np.eye(found.shape[1])[np.asarray(targets)]


def loss_gradient(params, some, targets=None):
    """Mean cross-entropy and its gradient by NumPy: (loss, like params)."""
    found, targets = logits(params, some), some.targets if targets is None else targets
    slope = entropy_slope(found, targets) / len(found)
    return cross_entropy(found, targets).mean(), backward(params, some.inputs, slope)[0]


def slope(params, some):
    """Gradient of the mean cross-entropy of the live examples of a batch, by NumPy."""
    return loss_gradient(params, live(some))[1]


# --- trees ---------------------------------------------------------------------------------------------------------


def nudged(params, size=0.1, seed=0):
    """Parameters a little way off."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + jnp.asarray(size * rng.normal(size=x.shape), x.dtype), params)


def difference(a, b):
    """The largest difference of any entry."""
    return max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def combined(*parts):
    """Sum of (factor, tree) pairs."""
    return jax.tree.map(lambda *xs: sum(f * x for (f, _), x in zip(parts, xs)), *(tree for _, tree in parts))


def moved(after, before):
    """``after - before`` of two trees, as NumPy in double precision."""
    return jax.tree.map(lambda a, b: np.asarray(a, np.float64) - np.asarray(b, np.float64), after, before)


def flat(tree):
    """(P,) all entries of a tree."""
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])


def tensors(params):
    """{path: array} of a tree."""
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(params)}


def followed(before, after, expected, lr=1.0, tolerance=2e-5):
    """Assert that a plain descent by ``lr`` has followed the expected gradient, and that there was one."""
    assert max(np.abs(x).max() for x in jax.tree.leaves(expected)) > 1e-3
    for a, b in zip(jax.tree.leaves(moved(before, after)), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a / lr, b, rtol=1e-3, atol=tolerance)
