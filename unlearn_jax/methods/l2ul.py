"""L2UL: instance-wise unlearning with adversarial examples and weight importance; no retained data.

Cha et al. 2024 (arXiv 2301.11578). Ascend the request's loss while (1) fitting adversarial examples of the request,
each made under the original towards a random wrong label, *to that label*, which holds the decision boundary where it
was, and (2) holding weights that matter little to the request: a quadratic pull to the original weighted by 1 -
importance, importance = mean absolute gradient of the squared output norm on the request (memory-aware synapses),
scaled to [0, 1] within each tensor. An example stops counting once its loss passes ``bound`` x ln K. Batch statistics
in evaluation mode.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.common import (
    TUNED,
    Entry,
    Problem,
    Recipe,
    Trained,
    bounded_loss,
    descent,
    gradient_method,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.parts import attacked, sum_over_examples, zeros_like
from unlearn_jax.methods.random_label import wrong_labels
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Method, PyTree

WEIGH, FIT = 0, 1


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Weigh the weights over one pass, then ascend under both regularisers."""
    optimizer = descent(static, hp)

    def init(key, variables):
        params = variables["params"]
        extra = {"original": variables, "importance": zeros_like(params), "key": jax.random.key_data(key)}
        return Trained(params, variables["state"], optimizer.init(params), extra)

    def weigh(key, trained, batches):
        def one(example):
            size = lambda p: jnp.sum(
                jnp.square(problem.model.apply(trained.extra["original"] | {"params": p}, example.inputs)[0].logits)
            )
            return jax.tree.map(jnp.abs, jax.grad(size)(trained.extra["original"]["params"]))

        total = tree_add(trained.extra["importance"], sum_over_examples(one, batches.forget, static["micro"]))
        return trained._replace(extra=trained.extra | {"importance": total}), jnp.float32(0.0)

    def pull(params: PyTree, trained: Trained) -> Array:
        def one(w, start, weight):
            span = jnp.maximum(weight.max() - weight.min(), 1e-12)
            return jnp.sum((1.0 - (weight - weight.min()) / span) * jnp.square(w - start))

        parts = jax.tree.map(one, params, trained.extra["original"]["params"], trained.extra["importance"])
        return sum(jax.tree.leaves(parts), jnp.float32(0.0))

    def loss(params, trained, batches, key):
        student, batch = {"params": params, "state": trained.state}, batches.forget
        logits = problem.model.apply(student, batch.inputs, key=key, train=False)[0].logits
        kept = jax.random.wrap_key_data(trained.extra["key"])
        labels = wrong_labels(jax.random.fold_in(kept, 7), batch, problem.num_classes, False)
        original, steps = trained.extra["original"], static["attack_steps"]
        moved = attacked(problem, original, batch, hp["radius"], steps, towards=labels)
        held, _ = mean_loss(problem, student, batch._replace(inputs=moved, targets=labels), None, train=False)
        value = -bounded_loss(problem, logits, batch, hp["bound"]) + held + hp["pull"] * pull(params, trained)
        return value, trained.state

    return phased_method(init, [weigh, gradient_method(optimizer, loss).update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """One pass for the importance, then ``epochs`` over the request, an attack at each update."""
    batch = min(static["batch"], max(sizes.forget, 1))
    scan = passes(sizes.forget, batch)
    return phased_plan(
        np.repeat([WEIGH, FIT], [scan, static["epochs"] * scan]),
        forget_batch=batch,
        retain_batch=0,
        forget_cost=(1.0, 2.0 + static["attack_steps"]),
        retain_cost=(0.0, 0.0),
        forget_pass=scan,
    )


ENTRY = Entry(
    name="l2ul",
    paper="Cha et al. 2024, arXiv 2301.11578 (L2UL)",
    rule="ascend on the request, hold adversarial examples and weights that matter little to it",
    needs=frozenset({"forget", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 3e-4, "radius": 1.0, "pull": 1.0, "bound": 1.0, "weight_decay": 0.0},
    static={"epochs": 10, "batch": 128, "attack_steps": 10, "micro": 16, "optimizer": "adam", "momentum": 0.0},
    batch_stats="none",
    presets={
        "small": TUNED,
        "cifar": ({"lr": 1e-3, "radius": 0.4, "optimizer": "sgd"}, "SGD at 1e-3, attacks of norm .4"),
    },
    notes="retain-free; images only",
)
