"""Whole runs of one-shot methods on two members of a tiny network, and its derivatives by NumPy in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import steps
import toy
from scipy.special import softmax

from unlearn_jax.methods import METHODS
from unlearn_jax.methods.support.common import Recipe, TrainSpec
from unlearn_jax.models import build_model
from unlearn_jax.population.members import make_tables, member_keys
from unlearn_jax.population.plans import Sizes
from unlearn_jax.population.run import Fold, Stored
from unlearn_jax.tasks import classification

SHAPE, WIDTH, K = (2, 2, 1), 4, toy.CLASSES
WEIGHTS = 4 * WIDTH + WIDTH + WIDTH * K + K  # 35
KEPT = [np.arange(40), np.arange(3, 32)]  # passes of 3 batches of 16: the second member has dead slots
ASKED = [np.arange(40, 50), np.arange(41, 48)]
SIZES = Sizes(10, 40, K)
ALL = np.arange(toy.ROWS)


@functools.cache
def problem():
    """Classify the corner of the toy images with one hidden layer of four units."""
    model = build_model("mlp", K, SHAPE, widths=(WIDTH,))
    return TrainSpec(model, classification(), jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32), K, Recipe())


@functools.cache
def start():
    """Variables of two members, biases included, far from any minimum; read only."""
    init = lambda key: problem().model.init(key, jnp.zeros((1, *SHAPE)))
    found = jax.vmap(init)(jax.random.split(jax.random.key(0)))
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: np.asarray(x) + rng.normal(scale=0.5, size=x.shape).astype(np.float32), found)


def examples(targets=None):
    """The stored examples, optionally with other labels."""
    inputs, own = toy.examples()
    return Stored(jnp.asarray(inputs[:, :2, :2]), jnp.asarray(own if targets is None else targets))


def batch(rows, weight=None):
    """Some of the examples as a batch."""
    some = steps.batch(rows, weight=weight)
    return some._replace(inputs=some.inputs[:, :2, :2])


def variables(member):
    """One member's variables on the device."""
    return jax.tree.map(jnp.asarray, toy.member(start(), member))


def weights_of(tree, member):
    """(P,) a member's parameters in double precision, in the order of ``ravel_pytree``."""
    return steps.flat(toy.member(tree["params"], member))


@functools.cache
def made(name, static, task=problem, sizes=SIZES):
    """Fold and plan of a method; the same fold for the same settings, so that programs are reused."""
    entry = METHODS[name]
    static = entry.static | dict(static)
    return Fold(lambda hp, shared: entry.build(task(), static, hp)), entry.plan(sizes, static, task().recipe)


def keys(name, members=2):
    """The members' keys in a run of a method."""
    return member_keys(0, name, members)


def run(name, *, data=None, own=None, kept=KEPT, asked=ASKED, static=None, task=problem, sizes=SIZES, cut=None, **hp):
    """Final variables, by member, of a method's whole run on the population of two."""
    fold, plan = made(name, tuple(({"batch": 16} | (static or {})).items()), task, sizes)
    if cut is not None:
        plan = plan._replace(**{k: v[:cut] for k, v in plan._asdict().items() if isinstance(v, np.ndarray)})
    own = start() if own is None else own
    return toy.train(
        len(kept), fold=fold, plan=plan, hp=METHODS[name].numeric | hp, data=examples() if data is None else data,
        sets=make_tables(kept, asked), keys=keys(name, len(kept)), start=own,
    ).variables  # fmt: skip


# --- the network by NumPy ------------------------------------------------------------------------------------------


def forward(member, rows):
    """Inputs, hidden units and logits of some rows."""
    inputs = np.asarray(examples().inputs)[rows]
    return steps.forward(toy.member(start()["params"], member), inputs)


@functools.cache
def derivatives(member):
    """(rows, K, P) derivatives of the logits by backpropagation, an example and a class at a time."""
    kernel = np.asarray(start()["params"]["head"]["kernel"][member], np.float64)
    x, hidden, _ = forward(member, ALL)
    found = np.zeros((len(ALL), K, WEIGHTS))
    for i in ALL:
        for k in range(K):
            unit = kernel[:, k] * (hidden[i] > 0)
            chosen = np.eye(K)[k]
            found[i, k] = np.concatenate(
                [unit, np.outer(x[i], unit).ravel(), chosen, np.outer(hidden[i], chosen).ravel()]
            )
    return found


def jacobian(member, rows):
    """(n, K, P) derivatives of the logits of some rows."""
    return derivatives(member)[rows]


def probabilities(member, rows):
    """(n, K) of some rows."""
    return softmax(forward(member, rows)[-1], axis=1)


def gradients(member, rows, labels=None):
    """(n, P) gradient of each example's cross-entropy."""
    labels = toy.examples()[1][rows] if labels is None else labels
    slope = steps.entropy_slope(forward(member, rows)[-1], labels)
    return np.einsum("nk,nkp->np", slope, jacobian(member, rows))


def gauss_newton(member, rows):
    """(P, P) sum over examples of J' (diag p - p p') J."""
    p, j = probabilities(member, rows), jacobian(member, rows)
    curve = np.einsum("nk,kl->nkl", p, np.eye(K)) - p[:, :, None] * p[:, None, :]
    return np.einsum("nkp,nkl,nlq->pq", j, curve, j)


def sum_of_gradients(member, rows):
    """(P,) of the cross-entropies of some rows."""
    return gradients(member, rows).sum(axis=0)
