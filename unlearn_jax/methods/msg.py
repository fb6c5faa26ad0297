"""MSG: re-initialise the convolution weights on which forget and retain gradients agree least, then fine-tune.

Second place of the NeurIPS 2023 unlearning challenge (team Kookmin; as described in Cadet et al. 2024, arXiv
2410.01276, and reproduced with it). In each convolution the ``share`` of weights with the *smallest* absolute value of
the gradient of ``l(R) - l(F)`` at the original is drawn anew; fine-tuning on the retained data then moves the kept
convolution weights with gradients ``slow`` times as large. The rate changes by the epoch: of E epochs, it rises
linearly through the first W = (E + 1) // 2, the last of which has the whole rate, then falls linearly, to
1 / (E + 1 - W) in the last. Batch statistics in evaluation mode for the scores, training mode after.

Variants: ``l(R)`` is the mean over all retained data, there over a random part as large as the request; the model's own
initialisation, there normal with variance 2 / fan out. With Adam, which undoes a scaling of gradients, the step itself
is ``slow`` times as large. Models without convolutions: the dense kernels before the head.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    follow,
    mean_loss,
    phased_method,
)
from unlearn_jax.methods.support.parts import convolutions, fresh, loss_gradient, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, passes, phased_plan
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Method

FORGET, RETAIN, RESET, FIT = 0, 1, 2, 3


def smallest_share(scores: Array, share: Array | float) -> Array:
    """1 for the ``share`` of a tensor's entries with the smallest absolute value, else 0; of equal ones the first."""
    order = jnp.argsort(jnp.abs(scores).ravel())  # by rank, as whole rows of dead inputs have gradient 0
    chosen = jnp.arange(scores.size) < jnp.round(share * scores.size).astype(jnp.int32)
    return jnp.zeros(scores.size, scores.dtype).at[order].set(chosen.astype(scores.dtype)).reshape(scores.shape)


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Score, reset, fine-tune."""
    optimizer = descent(static, hp)

    def init(key, variables):
        params = variables["params"]
        zero = zeros_like(params)
        extra = {"forget": zero, "retain": zero, "counts": jnp.zeros(2), "new": zero}
        return Trained(params, variables["state"], optimizer.init(params), extra)

    def score(part, slot):
        def update(key, trained, batches):
            batch = getattr(batches, part)
            slope = loss_gradient(problem, {"params": trained.params, "state": trained.state}, batch)
            counts = trained.extra["counts"].at[slot].add(batch.weight.sum())
            new = {part: tree_add(trained.extra[part], slope), "counts": counts}
            return trained._replace(extra=trained.extra | new), jnp.float32(0.0)

        return update

    def reset(key, trained, batches):
        of_forget, of_retain = jnp.maximum(trained.extra["counts"], 1.0)
        drawn = fresh(problem, key)["params"]

        def one(conv, forget, retain):
            return conv * smallest_share(retain / of_retain - forget / of_forget, hp["share"])

        new = jax.tree.map(one, convolutions(problem, drawn), trained.extra["forget"], trained.extra["retain"])
        params = jax.tree.map(lambda m, w, d: jnp.where(m > 0, d, w), new, trained.params, drawn)
        return trained._replace(params=params, extra=trained.extra | {"new": new}), jnp.float32(0.0)

    def fit(key, trained, batches):
        def loss(params):
            return mean_loss(problem, {"params": params, "state": trained.state}, batches.retain, key, train=True)

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(trained.params)
        pace = lambda c, new: jnp.where((c > 0) & (new == 0), hp["slow"], 1.0).astype(new.dtype)
        paces = jax.tree.map(pace, convolutions(problem, grads), trained.extra["new"])
        if static["optimizer"] != "adam":
            grads = jax.tree.map(jnp.multiply, grads, paces)
        params, moments = follow(optimizer, grads, trained, batches.rate)
        if static["optimizer"] == "adam":
            params = jax.tree.map(lambda p, old, new: old + p * (new - old), paces, trained.params, params)
        return Trained(params, state, moments, trained.extra), value

    return phased_method(init, [score("forget", 0), score("retain", 1), reset, fit])


def rates(epochs: int) -> np.ndarray:
    """(E,) multiplier of the learning rate in each epoch: up to the middle, then down."""
    at, warm = np.arange(1, epochs + 1), (epochs + 1) // 2
    return np.where(at <= warm, at / warm, (epochs + 1 - at) / (epochs + 1 - warm))


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """A pass over each set for the scores, then ``epochs`` over the retained data."""
    batch = min(static["batch"], max(sizes.forget, 1))
    scan, whole = passes(sizes.forget, batch), passes(sizes.retain, static["batch"])
    fits = static["epochs"] * whole
    return phased_plan(
        np.repeat([FORGET, RETAIN, RESET, FIT], [scan, whole, 1, fits]),
        forget_batch=batch,
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0, 0.0, 0.0),
        retain_cost=(0.0, 1.0, 0.0, 1.0),
        rate=np.concatenate([np.ones(scan + whole + 1), np.repeat(rates(static["epochs"]), whole)]),
        forget_pass=scan,
        retain_pass=whole,
    )


ENTRY = MethodSpec(
    name="msg",
    paper="NeurIPS 2023 challenge, 2nd; Cadet et al. 2024, arXiv 2410.01276",
    rule="re-initialise the convolution weights with the smallest gradient of l(R) - l(F), then fine-tune",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 0.02, "share": 0.3, "slow": 0.1, "weight_decay": 5e-4},
    static={"epochs": 10, "batch": 128, "optimizer": "sgd", "momentum": 0.9},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 5e-3}, EARLIER),
        "small_text": ({"lr": 2e-4}, RULE),
        "small_transformer": ({"lr": 3e-3, "optimizer": "adam"}, EARLIER),
        "cifar": ({"lr": 1e-3, "epochs": 5, "batch": 64}, "the entry's: 5 epochs at 1e-3 in batches of 64"),
        "language": (
            {"lr": 1e-3, "epochs": 10, "batch": 32, "optimizer": "adam", "weight_decay": 0.0},
            "ours: Adam at 1e-3, a training rate, as what is drawn anew must be learned",
        ),
    },
    notes="dense kernels where there is no convolution",
    reads=BOTH,
    space=(RATE, Span("share", 0.1, 0.9, False)),
)
