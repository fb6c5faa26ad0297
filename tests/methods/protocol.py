"""What methods are given, on the toy: the context that a study builds, one that writes down, single updates; and
NumPy's answers to compare with.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import toy
from scipy.special import log_softmax

from unlearn_jax.data.splits import RequestRows
from unlearn_jax.methods import METHODS, prepare
from unlearn_jax.population.run import Options
from unlearn_jax.types import Batch, Batches
from unlearn_jax.unlearn import Job, context_of

SIMILAR = toy.KEPT[-4:]  # kept rows that stand for the request's similar ones: the oracle never sees them
ROOM = len(toy.KEPT) + len(toy.REQUESTED)


def job(members, *, kept=toy.KEPT, requested=toy.REQUESTED, similar=SIMILAR, heldout=toy.UNUSED, recipe=toy.RECIPE,
        seed=0, data=None, chunk=8, model=None):  # fmt: skip
    """The `Job` of a toy study; each set is one for all members or a list by member."""
    by_member = lambda rows: rows if isinstance(rows, list) else [rows] * members
    none = np.zeros(0, np.int32)
    sets = [
        RequestRows(
            np.asarray(asked, np.int32), none, np.intersect1d(stay, near), np.setdiff1d(stay, near), test, none, 1.0
        )
        for stay, asked, near, test in zip(*map(by_member, (kept, requested, similar, heldout)), strict=True)
    ]
    problem = toy.problem(model, recipe)
    training = prepare("retrain", problem)
    data = toy.stored() if data is None else data
    return Job(problem, data, sets, training, Options(chunk=chunk), seed, ROOM, "small", 0.0)


def context(members, **given):
    """The `Context` of a toy study by its own `context_of`; arguments as of `job`."""
    own = job(members, **given)
    stay = [np.sort(np.concatenate([r.similar, r.rest])).astype(np.int32) for r in own.rows]
    return context_of(own, stay, [r.requested for r in own.rows])


def recorded(own, answer=None):
    """(context, calls) like ``own`` whose ``train`` writes down what it is asked, then asks ``answer`` or ``own``."""
    calls, answer = [], answer or own.train

    def train(role, fold, plan, rows, *, start=None, hp=None):
        calls.append({"role": role, "fold": fold, "plan": plan, "rows": rows, "start": start, "hp": hp})
        return answer(role, fold, plan, rows, start=start, hp=hp)

    return own._replace(train=train), calls


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


def batch(rows, shift=0.0, weight=None):
    """Examples by row, optionally with other pixels or weights."""
    (inputs, targets), rows = toy.examples(), np.asarray(rows)
    weight = np.ones(len(rows)) if weight is None else weight
    given = inputs[rows] + np.float32(shift), targets[rows], np.asarray(weight, np.float32), rows.astype(np.int32)
    return Batch(*map(jnp.asarray, given))


def both(phase=0, forget=None, retain=None, rate=1.0):
    """What an update is given; by default five requested and eight retained examples, each with a dead slot."""
    forget = batch(toy.REQUESTED[:6], weight=np.arange(6) < 5) if forget is None else forget
    retain = batch(toy.KEPT[:9], weight=np.arange(9) < 8) if retain is None else retain
    return Batches(forget, retain, jnp.int32(phase), jnp.int32(0), jnp.float32(rate), jnp.float32(0.0))


def _padded(some):
    """A batch with dead slots to one size, so that a model's answers take one program."""
    room = 64 - len(some.weight)
    return Batch(*(jnp.asarray(np.pad(np.asarray(x), [(0, room)] + [(0, 0)] * (x.ndim - 1))) for x in some[:4]))


@functools.cache
def _outputs(model):
    return jax.jit(lambda variables, inputs: model.apply(variables, inputs)[0])


def outputs(params, some, model=None):
    """(logits, features) of the live examples of a batch, in double precision."""
    found = _outputs(model or toy.perceptron())({"params": params, "state": {}}, _padded(some).inputs)
    live = np.flatnonzero(np.asarray(some.weight))
    return np.asarray(found.logits, np.float64)[live], np.asarray(found.features, np.float64)[live]


def cross_entropy(params, some, model=None, temperature=1.0):
    """(B,) losses of the live examples by NumPy."""
    labels = np.asarray(some.targets)[np.asarray(some.weight) > 0]
    return -log_softmax(outputs(params, some, model)[0] / temperature, axis=1)[np.arange(len(labels)), labels]


@functools.cache
def _slope(model):
    def mean(params, some):
        logits = model.apply({"params": params, "state": {}}, some.inputs)[0].logits
        return jnp.sum(toy.problem(model).task.loss(logits, some) * some.weight) / some.weight.sum()

    return jax.jit(jax.grad(mean))


def slope(params, some, model=None):
    """Gradient of the mean loss of a batch, as NumPy in double precision."""
    found = _slope(model or toy.perceptron())(params, _padded(some))
    return jax.tree.map(lambda x: np.asarray(x, np.float64), found)


def moved(after, before):
    """``after - before`` of two trees, as NumPy in double precision."""
    return jax.tree.map(lambda a, b: np.asarray(a, np.float64) - np.asarray(b, np.float64), after, before)


def flat(tree):
    """(P,) all entries of a tree."""
    return np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)])
