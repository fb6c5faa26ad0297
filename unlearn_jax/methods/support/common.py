"""What methods are given, how they declare themselves, and the gradient fold that most of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from optax import GradientTransformation

from unlearn_jax.errors import choose
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.population.program import Fold, Stored
from unlearn_jax.trees import tree_scale
from unlearn_jax.types import Array, Batch, Method, Model, PyTree, Recipe, Task, Variables


class TrainSpec(NamedTuple):
    """What every method is built from."""

    model: Model
    task: Task
    example: jax.ShapeDtypeStruct  # inputs of a batch of one, for fresh initialisations
    num_classes: int
    recipe: Recipe


class Context(NamedTuple):
    """What a method may ask of the study before it starts, besides its batches; lists and arrays are by member."""

    problem: TrainSpec
    seed: int
    stored: Stored  # every example of the study, by row
    kept: list[np.ndarray]  # rows retained
    requested: list[np.ndarray]  # rows to forget
    everything: list[np.ndarray]  # both
    clean: list[np.ndarray] | None  # the oracle's: rows outside the targets' clusters; for the need "reference" alone
    heldout: list[np.ndarray]  # rows never trained on, the validation split: no price is measured on them
    training: tuple[Fold, Plan, dict[str, float]]  # from scratch by the recipe
    train: Callable[..., Variables]  # (role, fold, plan, kept rows by model, *, start, hp) -> trained models
    predict: Callable[[Variables], np.ndarray]  # variables of N members -> logits of every row (N, n, K)
    margins: Callable[[Variables, np.ndarray], np.ndarray] | None = None  # (variables, k rows) -> margins (N, k), nats
    together: list[np.ndarray] | None = None  # (n,) group of each stored row, to stay whole; none = no groups


class Span(NamedTuple):
    """What one hyperparameter is swept over by ``--hp auto``: a range, or a list where it fixes shapes or code."""

    name: str
    low: float = 1 / 30
    high: float = 3.0
    times: bool = True  # whether the ends are multiples of the method's own value at the study's scale
    values: tuple = ()  # in place of a range


RATE = Span("lr")
FORGET_WEIGHT = Span("forget_weight", 0.1, 10.0)


class MethodSpec(NamedTuple):
    """A registry entry: a method's builder and what the library must know to run and test it.

    ``build(problem, static, hp) -> Method`` where ``static`` holds the settings that fix shapes or code and ``hp``
    the numeric ones, which may be tracers; ``plan(sizes, static, recipe) -> Plan``.
    """

    name: str
    paper: str
    rule: str  # one line
    needs: frozenset  # of NEEDS
    build: Callable[[TrainSpec, dict[str, Any], dict[str, Any]], Method]
    plan: Callable[[Sizes, dict[str, Any], Recipe], Plan]
    numeric: dict[str, float]
    static: dict[str, Any]
    batch_stats: str = "retain"  # whose batches move the running batch statistics: retain | both | none
    presets: dict[str, tuple[dict, str]] = {}  # by scale: settings, and where they come from
    notes: str = ""  # variant, limits
    begin: Callable[[Context, dict, Variables], tuple[Variables, tuple[float, float]]] | None = None
    # (context, static, original variables) -> variables that `init` is given, gradient evaluations spent on F and R
    end: Callable[[Context, dict, Variables, Variables], tuple[Variables, tuple[float, float]]] | None = None
    # (context, static, original, unlearned variables) -> the final variables, gradient evaluations spent on F and R
    model: Callable[[TrainSpec, dict], Model] | None = None  # the model that the result is evaluated with, if another
    reads: frozenset = frozenset({"classes"})  # kinds of answers that it is defined for: classes, language
    unfit: dict[
        str, str
    ] = {}  # by kind of answers, why no setting that was tried keeps the model; named explicitly, it runs
    check: Callable[[Sizes, dict, dict], None] | None = None
    # (sizes, static, numeric) -> raises `InputError` where the method can do nothing of use with them
    space: tuple[Span, ...] | None = None  # what a sweep tries; None = the rate, or the first number that is not 0
    stretched: tuple[str, ...] = ()  # static settings in the unit of the length, which a budget scales as it does that


LANGUAGE = (  # of iterative methods at language scale
    {"lr": 1e-5, "epochs": 10, "batch": 32, "optimizer": "adam"},
    "the usual setting of public language benchmarks: 10 epochs of Adam at 1e-5, batches of 32",
)
RULE = "the rule above"  # where defaults at the scales small and small_text come from, mostly
EARLIER = "the earlier rule above"  # of scales at which the rule has not been run
TUNED = ({}, RULE)
MILDER = "ours, not tuned: milder than the small scale's"
BOTH = frozenset({"classes", "language"})  # of `MethodSpec.reads`
NEEDS = {
    "forget": "reads the requested examples",
    "retain": "reads retained examples",
    "teacher": "keeps the original model as a teacher",
    "fresh_init": "does not start from the original's weights",
    "nothing": "changes nothing",
    "class": "only for requests of a whole class",
    "head": "replaces the last linear layer alone",
    "protocol": "prescribes how the original was trained, so trains its own",
    "reference": "is given the outputs of other retrained models, so no method of practice",
    "heldout": "reads examples that were never trained on",
    "pixels": "perturbs inputs, so runs on images and not on texts",
}


class Trained(NamedTuple):
    """State of a fold that follows gradients."""

    params: PyTree
    state: PyTree  # the model's running statistics
    optimizer: PyTree
    extra: PyTree = ()  # what the method keeps besides: a teacher, a mask, a key


def bind_shared(problem: TrainSpec, shared: PyTree) -> TrainSpec:
    """The problem with what all members share, ``{}`` for nothing, put back into every call of its model.

    New initialisations begin at the weights under ``shared["start"]``, where there are any.
    """
    if not shared:
        return problem
    model = problem.model

    def init(key, inputs):
        drawn = model.init(key, inputs)
        return drawn | {"params": drawn["params"] | shared.get("start", {})}

    apply = lambda variables, *args, **kw: model.apply({**variables, "shared": shared}, *args, **kw)
    return problem._replace(model=Model(init, apply))


def weighted_mean(values: Array, weight: Array) -> Array:
    """sum(w v) / sum(w), 0 where no weight is live; (B,), (B,) -> ().

    Example:
        >>> float(weighted_mean(jnp.array([2.0, 4.0, 9.0]), jnp.array([1.0, 1.0, 0.0])))
        3.0
    """
    return jnp.sum(values * weight) / jnp.maximum(jnp.sum(weight), 1e-12)


def mean_loss(problem: TrainSpec, variables: Variables, batch: Batch, key: Array | None, train: bool) -> tuple:
    """Weighted mean of the task's loss on a batch, and the model's new state."""
    outputs, state = problem.model.apply(variables, batch.inputs, key=key, train=train)
    return weighted_mean(problem.task.loss(outputs.logits, batch), batch.weight), state


def retained_loss(problem: TrainSpec, train: bool = True) -> Callable:
    """The loss of `gradient_method` that is the mean loss on the retained batch, in training or evaluation mode."""

    def loss(params: PyTree, trained: Trained, batches, key: Array) -> tuple:
        return mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=train)

    return loss


def gradient_method(
    optimizer: GradientTransformation, loss: Callable, *, extra: Callable | None = None, mask: Callable | None = None
) -> Method:
    """The fold "follow the gradient of a loss from the original weights".

    Args:
        optimizer: an optax transformation; the plan's ``rate`` scales what it returns, so schedules live in plans.
        loss: ``(params, trained, batches, key) -> (scalar, new model state)``.
        extra: ``(key, variables) -> pytree`` kept in ``Trained.extra`` from the start; none = nothing.
        mask: ``(trained) -> tree of 0 and 1`` like the parameters; where it is 0 neither gradient, nor momentum, nor
            decay moves a weight; none = all move.
    """

    def init(key: Array, variables: Variables) -> Trained:
        kept = extra(key, variables) if extra is not None else ()
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), kept)

    def update(key: Array, trained: Trained, batches) -> tuple[Trained, Array]:
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(trained.params, trained, batches, key)
        params, moments = follow(optimizer, grads, trained, batches.rate, None if mask is None else mask(trained))
        return Trained(params, state, moments, trained.extra), value

    return Method(init, update, finish)


def retained_descent(problem: TrainSpec, static: dict, hp: dict, *, train: bool = True, mask=None) -> Method:
    """The fold "descend on the retained loss from the original weights"; ``train`` and ``mask`` as above."""
    return gradient_method(descent(static, hp), retained_loss(problem, train), mask=mask)


def phased_method(init: Callable, branches: list[Callable], end: Callable | None = None) -> Method:
    """A fold whose update is one of ``branches``, ``(key, state, batches) -> (state, loss)``, chosen by the phase."""

    def update(key: Array, state, batches):
        return jax.lax.switch(batches.phase, branches, key, state, batches)

    return Method(init, update, end or finish)


def follow(optimizer, grads: PyTree, trained: Trained, rate: Array, mask: PyTree | None = None) -> tuple:
    """Parameters and optimizer state after one update scaled by ``rate``; weights with mask 0 stay bit-identical."""
    only = (lambda tree: tree) if mask is None else (lambda tree: jax.tree.map(jnp.multiply, tree, mask))
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 step count
        updates, moments = optimizer.update(only(grads), trained.optimizer, only(trained.params))
    updates = only(tree_scale(updates, rate))
    return optax.apply_updates(trained.params, updates), moments


def finish(trained: Trained) -> Variables:
    """The variables of a trained state."""
    return {"params": trained.params, "state": trained.state}


def sgd(lr: Array | float, momentum: float = 0.9, weight_decay: Array | float = 0.0) -> GradientTransformation:
    """Stochastic gradient descent with heavy-ball momentum and coupled weight decay."""
    step = optax.trace(decay=momentum), optax.scale_by_learning_rate(lr)
    return optax.chain(optax.add_decayed_weights(weight_decay), *step)


def descent(static: dict[str, Any], hp: dict[str, Any]) -> GradientTransformation:
    """The optimizer that ``static["optimizer"]`` names: ``sgd`` with momentum, or ``adam``; weight decay is coupled."""
    rate, decay = hp["lr"], hp.get("weight_decay", 0.0)
    if choose("optimizer", static["optimizer"], ("sgd", "adam")) == "sgd":
        return sgd(rate, static["momentum"], decay)
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))


def bounded_loss(problem: TrainSpec, logits: Array, batch: Batch, bound: Array | float) -> Array:
    """Mean loss of a batch in which an example stops counting once its loss exceeds ``bound`` x ln K.

    At ln K the model is as wrong as chance; ascent beyond that only damages the model. ``bound`` = inf is the
    published, unbounded ascent.
    """
    losses = problem.task.loss(logits, batch)
    return weighted_mean(unforgotten(problem, losses, bound) * losses, batch.weight)


def unforgotten(problem: TrainSpec, losses: Array, bound: Array | float) -> Array:
    """1 for losses below ``bound`` x ln K, 0 for others; (B,) -> (B,) float32, without a gradient."""
    return (jax.lax.stop_gradient(losses) < bound * jnp.log(float(problem.num_classes))).astype(jnp.float32)
