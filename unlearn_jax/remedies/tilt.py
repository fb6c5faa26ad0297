"""Tilt: after the method, give the request the original's probabilities without the true class, tilted to its like.

After TREW (Ebrahimpour-Boroojeny et al. 2026, arXiv 2506.20893, in earlier versions TRW): probabilities of neighbouring
classes reveal what was unlearned, and a target reweighted by the similarity of classes does not. What could be read is
the abstract and the public reviews of an earlier version. By them the published target sets the forgotten class to 0
and multiplies the others by exp(beta S), the projection of the original's distribution on those of a given mean
similarity; beta is 10, and S comes from the last layer's weights, by cosines after principal components and a sharp
softmax, for a whole class at once. Ours, on request and found neighbours: ``q(c) ~ p(c) exp(strength S(y, c))`` for c
other than the true class y, p the original's, S the cosine of the classes' mean logits on retained samples under the
original, less the mean over classes, neither projected nor sharpened, which is why ``strength`` is 1 and not 10. A
``strength`` of 0 is DELETE's target (arXiv 2503.23751). The method runs on request and found, then its students are
distilled to q on both and to themselves on retained batches (`distil`).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from unlearn_jax.data.similarity.nearest import unit_rows
from unlearn_jax.methods.support.parts import frozen
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, costing, moved, without
from unlearn_jax.remedies.distil import NUMERIC, STATIC, distilled, numbers_of, scores_cost
from unlearn_jax.remedies.search import CHOICES, SEARCH, searched
from unlearn_jax.trees import split_shared


def goal(problem, kept, batch, hp):
    """Logits of the tilted target; -inf at the true class."""
    logits = frozen(problem, kept["original"], batch.inputs).logits
    logits = logits + hp["strength"] * kept["classes"][batch.targets]
    true = jnp.arange(logits.shape[-1])[None, :] == batch.targets[:, None]
    return jnp.where(true, -jnp.inf, logits)


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Search, run the method, distil."""
    found, spent = searched(evidence, settings)
    treat = moved(evidence, found)
    logits = evidence.context(treat).predict(evidence.original)
    classes = np.stack([class_likeness(z[k], evidence.labels[k]) for z, k in zip(logits, treat.kept)])
    kept = {"original": split_shared(evidence.original)[0], "classes": classes}
    after = distilled(evidence, evidence.run(treat), found, goal, kept, numbers_of(settings, "strength"))
    return Remedied(costing(costing(after, *spent), *scores_cost(evidence)), found)


def class_likeness(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(K, K) float32 cosine of classes' mean logits, less the mean over classes; 0 for a class without samples."""
    count = logits.shape[-1]
    is_class = (np.arange(count)[:, None] == labels[None]).astype(np.float32)
    live = is_class.sum(axis=1) > 0
    means = is_class @ logits / np.maximum(is_class.sum(axis=1, keepdims=True), 1.0)
    means = np.where(live[:, None], means - means[live].mean(axis=0, keepdims=True), 0.0)
    unit = unit_rows(means.astype(np.float32))
    return (unit @ unit.T).astype(np.float32)


REMEDY = Remedy(
    name="tilt",
    paper="Ebrahimpour-Boroojeny et al. 2026, arXiv 2506.20893 (TREW)",
    rule="after the method, the original's other classes reweighted by their likeness, on request and neighbours",
    apply=apply,
    numeric=NUMERIC | {"strength": 1.0},
    static=SEARCH | STATIC,
    kinds=frozenset({"image", "text"}),
    methods=without("fresh_init", "protocol", "reference"),
    choices=CHOICES,
)
