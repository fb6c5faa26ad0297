"""Representer points: what each training row contributes to a query's logits [Yeh et al., 2018, arXiv 1811.09720].

If the last layer is linear in the features f, with weight decay l2 on its kernel and bias (the bias being the kernel of
a constant feature 1), and its gradient vanishes, then its weights are a sum over rows, so a query's logits are

    logits_q = sum_i alpha_i (f_i . f_q + 1),  alpha_i = -(1 / (l2 n)) d loss_i / d logits_i.

**Assumption**: that stationary point, of the objective (1/n) sum_i loss_i + l2/2 |w|^2 in the last layer alone. The
paper trains the last layer anew until it holds; here that is the caller's business, and `representer_logits` summed
over the rows against the model's logits tells how well it holds. Without it the scores are still influence with l2 I
for the curvature of the last layer: `gram` restricted to it, over l2.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from unlearn_jax.errors import InputError, choose
from unlearn_jax.influence.checks import check_targets, is_traced
from unlearn_jax.influence.pieces import check_sets, finite, score_dtype
from unlearn_jax.types import Array, Batch, Model, Task, Variables


def representer_values(
    model: Model, task: Task, variables: Variables, train: Batch, *, l2: float
) -> Float[Array, "n K"]:
    """The alphas (n, K): minus the slope of a row's loss at its logits, over l2 n, times the row's weight.

    Raises as `representer`.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, batch = build_model("linear", 2, (4,)), batch_of(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), batch.inputs))
        >>> print(representer_values(model, classification(), variables, batch, l2=0.5)[0])
        [ 0.25 -0.25]
    """
    _check(l2, train)
    check_targets(model, variables, train, "train")
    return finite(_program(model, task, "values", True)(variables, train, train, l2))


def representer_logits(
    model: Model, task: Task, variables: Variables, train: Batch, queries: Batch, *, l2: float, bias: bool = True
) -> Float[Array, "n q K"]:
    """Each row's contribution to each query's logits, (train, queries, K); their sum over rows is the model's logits.

    That holds under the module's assumption; the difference measures it. Arguments and errors as in `representer`.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, batch = build_model("linear", 2, (4,)), batch_of(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), batch.inputs))
        >>> representer_logits(model, classification(), variables, batch, batch, l2=0.5).shape
        (4, 4, 2)
    """
    _check(l2, train, queries)
    check_targets(model, variables, train, "train")
    check_targets(model, variables, queries, "queries")
    if len(queries.weight) == 0:
        classes = representer_values(model, task, variables, train, l2=l2).shape[1]
        return jnp.zeros((len(train.weight), 0, classes), score_dtype(variables))
    return finite(_program(model, task, "logits", bias)(variables, train, queries, l2))


def representer(
    model: Model,
    task: Task,
    variables: Variables,
    train: Batch,
    queries: Batch,
    *,
    l2: float,
    quantity: str = "margin",
    bias: bool = True,
) -> Float[Array, "n q"]:
    """Representer scores (train, queries): n times a row's contribution to a query's margin.

    Positive = training on i helped q; score / n is the **fall of q's margin** in nats when i's contribution to its
    logits is taken away and the others stay, to first order in the logits (the margin's gradient times the
    contribution). With ``quantity="loss"`` it is the rise of q's loss.

    Args:
        model: a classifier whose logits are linear in its ``features``.
        task: its task.
        variables: one member's.
        train: n rows; the weight multiplies a row's loss, so rows of weight 0 score 0; n counts them all.
        queries: q rows; the weight plays no part. None of them: the result is (n, 0).
        l2: the weight decay of the last layer, above 0.
        quantity: of the queries, ``margin`` or ``loss``.
        bias: the last layer has one, decayed like the kernel.

    Raises:
        InputError: an l2 not above 0, no train rows, language models (their features are no longer those of one
            position), labels that the model does not have, values that are not finite.

    Source: Yeh et al., 2018 (arXiv 1811.09720), theorem 3.1; by query's margin instead of one logit.

    Example:
        >>> from unlearn_jax.influence.per_example import batch_of
        >>> from unlearn_jax.models import build_model
        >>> from unlearn_jax.tasks import classification
        >>> model, batch = build_model("linear", 2, (4,)), batch_of(np.eye(4, dtype=np.float32), np.array([0, 1, 1, 0]))
        >>> variables = jax.tree.map(jnp.zeros_like, model.init(jax.random.key(0), batch.inputs))
        >>> scores = representer(model, classification(), variables, batch, batch, l2=0.5)
        >>> print(scores[1] / 4)  # without row 1 its own margin would fall by 1 nat, that of row 2 by half as much
        [-0.5  1.   0.5 -0.5]
    """
    _check(l2, train, queries)
    choose("quantity", quantity, ("margin", "loss"))
    check_targets(model, variables, train, "train")
    check_targets(model, variables, queries, "queries")
    if len(queries.weight) == 0:
        return jnp.zeros((len(train.weight), 0), score_dtype(variables))
    return finite(_program(model, task, quantity, bias)(variables, train, queries, l2))


def _check(l2, train: Batch, queries: Batch | None = None) -> None:
    check_sets(train, queries)
    if not is_traced(l2) and not (np.isfinite(l2) and l2 > 0):
        raise InputError(f"l2 is {l2}: representer points take the weight decay of the last layer, above 0.")


@functools.lru_cache(maxsize=64)
def _program(model: Model, task: Task, what: str, bias: bool):
    def seen(variables, batch: Batch, dtype) -> tuple[Array, Array]:
        outputs = model.apply(variables, batch.inputs, train=False)[0]
        if outputs.logits.ndim != 2:
            raise InputError("representer points take a classifier: use gram or trak for language models.")
        return outputs.logits.astype(dtype), outputs.features.astype(dtype)

    def slopes(logits: Array, batch: Batch, quantity: str) -> Array:
        return jax.grad(lambda z: getattr(task, quantity)(z, batch).sum())(logits)

    def run(variables, train, queries, l2):
        dtype = score_dtype(variables)
        logits, features = seen(variables, train, dtype)
        count = len(train.weight)
        alphas = -slopes(logits, train, "loss") * (train.weight.astype(dtype) / count / l2)[:, None]
        if what == "values":
            return alphas
        logits_q, features_q = seen(variables, queries, dtype)
        with jax.default_matmul_precision("highest"):
            likeness = features @ features_q.T + int(bias)
            if what == "logits":
                return likeness[:, :, None] * alphas[:, None, :]
            pull = count * likeness * (alphas @ slopes(logits_q, queries, what).T)
        return pull if what == "margin" else -pull

    return jax.jit(run)
