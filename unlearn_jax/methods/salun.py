"""SalUn: random labels, with only the weights moving that the request's loss depends on most.

Fan et al. 2024 (arXiv 2310.12508). The saliency mask keeps the top share ``keep`` of all weights, one threshold over
all tensors, by the absolute value of the *summed signed* gradient of the request's loss at the original weights
(evaluation mode). Then `random_label`'s epochs, a pass over the request and one over the retained data as in the
public code on CIFAR-10, move those weights alone: gradient, momentum and decay of the others are held at zero, so they
stay bit-identical. Labels as in that code: redrawn at every showing, the true label allowed. Batch statistics in
evaluation mode for the mask and (variant) the request, training mode on the retained batch.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from unlearn_jax.methods import random_label
from unlearn_jax.methods.random_label import epoch_passes, label_losses
from unlearn_jax.methods.support.common import (
    BOTH,
    EARLIER,
    LANGUAGE,
    RATE,
    RULE,
    TUNED,
    MethodSpec,
    Recipe,
    Span,
    Trained,
    TrainSpec,
    descent,
    gradient_method,
    phased_method,
)
from unlearn_jax.methods.support.parts import loss_gradient, summed_loss, zeros_like
from unlearn_jax.population.plans import Plan, Sizes, phased_plan, request_batch
from unlearn_jax.trees import tree_add
from unlearn_jax.types import Array, Method, PyTree

GATHER, CUT, WRONG, TRUE = range(4)


def top_share(scores: PyTree, share: Array | float) -> PyTree:
    """1 where an entry is among the top ``share`` of all entries of all leaves by absolute value, else 0.

    Of entries that are equal, as the zeros of dead units are, the first ones go in, so that the share is kept.
    """
    leaves, structure = jax.tree.flatten(scores)
    flat = jnp.concatenate([jnp.abs(x).ravel() for x in leaves])
    count = flat.shape[0]
    dropped = jnp.clip(jnp.round((1.0 - share) * count).astype(jnp.int32), 0, count)
    least = jnp.sort(flat)[jnp.minimum(dropped, count - 1)]
    above, equal = flat > least, flat == least
    room = count - dropped - jnp.sum(above, dtype=jnp.int32)
    chosen = above | (equal & (jnp.cumsum(equal, dtype=jnp.int32) <= room))
    parts = jnp.split(chosen, np.cumsum([x.size for x in leaves])[:-1])
    return jax.tree.unflatten(structure, [part.reshape(x.shape).astype(x.dtype) for part, x in zip(parts, leaves)])


def build(problem: TrainSpec, static: dict, hp: dict) -> Method:
    """Gather the signed gradient over one pass, cut it to a mask, then fit random labels under the mask."""
    optimizer = descent(static, hp)

    def init(key, variables):
        params = variables["params"]
        extra = {
            "key": jax.random.key_data(key),
            "sum": zeros_like(params),
            "mask": jax.tree.map(jnp.ones_like, params),
        }
        return Trained(params, variables["state"], optimizer.init(params), extra)

    def gather(key, trained, batches):
        variables = {"params": trained.params, "state": trained.state}
        total = tree_add(trained.extra["sum"], loss_gradient(problem, variables, batches.forget))
        return trained._replace(extra=trained.extra | {"sum": total}), summed_loss(problem, variables, batches.forget)

    def cut(key, trained, batches):
        mask = top_share(trained.extra["sum"], hp["keep"])
        return trained._replace(extra=trained.extra | {"mask": mask}), jnp.float32(0.0)

    losses = label_losses(problem, static, hp, lambda trained: trained.extra["key"])
    fits = [gradient_method(optimizer, loss, mask=lambda trained: trained.extra["mask"]).update for loss in losses]
    return phased_method(init, [gather, cut, *fits])


def plan(sizes: Sizes, static: dict, recipe: Recipe) -> Plan:
    """An exact pass over the request for the mask, then ``epochs`` of `random_label`'s two passes."""
    of_forget, of_retain = epoch_passes(sizes, static)
    epoch = np.repeat([WRONG, TRUE], [of_forget, of_retain])
    return phased_plan(
        np.concatenate([[GATHER] * of_forget, [CUT], np.tile(epoch, static["epochs"])]),
        forget_batch=request_batch(sizes, static["batch"]),
        retain_batch=static["batch"],
        forget_cost=(1.0, 0.0, 1.0, 0.0),
        retain_cost=(0.0, 0.0, 0.0, 1.0),
        forget_pass=of_forget,
        retain_pass=of_retain,
    )


ENTRY = MethodSpec(
    name="salun",
    paper="Fan et al. 2024, arXiv 2310.12508",
    rule="random labels, moving only the weights most salient for the request's loss",
    needs=frozenset({"forget", "retain"}),
    build=build,
    plan=plan,
    numeric={"lr": 1e-4, "keep": 0.5, "retain_weight": 1.0, "weight_decay": 5e-4},
    static=random_label.ENTRY.static | {"redraw": True, "allow_true": True},
    presets={
        "small": TUNED,
        "small_conv": ({"lr": 0.01}, EARLIER),
        "small_transformer": ({"lr": 3e-3, "optimizer": "adam"}, EARLIER),
        "small_text": ({"lr": 3e-4, "optimizer": "adam"}, RULE),
        "cifar": (
            {"lr": 0.013, "batch": 256},
            "the paper's ResNet-18 on CIFAR-10: 10 epochs of SGD at .013 in batches of 256, half of the weights",
        ),
        "language": LANGUAGE,
    },
    notes="one threshold over all tensors",
    reads=BOTH,
    space=(RATE, Span("keep", 0.1, 0.9, False)),
)
