"""AMUN: fit adversarial examples of the request to the labels that the original gives them, beside retained data.

Ebrahimpour-Boroojeny et al. 2025 (arXiv 2503.00917). For each requested example an adversarial example close to it is
found under the frozen original and takes the original's own (wrong) label there: fitting it lowers the confidence on
the request along the boundary that the model already has, so little else changes. Descend ``l(R) + l(adversarial)``,
without the request itself. Variant: untargeted projected gradient ascent within a fixed Euclidean ``radius`` instead
of the paper's search for the least one; an example whose attack fails does not count. Batch statistics in training
mode on the retained batch, evaluation mode on adversarial examples.
"""

from __future__ import annotations

import jax.numpy as jnp

from unlearn_jax.methods.common import TUNED, Entry, Problem, Recipe, descent, gradient_method, mean_loss
from unlearn_jax.methods.parts import attacked, frozen
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, epochs_over_retained
from unlearn_jax.types import Array, Batch, Method, Variables


def adversarial(problem: Problem, variables: Variables, batch: Batch, radius, steps: int) -> tuple[Array, Array]:
    """Images within Euclidean ``radius`` (pixel units of [0, 1]) that raise the loss, and the model's labels there."""
    # the same direction as that of the loss, which has no slope left where the model is certain
    unsure = problem.task._replace(loss=lambda logits, some: -problem.task.margin(logits, some))
    found = attacked(problem._replace(task=unsure), variables, batch, radius, steps)
    labels = jnp.argmax(frozen(problem, variables, found).logits, axis=-1)
    return found, labels.astype(batch.targets.dtype)


def build(problem: Problem, static: dict, hp: dict) -> Method:
    """Descent on retained and adversarial examples."""

    def loss(params, trained, batches, key):
        student, batch = {"params": params, "state": trained.state}, batches.forget
        images, labels = adversarial(problem, trained.extra, batch, hp["radius"], static["attack_steps"])
        crossed = jnp.where(labels != batch.targets, batch.weight, 0.0)
        moved = batch._replace(inputs=images, targets=labels, weight=crossed)
        held, state = mean_loss(problem, student, batches.retain, key, train=True)
        return held + mean_loss(problem, student, moved, None, train=False)[0], state

    return gradient_method(descent(static, hp), loss, extra=lambda key, variables: variables)


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """``epochs`` passes over the retained data, the request attacked beside each batch."""
    return epochs_over_retained(sizes, static, forget_cost=1.0 + FORWARD + static["attack_steps"])


ENTRY = Entry(
    name="amun",
    paper="Ebrahimpour-Boroojeny et al. 2025, arXiv 2503.00917",
    rule="fit adversarial neighbours of the request to the labels the original gives them, and the retained data",
    needs=frozenset({"forget", "retain", "teacher"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "radius": 0.2, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "attack_steps": 10, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "cifar": ({"radius": 1.0}, "10 epochs of SGD at .01, as in the paper's comparison; radius ours"),
    },
    notes="fixed radius; images only",
)
