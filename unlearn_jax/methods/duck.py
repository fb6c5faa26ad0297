"""DUCK: push the request's features to the nearest wrong class centroid, and keep fitting retained data.

Cotogni et al. 2023 (arXiv 2312.02052). Centroids: mean features of each class of the retained data under the original
(one exact pass, evaluation mode). For each requested example the nearest centroid of another class, in cosine distance
under the original, is fixed. Then two phases, as in the authors' code: descend ``forget_weight (1 - cos(features,
centroid)) + retain_weight l(R)``, the retained logits divided by ``temperature``, and stop after the first epoch at
whose end accuracy on the request is below that of the original on held-out examples (.01 where the request leaves no
example of its classes); then ``settle`` epochs at the rate ``settle_lr`` along half a cosine, with a tenth of
``forget_weight`` and a ``retain_weight`` of 1, whether or not the first phase stopped. Each phase has an Adam of its
own. Variants: an epoch is a pass over the retained data with the request cycled beside it (theirs: as many passes over
some retained batches as the request has batches); a member that has stopped idles until the last has, so the cost is
that of the whole plan; batches of the second phase are of the same size (theirs: 512), and images are not augmented
anew. Batch statistics in training mode on the retained batch, evaluation mode on the request.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.methods.support.common import (
    LANGUAGE,
    RATE,
    RULE,
    Context,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    phased_method,
    weighted_mean,
)
from unlearn_jax.methods.support.parts import frozen, gathered
from unlearn_jax.methods.support.phases import staged
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, cosine, passes, phased_plan, request_batch
from unlearn_jax.types import Array, Batch, Method, Variables

GATHER, FIT, LOOK, SETTLE = range(4)
WHOLE = 0.01  # accuracy to stop below where nothing of the request's classes stays


def cosines(a: Array, b: Array) -> Array:
    """Cosine of every row of a (B, D) with every row of b (K, D); (B, K), 0 for a row of zeros."""
    unit = lambda x: x / jnp.sqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-12))
    return unit(a) @ unit(b).T


def nearest_wrong(features: Array, centroids: Array, targets: Array) -> Array:
    """(B,) class other than the true one whose centroid (K, D) has the largest cosine with the features (B, D)."""
    likeness = cosines(features, centroids)
    is_target = jnp.arange(likeness.shape[1])[None, :] == targets[:, None]
    return jnp.argmax(jnp.where(is_target, -jnp.inf, likeness), axis=1)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Gather the centroids, then move the request's features to them."""
    features = lambda variables, inputs: problem.model.apply(variables, inputs, train=False)[0].features

    def init(key, variables):
        original = {name: variables[name] for name in ("params", "state")}
        width = jax.eval_shape(features, original, jnp.zeros(problem.example.shape, problem.example.dtype)).shape[-1]
        sums = jnp.zeros((problem.num_classes, width))
        extra = {"original": original, "centroids": sums}  # sums: a scale does not change a cosine
        extra |= {"done": jnp.float32(0.0), **{name: variables[name] for name in ("request", "stop")}}
        return Trained(original["params"], original["state"], begun(original["params"]), extra)

    def gather(key, trained, batches):
        batch = batches.retain
        is_class = jnp.arange(problem.num_classes)[:, None] == batch.targets[None, :]
        rows = jnp.where(is_class, batch.weight[None, :], 0.0)
        sums = rows @ frozen(problem, trained.extra["original"], batch.inputs).features
        return trained._replace(extra=trained.extra | {"centroids": trained.extra["centroids"] + sums}), jnp.float32(0)

    def loss(forget_weight, retain_weight):
        def of(params, trained, batches, key):
            student, forget, retain = {"params": params, "state": trained.state}, batches.forget, batches.retain
            centroids = trained.extra["centroids"]
            before = frozen(problem, trained.extra["original"], forget.inputs).features
            goal = lax.stop_gradient(centroids[nearest_wrong(before, centroids, forget.targets)])
            now = features(student, forget.inputs)
            away = weighted_mean(1.0 - jnp.diagonal(cosines(now, goal)), forget.weight)
            outputs, state = problem.model.apply(student, retain.inputs, key=key, train=True)
            held = weighted_mean(problem.task.loss(outputs.logits / hp["temperature"], retain), retain.weight)
            return forget_weight * away + retain_weight * held, state

        return of

    def look(key, trained, batches):
        some = trained.extra["request"]
        logits = problem.model.apply({"params": trained.params, "state": trained.state}, some["inputs"], train=False)
        batch = Batch(some["inputs"], some["targets"], some["weight"], jnp.zeros_like(some["targets"]))
        right = weighted_mean(problem.task.correct(logits[0].logits, batch), some["weight"])
        done = jnp.maximum(trained.extra["done"], (right < trained.extra["stop"]).astype(jnp.float32))
        return trained._replace(extra=trained.extra | {"done": done}), jnp.float32(0.0)

    def until_done(key, trained, batches):
        after, value = fit(key, trained, batches)
        return jax.tree.map(lambda old, new: jnp.where(trained.extra["done"] > 0, old, new), trained, after), value

    both = [descent(static, hp), descent(static, hp | {"lr": hp["settle_lr"]})]
    terms = [loss(hp["forget_weight"], hp["retain_weight"]), loss(hp["forget_weight"] / 10.0, 1.0)]
    begun, (fit, settle) = staged(both, terms)
    return phased_method(init, [gather, until_done, look, settle])


def begin(context: Context, static: dict, start: Variables) -> tuple[Variables, tuple[float, float]]:
    """Add each member's request, and the accuracy on it below which the first phase ends."""
    targets, heldout = np.asarray(context.stored.targets), context.heldout
    guesses = context.predict(start).argmax(axis=-1)
    stop = np.full(len(heldout), WHOLE, np.float32)
    for i, (kept, requested) in enumerate(zip(context.kept, context.requested)):
        if np.isin(targets[kept], targets[requested]).any() and len(heldout[i]):
            stop[i] = (guesses[i, heldout[i]] == targets[heldout[i]]).mean()
    seen = sum(map(len, heldout)) / len(heldout)
    return start | {"request": gathered(context, context.requested), "stop": stop}, (0.0, FORWARD * seen)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One pass for the centroids, ``epochs`` over the retained data, the request cycled beside them and looked at after
    each, and ``settle`` more."""
    scan = passes(sizes.retain, static["batch"])
    first, second = [FIT] * scan + [LOOK], static["settle"] * scan
    phases = np.asarray([GATHER] * scan + first * static["epochs"] + [SETTLE] * second, np.int32)
    batch = request_batch(sizes, static["batch"])
    return phased_plan(
        phases,
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(0.0, 1.0 + FORWARD, FORWARD * sizes.forget / batch, 1.0 + FORWARD),
        retain_cost=(FORWARD, 1.0, 0.0, 1.0),
        retain_pass=scan,
        rate=np.concatenate([np.ones(len(phases) - second), cosine(second)]),
    )


ENTRY = MethodSpec(
    name="duck",
    paper="Cotogni et al. 2023, arXiv 2312.02052",
    rule="pull the request's features to the nearest wrong class centroid, fit the retained data",
    needs=frozenset({"forget", "retain", "teacher", "heldout"}),
    build=build,
    plan=plan,
    numeric={
        "lr": 1e-3,
        "settle_lr": 1e-4,
        "forget_weight": 1.0,
        "retain_weight": 1.4,
        "temperature": 2.0,
        "weight_decay": 0.0,
    },
    static={"epochs": 10, "settle": 2, "batch": 128, "optimizer": "adam", "momentum": 0.9},
    presets={
        "small": ({}, "the authors' README and code, in batches of 128: theirs are of 1,024"),
        "small_text": ({"lr": 3e-4}, RULE),
        "cifar": (
            {"batch": 1024},
            "the authors' README: 10 epochs of Adam at 1e-3 in batches of 1,024, weights 1 and 1.4, temperature 2",
        ),
        "language": (LANGUAGE[0] | {"settle_lr": 1e-6}, LANGUAGE[1] + "; the second phase at a tenth, as published"),
    },
    notes="stops by held-out accuracy",
    begin=begin,
    space=(RATE, Span("forget_weight", 0.1, 3.0)),
)
