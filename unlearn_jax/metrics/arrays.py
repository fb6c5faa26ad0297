"""What all metrics on plain arrays share: margins from logits, log-probabilities, and what odd input means.

Everything is computed in float64. Populations are (members, examples), or (members, examples, classes) for logits and
probabilities. One rule for odd input everywhere:

* an array of another shape, without an example, or whose examples are not those of its partner: `InputError`;
* a member with a NaN has diverged: it is left out, never averaged in. A figure for which too few members are left is
  NaN (each docstring says how many it needs);
* an infinite logit or margin is a certain answer: it counts as ``clip`` nats (100 by default). `summary`, `residual`
  and `utility` alone, which average any values, leave a member with an infinite value out too.

Arguments without an annotation may be anything that NumPy makes such an array of. Annotated are the shapes of results:
``members n`` names two axes, ``...`` are any number of them, and several shapes stand beside each other.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Integer, Shaped

from unlearn_jax.errors import InputError

CLIP = 100.0  # nats; margins beyond count as this


def log_softmax(logits) -> Float64[np.ndarray, "... C"]:
    """Log-probabilities over the last axis; (..., C) -> (..., C), float64.

    Infinite logits are held at the largest and smallest finite numbers, so that a class of logit infinity has
    probability 1.

    Example:
        >>> import numpy as np
        >>> np.exp(log_softmax([[0.0, np.log(3.0)]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    logits = np.nan_to_num(np.asarray(logits, np.float64), nan=np.nan, posinf=1e300, neginf=-1e300)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def plogp(p: np.ndarray) -> np.ndarray:
    """p log p in nats, 0 at 0."""
    return p * np.log(np.maximum(p, 1e-300))


def margin(logits, labels) -> Float64[np.ndarray, "... n"]:
    """Margin of the true label, ``z_y - logsumexp of the other logits`` in nats: its log-odds, which all audits take.

    Args:
        logits: (..., n, C), at least two classes; log-probabilities will do, for a shift changes nothing.
        labels: (n,) whole numbers in [0, C), or (..., n).

    Returns:
        (..., n) float64. NaN where a logit is NaN; 100 or -100 where infinite logits decide, or 0 where they tie.

    Raises:
        InputError: shapes that do not belong together, fewer than two classes, or a label that is no class.

    Source: Carlini et al. (arXiv 2112.03570), the logit scaling of the confidence; TRAK and KLOM use the same.

    Example:
        >>> import numpy as np
        >>> margin(np.log([[0.8, 0.1, 0.1]]), [0]).round(4).tolist()  # log(.8 / .2)
        [1.3863]
    """
    logits, labels = as_logits(logits, labels, "logits")
    true = np.take_along_axis(logits, labels[..., None], axis=-1)
    others = np.where(np.arange(logits.shape[-1]) == labels[..., None], -np.inf, logits)
    top = np.maximum(others.max(axis=-1, keepdims=True), -1e300)
    with np.errstate(over="ignore"):
        rest = top + np.log(np.exp(others - top).sum(axis=-1, keepdims=True))
        odds = (true - rest)[..., 0]
    return np.where(np.abs(odds) < 1e299, odds, np.sign(odds) * CLIP)


def as_logits(logits, labels, name: str) -> tuple[Float64[np.ndarray, "... n C"], Integer[np.ndarray, "... n"]]:
    """Logits (..., n, C) in float64 with infinities held at 1e300, and labels of shape (..., n); `InputError` else."""
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if logits.ndim < 2 or logits.shape[-1] < 2 or 0 in logits.shape:
        raise InputError(f"{name} is {logits.shape}: give (..., examples, classes) with two classes or more.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape not in (logits.shape[-2:-1], logits.shape[:-1]):
        raise InputError(
            f"labels are {labels.dtype} {labels.shape} for {name} {logits.shape}: give a whole number each."
        )
    if labels.min() < 0 or labels.max() >= logits.shape[-1]:
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()}: {name} has classes 0 to {logits.shape[-1] - 1}."
        )
    logits = np.nan_to_num(logits, nan=np.nan, posinf=1e300, neginf=-1e300)
    return logits, np.broadcast_to(labels, logits.shape[:-1])


def as_members(values, name: str, *, clip: float | None = CLIP, ndim: int = 2) -> Float64[np.ndarray, "members n ..."]:
    """A population in float64 without its diverged members, infinite values held at ``clip``.

    Args:
        values: (members, examples), with ``ndim`` axes.
        name: of the argument, for messages.
        clip: margins beyond count as this; None leaves them, and drops members with an infinite value too.
        ndim: number of axes.

    Returns:
        (members kept, examples, ...), perhaps without any member.

    Raises:
        InputError: another number of axes, or an axis without entries.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != ndim or 0 in values.shape:
        shape = "(members, examples)" if ndim == 2 else "(members, examples, classes)"
        raise InputError(f"{name} is {values.shape}: give {shape} with at least one of each.")
    bad = np.isnan(values) if clip is not None else ~np.isfinite(values)
    values = values[~bad.any(axis=tuple(range(1, ndim)))]
    return values if clip is None else np.clip(values, -clip, clip)


def same_examples(**populations: np.ndarray) -> None:
    """`InputError` unless all populations have the same examples (and classes)."""
    shapes = {name: values.shape[1:] for name, values in populations.items()}
    if len(set(shapes.values())) > 1:
        counts = ", ".join(f"{name} {shape[0]}" for name, shape in shapes.items())
        raise InputError(
            f"populations must be of the same examples, not {counts}: evaluate all of them on the same ones."
        )


def pair_of(unlearned, oracle, clip: float) -> tuple[Float64[np.ndarray, "members n"], Float64[np.ndarray, "others n"]]:
    """Both populations without diverged members, on the same examples."""
    if not clip > 0:
        raise InputError(f"clip is {clip}: give the largest margin that counts, in nats, above 0.")
    u, none = as_members(unlearned, "unlearned", clip=clip), as_members(oracle, "oracle", clip=clip)
    same_examples(unlearned=u, oracle=none)
    return u, none


def matched_members(u: np.ndarray, r: np.ndarray, bad) -> tuple[np.ndarray, np.ndarray]:
    """Two populations of equally many members, NaN for both of a pair of which one has a value that is ``bad``."""
    if len(u) != len(r):
        raise InputError(f"{len(u)} members cannot be matched with {len(r)}: take pairing 'all', or as many.")
    diverged = bad(u).reshape(len(u), -1).any(axis=1) | bad(r).reshape(len(r), -1).any(axis=1)
    one, other = (np.where(diverged.reshape(-1, *[1] * (x.ndim - 1)), np.nan, x) for x in (u, r))
    return one, other


def mean_of_finite(values: np.ndarray) -> float:
    """Mean of the values that are finite, NaN without any."""
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")


def whole_number(value, name: str, least: int = 1) -> int:
    """A whole number of at least ``least``; `InputError` else."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} is {value}: give a whole number of {least} or more.")
    return int(value)


def as_level(level: float) -> float:
    """The level of an interval, a share; `InputError` else."""
    if not 0 < level < 1:
        raise InputError(f"level is {level}: give a share between 0 and 1, .95 for 95%.")
    return float(level)


def cluster_numbers(clusters, examples: int) -> Shaped[np.ndarray, " {examples}"]:
    """Each example's cluster, (examples,); None = each its own. `InputError` for another length."""
    if clusters is None:
        return np.arange(examples)
    clusters = np.asarray(clusters)
    if clusters.shape != (examples,):
        raise InputError(f"clusters are {clusters.shape} for {examples} examples: give a cluster number for each.")
    return clusters
