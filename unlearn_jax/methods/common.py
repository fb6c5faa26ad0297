"""What methods are given, how they declare themselves, and the gradient fold that most of them share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from unlearn_jax.errors import choose
from unlearn_jax.population.plans import Plan, Sizes
from unlearn_jax.trees import tree_scale
from unlearn_jax.types import Array, Batch, Method, Model, PyTree, Task, Variables


class Recipe(NamedTuple):
    """How a reference model is trained from scratch; the same for every reference."""

    optimizer: str = "adamw"  # adamw | sgd
    lr: float = 2e-3
    weight_decay: float = 1e-2
    momentum: float = 0.9  # sgd only
    steps: int = 1200
    batch: int = 128
    schedule: str = "constant"  # constant | cosine (one-cycle: a tenth of the steps to warm up)
    augment: str = "none"  # none | crop | crop_flip


class Problem(NamedTuple):
    """What every method is built from."""

    model: Model
    task: Task
    example: jax.ShapeDtypeStruct  # inputs of a batch of one, for fresh initialisations
    num_classes: int
    recipe: Recipe


class Entry(NamedTuple):
    """A registry entry: a method's builder and what the library must know to run and test it.

    ``build(problem, static, hp) -> Method`` where ``static`` holds the settings that fix shapes or code and ``hp``
    the numeric ones, which may be tracers; ``plan(sizes, static, recipe) -> Plan``.
    """

    name: str
    paper: str
    rule: str  # one line
    needs: frozenset  # of forget | retain | teacher | fresh_init | nothing
    build: Callable[[Problem, dict[str, Any], dict[str, Any]], Method]
    plan: Callable[[Sizes, dict[str, Any], Recipe], Plan]
    numeric: dict[str, float]
    static: dict[str, Any]


class Trained(NamedTuple):
    """State of a fold that follows gradients."""

    params: PyTree
    state: PyTree  # the model's running statistics
    optimizer: PyTree
    extra: PyTree = ()  # what the method keeps besides: a teacher, a mask, a key


def weighted_mean(values: Array, weight: Array) -> Array:
    """sum(w v) / sum(w), 0 where no weight is live; (B,), (B,) -> ()."""
    return jnp.sum(values * weight) / jnp.maximum(jnp.sum(weight), 1e-12)


def mean_loss(problem: Problem, variables: Variables, batch: Batch, key: Array | None, train: bool) -> tuple:
    """Weighted mean of the task's loss on a batch, and the model's new state."""
    outputs, state = problem.model.apply(variables, batch.inputs, key=key, train=train)
    return weighted_mean(problem.task.loss(outputs.logits, batch), batch.weight), state


def gradient_method(
    optimizer: optax.GradientTransformation, loss: Callable, *, extra: Callable | None = None
) -> Method:
    """The fold "follow the gradient of a loss from the original weights".

    Args:
        optimizer: an optax transformation; the plan's ``rate`` scales what it returns, so schedules live in plans.
        loss: ``(params, trained, batches, key) -> (scalar, new model state)``.
        extra: ``(key, variables) -> pytree`` kept in ``Trained.extra`` from the start; none = nothing.
    """

    def init(key: Array, variables: Variables) -> Trained:
        kept = extra(key, variables) if extra is not None else ()
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), kept)

    def update(key: Array, trained: Trained, batches) -> tuple[Trained, Array]:
        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(trained.params, trained, batches, key)
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to its int32 step count
            updates, moments = optimizer.update(grads, trained.optimizer, trained.params)
        updates = tree_scale(updates, batches.rate)
        return Trained(optax.apply_updates(trained.params, updates), state, moments, trained.extra), value

    return Method(init, update, finish)


def finish(trained: Trained) -> Variables:
    """The variables of a trained state."""
    return {"params": trained.params, "state": trained.state}


def sgd(lr: Array | float, momentum: float = 0.9, weight_decay: Array | float = 0.0) -> optax.GradientTransformation:
    """Stochastic gradient descent with heavy-ball momentum and coupled weight decay."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay), optax.trace(decay=momentum), optax.scale_by_learning_rate(lr)
    )


def descent(static: dict[str, Any], hp: dict[str, Any]) -> optax.GradientTransformation:
    """The optimizer that ``static["optimizer"]`` names: ``sgd`` with momentum, or ``adam``; weight decay is coupled."""
    rate, decay = hp["lr"], hp.get("weight_decay", 0.0)
    if choose("optimizer", static["optimizer"], ("sgd", "adam")) == "sgd":
        return sgd(rate, static["momentum"], decay)
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate))


def bounded_loss(problem: Problem, logits: Array, batch: Batch, bound: Array | float) -> Array:
    """Mean loss of a batch in which an example stops counting once its loss exceeds ``bound`` x ln K.

    At ln K the model is as wrong as chance; ascent beyond that only damages the model. ``bound`` = inf is the
    published, unbounded ascent.
    """
    losses = problem.task.loss(logits, batch)
    live = jax.lax.stop_gradient(losses) < bound * jnp.log(float(problem.num_classes))
    return weighted_mean(losses, jnp.where(live, batch.weight, 0.0)) * weighted_mean(
        live.astype(jnp.float32), batch.weight
    )
