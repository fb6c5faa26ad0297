"""A study in miniature: 60 examples of 3 classes, 4x4 pixels, and what runs methods on them.

Rows 0..39 are retained, 40..49 requested (their labels are not what their pixels say, so a model must memorise them)
and 50..59 in nobody's set.
"""

from __future__ import annotations

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from unlearn_jax.methods import prepare
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.models import build_model, from_linen
from unlearn_jax.models.layers import BatchNorm, head
from unlearn_jax.population import compiling as programs
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.run import DEFAULTS, Stored, run_population
from unlearn_jax.population.shuffle import slots
from unlearn_jax.tasks import classification
from unlearn_jax.types import Batch, Batches

CLASSES, SHAPE, ROWS = 3, (4, 4, 1), 60
KEPT, REQUESTED, UNUSED = np.arange(40), np.arange(40, 50), np.arange(50, 60)
SIZES = Sizes(len(REQUESTED), len(KEPT), CLASSES)
RECIPE = Recipe(steps=20, batch=16, lr=0.01)
COMPILED = []  # one entry per program that XLA has compiled in this process
jax.monitoring.register_event_duration_secs_listener(
    lambda event, duration_secs, **_: COMPILED.append(event) if event.endswith("backend_compile_duration") else None
)


def examples():
    """The examples as writable NumPy arrays."""
    rng = np.random.default_rng(0)
    targets = (np.arange(ROWS) % CLASSES).astype(np.int32)
    centres = rng.normal(size=(CLASSES, *SHAPE))
    inputs = (centres[targets] + 0.4 * rng.normal(size=(ROWS, *SHAPE))).astype(np.float32)
    targets[REQUESTED] = (targets[REQUESTED] + 1) % CLASSES
    return inputs, targets


def stored(inputs=None, targets=None):
    """The examples as the runner takes them, with some of the arrays replaced."""
    arrays = examples()
    return Stored(
        jnp.asarray(arrays[0] if inputs is None else inputs), jnp.asarray(arrays[1] if targets is None else targets)
    )


def problem(model=None, recipe=RECIPE):
    """The problem of classifying the toy examples."""
    model = perceptron() if model is None else model
    return TrainSpec(model, classification(), jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32), CLASSES, recipe)


@functools.cache
def perceptron():
    """One hidden layer of 16 units."""
    return build_model("mlp", CLASSES, SHAPE, widths=(16,))


class _Normed(nn.Module):
    """Two hidden layers, the first with batch normalisation."""

    @nn.compact
    def __call__(self, x, train):
        x = nn.Dense(16, use_bias=False, name="dense0")(x.reshape(x.shape[0], -1))
        x = nn.relu(BatchNorm(name="norm")(x, train))
        features = nn.relu(nn.Dense(16, name="dense1")(x))
        return head(CLASSES)(features), features


@functools.cache
def normed():
    """A model with running statistics and a square hidden kernel."""
    return from_linen(_Normed())


@functools.cache
def method(name="retrain", settings=(), recipe=RECIPE, model=None):
    """Fold, plan and numeric defaults of a method on the toy; settings as a tuple of pairs."""
    return prepare(name, problem(model, recipe), dict(settings), SIZES)


def tables(members, kept=KEPT, requested=REQUESTED, pad_to=50):
    """The same sets for every member; room for the kept and the requested, so that originals share the program."""
    return make_tables([kept] * members, [requested] * members, pad_to=pad_to)


def train(members=8, *, fold=None, plan=None, hp=None, data=None, sets=None, keys=None, start=None, options=DEFAULTS):
    """Run a fold (by default 20 steps of training from scratch) on a toy population."""
    default = method()
    hp = default[2] if hp is None else hp
    return run_population(
        default[0] if fold is None else fold,
        default[1] if plan is None else plan,
        stored() if data is None else data,
        tables(members) if sets is None else sets,
        member_keys(0, "toy", members) if keys is None else keys,
        {} if start is None else start,
        hp={name: np.broadcast_to(np.float32(value), (members,)) for name, value in hp.items()},
        options=options,
    )


_draw = jax.jit(slots, static_argnums=2)


@functools.cache
def _alone(fold):
    """``init``, ``update`` and ``finish`` of one member as programs of their own."""
    parts = [lambda hp, *given, name=name: getattr(fold.build(hp, {}), name)(*given) for name in ("init", "update")]
    return *map(jax.jit, parts), lambda hp, state: fold.build(hp, {}).finish(state)


def solo(member, *, fold, plan, hp, data, sets, keys, start=None):
    """One member by a plain Python loop over an update without any member axis; (variables, losses)."""
    hp = {name: jnp.float32(np.broadcast_to(value, (len(keys),))[member]) for name, value in hp.items()}
    key, sets = keys[member], jax.tree.map(lambda x: x[member], sets)
    own = {} if start is None else jax.tree.map(lambda x: jnp.asarray(x[member]), start)
    init, update, finish = _alone(fold)
    state, losses = init(hp, jax.random.fold_in(key, 0), own), []
    for t in range(plan.steps):

        def stream(number, step, size, table, count, length, t=t):
            stream_key = jax.random.fold_in(jax.random.fold_in(key, number), 0)
            position, live = _draw(stream_key, jnp.int32(step), size, count, jnp.int32(length))
            rows = np.asarray(table)[np.asarray(position)]
            weight = np.ones(size) if sets.weight is None else np.asarray(sets.weight)[rows]
            weight = jnp.asarray(weight * np.asarray(live), jnp.float32)
            return Batch(data.inputs[rows], data.targets[rows], weight, jnp.asarray(rows))

        asked, kept = (sets.requested, sets.requested_count), (sets.kept, sets.kept_count)
        forget = stream(1, plan.forget_step[t], plan.forget_batch, *asked, plan.forget_pass)
        retain = stream(2, plan.retain_step[t], plan.retain_batch, *kept, plan.retain_pass)
        step_key = jax.random.fold_in(jax.random.fold_in(key, 3), t)
        now = jnp.int32(plan.phase[t]), jnp.int32(t), jnp.float32(plan.rate[t]), jnp.float32(t / plan.steps)
        batches = Batches(forget, retain, *now)
        state, loss = update(hp, step_key, state, batches)
        losses.append(float(loss))
    return jax.tree.map(np.asarray, finish(hp, state)), np.asarray(losses)


@contextlib.contextmanager
def quick_programs(quick=True):
    """Compile with little optimisation, for programs that run once on a few numbers."""
    jax.config.update("jax_disable_most_optimizations", quick)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def same(a, b):
    """Assert that two trees are equal in structure, dtype and every bit."""
    _alike(a, b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        if np.asarray(x).dtype != np.asarray(y).dtype:
            raise AssertionError(f"a leaf is {np.asarray(x).dtype} in one tree, {np.asarray(y).dtype} in the other")
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def close(a, b, tolerance=1e-5):
    """Assert that two trees are equal to within ``tolerance``, absolutely and relatively."""
    _alike(a, b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)


def _alike(a, b):
    """Assert that two trees have one structure."""
    if jax.tree.structure(a) != jax.tree.structure(b):
        raise AssertionError(f"trees differ: {jax.tree.structure(a)} and {jax.tree.structure(b)}")


def gap(a, b):
    """(N,) the largest difference of any parameter, by member."""
    leaves = zip(jax.tree.leaves(a["params"]), jax.tree.leaves(b["params"]), strict=True)
    return np.max([np.abs(np.asarray(x) - np.asarray(y)).reshape(len(x), -1).max(axis=1) for x, y in leaves], axis=0)


def member(tree, index):
    """Member(s) ``index`` of a stacked tree."""
    return jax.tree.map(lambda x: np.asarray(x)[index], tree)


def program(fold, which=-1):
    """A compiled program of a fold, by default the latest."""
    return [compiled for key, compiled in programs.COMPILED.items() if key[0] is fold][which]


def collectives(compiled):
    """Names of the operations of a compiled program by which devices talk to one another."""
    kinds = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "collective-broadcast", "reduce-scatter")
    return {kind for kind in kinds if kind in compiled.as_text()}
