"""Single updates of a method on the toy perceptron, and the same perceptron by NumPy in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import toy
from scipy.special import log_softmax, softmax

from unlearn_jax.methods import METHODS
from unlearn_jax.types import Batch, Batches

SGD = (("momentum", 0.0), ("optimizer", "sgd"))  # an update by lr is then exactly the gradient times lr


@functools.cache
def built(name, static, model):
    """(update, init, finish) of a method, numeric hyperparameters traced in the compiled update."""
    problem, static = toy.problem(model), METHODS[name].static | dict(static)
    build = lambda hp: METHODS[name].build(problem, static, hp)
    init, finish = build(METHODS[name].numeric).init, build(METHODS[name].numeric).finish
    draws = name in ("eu_k", "bad_teacher")  # a new model: sooner as one program
    return jax.jit(lambda hp, *given: build(hp).update(*given)), jax.jit(init) if draws else init, finish


def update(name, state, batches, *, key=0, static=(), model=None, **hp):
    """(state, loss) after one update with the defaults and what is given."""
    values = {k: jnp.float32(v) for k, v in (METHODS[name].numeric | hp).items()}
    return built(name, static, model or toy.perceptron())[0](values, jax.random.key(key), state, batches)


def begin(name, variables, *, key=1, static=(), model=None):
    """The state from which a method starts."""
    return built(name, static, model or toy.perceptron())[1](jax.random.key(key), variables)


def finish(name, state, *, static=(), model=None):
    """The variables with which a method ends."""
    return built(name, static, model or toy.perceptron())[2](state)


def batch(rows, shift=0.0, weight=None):
    """Examples by row, optionally with other pixels or weights."""
    data, rows = toy.stored(), np.asarray(rows)
    weight = jnp.ones(len(rows), jnp.float32) if weight is None else jnp.asarray(weight, jnp.float32)
    return Batch(data.inputs[rows] + shift, data.targets[rows], weight, jnp.asarray(rows, jnp.int32))


def both(forget=None, retain=None, phase=0, rate=1.0, progress=0.0):
    """What an update is given; by default five requested and eight retained examples."""
    forget = batch(toy.REQUESTED[:5]) if forget is None else forget
    retain = batch(toy.KEPT[:8]) if retain is None else retain
    return Batches(forget, retain, jnp.int32(phase), jnp.int32(0), jnp.float32(rate), jnp.float32(progress))


def nudged(params, size=0.1, seed=0):
    """Parameters a little way off."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + jnp.asarray(size * rng.normal(size=x.shape), x.dtype), params)


def difference(a, b):
    """The largest difference of any entry."""
    return max(float(jnp.abs(x - y).max()) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


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


def entropy_slope(found, targets):
    """(B, K) gradient of each example's cross-entropy at its logits."""
    return softmax(found, axis=1) - np.eye(found.shape[1])[np.asarray(targets)]


def loss_gradient(params, some, targets=None):
    """Mean cross-entropy and its gradient by NumPy: (loss, like params)."""
    found, targets = logits(params, some), some.targets if targets is None else targets
    slope = entropy_slope(found, targets) / len(found)
    return cross_entropy(found, targets).mean(), backward(params, some.inputs, slope)[0]


def combined(*parts):
    """Sum of (factor, tree) pairs."""
    return jax.tree.map(lambda *xs: sum(f * x for (f, _), x in zip(parts, xs)), *(tree for _, tree in parts))


def gradient(before, after, lr):
    """The gradient that a plain descent by ``lr`` has followed."""
    return jax.tree.map(lambda a, b: (np.asarray(a, np.float64) - np.asarray(b, np.float64)) / lr, before, after)
