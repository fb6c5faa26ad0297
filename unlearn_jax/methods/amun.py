"""AMUN: fit adversarial examples of the request to the labels that the original gives them, beside retained data.

Ebrahimpour-Boroojeny et al. 2025 (arXiv 2503.00917). For each requested example the closest adversarial example is
looked for under the original: gradient steps away from the label within a Euclidean ``radius``, which is doubled until
the prediction changes; there it takes the original's own (wrong) label. Fitting it lowers the confidence on the request
along the boundary that the model already has. The examples are found once, then descent runs ``epochs`` times over the
union of retained and adversarial examples, each once an epoch, the rate falling tenfold every ``fall`` epochs. There
are two, by the authors' names: ``variant=amun`` also keeps the request with its true labels, which is the paper's rule,
and ``variant=advonly`` leaves it out. Differences: at most ``radii`` radii are tried, and an example that crosses
within none does not count; images are not clipped to [0, 1]; a batch has one slot at least for the request, so small
ones are shown more than once an epoch. Batch statistics in training mode on the retained batch, evaluation mode on the
others.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.errors import choose
from unlearn_jax.methods.support.attacks import crossing, keep, recall, room
from unlearn_jax.methods.support.common import (
    EARLIER,
    RATE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    gradient_method,
    mean_loss,
    phased_method,
)
from unlearn_jax.population.plans import FORWARD, Plan, Sizes, passes, phased_plan
from unlearn_jax.types import Method

BUILD, FIT = 0, 1


def keeps_request(static: dict) -> bool:
    """Whether the request is fitted as well, which `advonly` does not."""
    return choose("variant", static["variant"], ("amun", "advonly")) == "amun"


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Find the adversarial examples, then descend on retained and adversarial examples."""
    optimizer = descent(static, hp)

    def init(key, variables):
        image = jax.ShapeDtypeStruct(problem.example.shape[1:], jnp.float32)
        kept = room(static["slots"], (image, jax.ShapeDtypeStruct((), jnp.int32)))
        return Trained(variables["params"], variables["state"], optimizer.init(variables["params"]), kept)

    def find(key, trained, batches):
        original = {"params": trained.params, "state": trained.state}  # not moved yet
        crossings = crossing(problem, original, batches.forget, hp["radius"], static["attack_steps"], static["radii"])
        return trained._replace(extra=keep(trained.extra, batches.forget, crossings)), jnp.float32(0.0)

    def loss(params, trained, batches, key):
        student, batch = {"params": params, "state": trained.state}, batches.forget
        images, labels = recall(trained.extra, batch)
        crossed = jnp.where(labels != batch.targets, batch.weight, 0.0)
        beside = [batch._replace(inputs=images, targets=labels, weight=crossed)] + [batch] * keeps_request(static)
        held, state = mean_loss(problem, student, batches.retain, key, train=True)
        parts = [(held, batches.retain.weight.sum())]
        parts += [(mean_loss(problem, student, b, None, train=False)[0], b.weight.sum()) for b in beside]
        return sum(mean * n for mean, n in parts) / jnp.maximum(sum(n for _, n in parts), 1e-12), state

    return phased_method(init, [find, gradient_method(optimizer, loss).update])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over the request for its adversarial examples, then ``epochs`` over the union."""
    whole = passes(sizes.retain, static["batch"])
    batch = passes(sizes.forget, whole)  # slots by which the request lasts an epoch as well
    scan = passes(sizes.forget, batch)
    rate = np.repeat(0.1 ** (np.arange(static["epochs"]) // static["fall"]), whole)
    return phased_plan(
        np.repeat([BUILD, FIT], [scan, static["epochs"] * whole]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(static["radii"] * static["attack_steps"] + FORWARD, 1.0 + keeps_request(static)),
        retain_cost=(0.0, 1.0),
        forget_pass=scan,
        rate=np.concatenate([np.ones(scan), rate]),
    )


ENTRY = MethodSpec(
    name="amun",
    paper="Ebrahimpour-Boroojeny et al. 2025, arXiv 2503.00917",
    rule="fit adversarial neighbours of the request to the labels the original gives them, and the retained data",
    needs=frozenset({"forget", "retain", "pixels"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.01, "radius": 0.1, "weight_decay": 5e-4},
    static={
        "epochs": 10,
        "batch": 128,
        "attack_steps": 10,
        "radii": 5,
        "fall": 5,
        "variant": "amun",
        "optimizer": "sgd",
        "momentum": 0.9,
        "slots": 0,
    },
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 0.03}, EARLIER),
        "cifar": (
            {"lr": 0.01, "radius": 0.04, "attack_steps": 50, "radii": 7, "fall": 1},
            "the authors' README: 10 epochs at .01, falling every epoch; 50 steps a radius from .04 up",
        ),
    },
    notes="images only; variant=advonly leaves the request out",
    stretched=("fall",),
    space=(RATE, Span("radius", 0.3, 3.0)),
)
