"""L2UL: instance-wise unlearning with adversarial examples and weight importance; no retained data.

Cha et al. 2024 (arXiv 2301.11578). Ascend the request's loss while (1) fitting ``images`` adversarial examples of each
requested one, made once under the original towards wrong labels, *to those labels*, which holds the decision boundary
where it was: both in proportion to their numbers; and (2) holding weights that matter little to the request: ``pull`` /
2 x the squared distance from the original weighted by 1 - importance, importance = mean absolute gradient of the
squared output norm on the request (memory-aware synapses), scaled to [0, 1] within each tensor. A member stops for good
once none of its requested examples is classified right: in as many batches as a pass has, before an update; the plan's
cost is that of members that never stop. Variants: the images of one example go to different labels (theirs are drawn
with replacement, from random starts), importance is per example (theirs: of batches, the norm unsquared), an example
stops counting once its loss passes ``bound`` x ln K (inf: the published ascent), batch statistics in evaluation mode
(theirs: training mode).
"""

from __future__ import annotations

from typing import cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.methods.support.attacks import keep, recall, room
from unlearn_jax.methods.support.common import (
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    bounded_loss,
    descent,
    follow,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.support.parts import attacked, sum_over_examples, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan, request_batch
from unlearn_jax.trees import tree_add, tree_select
from unlearn_jax.types import Array, Batch, Method, PyTree, Variables

PREPARE, FIT = 0, 1


def adversarial(
    problem: TrainSpec, original: Variables, batch: Batch, key: Array, radius: Array | float, steps: int, images: int
) -> tuple[Array, Array]:
    """(B, images, ...) attacks within ``radius`` towards as many wrong labels, and those labels (B, images)."""
    classes, truth = problem.num_classes, batch.targets.astype(jnp.int32)
    first = (wrong_labels(key, batch, classes, False).astype(jnp.int32) - truth) % classes
    shifts = 1 + (first[None, :] - 1 + jnp.arange(images, dtype=jnp.int32)[:, None]) % (classes - 1)
    labels = (truth[None, :] + shifts) % classes
    towards = lambda wrong: attacked(problem, original, batch, radius, steps, towards=wrong)
    return jnp.moveaxis(lax.map(towards, labels), 0, 1), labels.T


def importance(problem: TrainSpec, original: Variables, batch: Batch, micro: int) -> PyTree:
    """Sum over a batch of the absolute gradient of the squared norm of the logits."""

    def one(example):
        apply = lambda p: problem.model.apply(original | {"params": p}, example.inputs)[0].logits
        return jax.tree.map(jnp.abs, jax.grad(lambda p: jnp.sum(jnp.square(apply(p))))(original["params"]))

    return sum_over_examples(one, batch, micro)


def distance(params: PyTree, original: PyTree, weights: PyTree) -> Array:
    """Half the squared distance of the weights, each counted by 1 - its importance scaled to [0, 1] in its tensor."""

    def one(w, start, weight):
        span = jnp.maximum(weight.max() - weight.min(), 1e-12)
        return 0.5 * jnp.sum((1.0 - (weight - weight.min()) / span) * jnp.square(w - start))

    return cast(Array, sum(jax.tree.leaves(jax.tree.map(one, params, original, weights)), jnp.float32(0.0)))


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Weigh the weights and make the images in one pass, then ascend under both regularisers."""
    optimizer, many = descent(static, hp), static["images"]

    def init(key, variables):
        params, shape = variables["params"], problem.example.shape[1:]
        like = jax.ShapeDtypeStruct((many, *shape), jnp.float32), jax.ShapeDtypeStruct((many,), jnp.int32)
        extra = {"original": variables, "importance": zeros_like(params), "key": jax.random.key_data(key)}
        extra |= {"kept": room(static["slots"], like), "wrong": jnp.int32(0)}
        return Trained(params, variables["state"], optimizer.init(params), extra)

    def prepare(key, trained, batches):
        extra, batch = trained.extra, batches.forget
        total = tree_add(extra["importance"], importance(problem, extra["original"], batch, static["micro"]))
        kept = jax.random.wrap_key_data(extra["key"])
        examples = adversarial(problem, extra["original"], batch, kept, hp["radius"], static["attack_steps"], many)
        extra = extra | {"importance": total, "kept": keep(extra["kept"], batch, examples)}
        return trained._replace(extra=extra), jnp.float32(0.0)

    def fit(key, trained, batches):
        batch, extra = batches.forget, trained.extra
        images, labels = recall(extra["kept"], batch)
        each = lambda x: x.reshape(-1, *x.shape[2:])
        weight, index = (jnp.repeat(x, many) for x in (batch.weight, batch.index))
        moved = batch._replace(inputs=each(images), targets=each(labels), weight=weight, index=index)

        def loss(params):
            student = {"params": params, "state": trained.state}
            logits = problem.model.apply(student, batch.inputs, key=key, train=False)[0].logits
            held, _ = mean_loss(problem, student, moved, None, train=False)
            away = distance(params, extra["original"]["params"], extra["importance"])
            value = (many * held - bounded_loss(problem, logits, batch, hp["bound"])) / (1 + many)
            right = jnp.sum(jnp.where(batch.weight > 0, problem.task.correct(logits, batch), 0.0))
            return value + hp["pull"] * away, right

        (value, right), grads = jax.value_and_grad(loss, has_aux=True)(trained.params)
        params, moments = follow(optimizer, grads, trained, batches.rate)
        wrong = jnp.where(right > 0, 0, extra["wrong"] + 1)  # batches in a row without a right answer
        done = wrong >= passes(static["slots"], batch.weight.shape[0])
        params = tree_select(done, trained.params, params)
        return Trained(params, trained.state, moments, extra | {"wrong": wrong}), value

    return phased_method(init, [prepare, fit])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One pass for the importance and the images, then ``epochs`` over the request and its images."""
    batch = request_batch(sizes, static["batch"])
    scan = passes(sizes.forget, batch)
    return phased_plan(
        np.repeat([PREPARE, FIT], [scan, static["epochs"] * scan]),
        forget_batch=batch,
        retain_batch=0,
        forget_cost=(1.0 + static["images"] * static["attack_steps"], 1.0 + static["images"]),
        retain_cost=(0.0, 0.0),
        forget_pass=scan,
    )


ENTRY = MethodSpec(
    name="l2ul",
    paper="Cha et al. 2024, arXiv 2301.11578 (L2UL)",
    rule="ascend on the request, hold adversarial examples and weights that matter little to it",
    needs=frozenset({"forget", "teacher", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-3, "radius": 1.0, "pull": 1.0, "bound": 1.0, "weight_decay": 0.0},
    static={
        "epochs": 10,
        "batch": 128,
        "images": 4,
        "attack_steps": 10,
        "micro": 0,
        "optimizer": "adam",
        "momentum": 0.9,
        "slots": 0,
    },
    batch_stats="none",
    presets={
        "small": TUNED,
        "cifar": (
            {
                "lr": 1e-3,
                "radius": 4.0,
                "bound": float("inf"),
                "weight_decay": 1e-4,
                "epochs": 100,
                "images": 9,
                "attack_steps": 100,
                "optimizer": "sgd",
            },
            "the authors' script: SGD at 1e-3, momentum .9, attacks of norm 4 in 100 steps, until all are wrong; "
            "an image for each wrong class (theirs: 20 drawn); at most 100 epochs ours (theirs: 1,000)",
        ),
    },
    notes="retain-free; images only",
    space=(RATE, Span("pull", 0.1, 10.0)),
)
