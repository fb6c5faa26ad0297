"""What is made of each requested example once, under the frozen original, and found again by row at every update.

Not a method: `boundary_shrink`, `l2ul` and `amun` make labels or adversarial examples in the first, exact pass of their
plans and train on these from then on. The setting ``slots`` is the room for them, the largest request of any member,
which the library fills in. Where the recipe augments, they are made of the augmented view that the pass shows.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from unlearn_jax.methods.support.common import TrainSpec
from unlearn_jax.methods.support.parts import pixels
from unlearn_jax.types import Array, Batch, PyTree, Variables


class Kept(NamedTuple):
    """What was made of the request, an example a slot."""

    rows: Array  # (S,) int32, -1 = an empty slot
    values: PyTree  # (S, ...)
    filled: Array  # () int32, slots of the pass so far


def room(slots: int, like: PyTree) -> Kept:
    """Empty slots for values shaped like ``like``, arrays or shapes of a single example."""
    slots = max(slots, 1)
    values = jax.tree.map(lambda x: jnp.zeros((slots, *x.shape), x.dtype), like)
    return Kept(jnp.full((slots,), -1, jnp.int32), values, jnp.int32(0))


def keep(kept: Kept, batch: Batch, values: PyTree) -> Kept:
    """``values`` (B, ...) of the next batch of the pass put into the next slots; dead examples are not kept."""
    at = kept.filled + jnp.arange(batch.weight.shape[0], dtype=jnp.int32)
    put = lambda into, new: into.at[at].set(new, mode="drop")  # only dead examples can lie beyond the last slot
    rows = put(kept.rows, jnp.where(batch.weight > 0, batch.index, -1))
    return Kept(rows, jax.tree.map(put, kept.values, values), kept.filled + batch.weight.shape[0])


def recall(kept: Kept, batch: Batch) -> PyTree:
    """The values (B, ...) of a batch's examples; anything for dead ones."""
    slot = jnp.argmax(kept.rows[None, :] == batch.index[:, None], axis=1)
    return jax.tree.map(lambda x: x[slot], kept.values)


def crossing(
    problem: TrainSpec, variables: Variables, batch: Batch, radius: Array | float, steps: int, radii: int
) -> tuple[Array, Array]:
    """The first images on a way away from the true label at which the prediction is wrong, and the predictions there.

    Normalised gradient steps of a tenth of the Euclidean radius, put back into the ball; the radius (pixel units of
    [0, 1]) is doubled after every ``steps`` steps, ``radii`` - 1 times, and an example stops where it crosses. Images
    are not clipped to [0, 1]. Costs radii x steps gradient evaluations and a forward pass.
    """
    images = pixels(batch.inputs)
    length = lambda x: jnp.sqrt(jnp.sum(x * x, axis=tuple(range(1, x.ndim)), keepdims=True) + 1e-12)
    apply = lambda x: problem.model.apply(variables, x, train=False)[0].logits
    predicted = lambda logits: jnp.argmax(logits, axis=-1).astype(batch.targets.dtype)

    def sureness(x):  # the loss is a falling function of it, but has no slope left where the model is certain
        logits = apply(x)
        return jnp.sum(problem.task.margin(logits, batch)), predicted(logits)

    def body(i, moved):
        limit = radius * 2.0 ** (i // steps).astype(jnp.float32)
        slope, labels = jax.grad(sureness, has_aux=True)(images + moved)
        onward = moved - 0.1 * limit * slope / length(slope)
        onward = onward * jnp.minimum(1.0, limit / length(onward))
        inside = (labels == batch.targets).reshape(-1, *[1] * (images.ndim - 1))
        return jnp.where(inside, onward, moved)

    crossed = lax.stop_gradient(images + lax.fori_loop(0, radii * steps, body, jnp.zeros_like(images)))
    return crossed, predicted(lax.stop_gradient(apply(crossed)))
