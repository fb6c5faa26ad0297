"""Perturb: whatever a method does to the request, it does to points near it, drawn anew at every update.

After RURK (Hsu et al. 2026, arXiv 2601.22359), known from its abstract, which shows that requested samples are still
recognised when they are slightly perturbed, and unlearns perturbed ones: here any method does. Each requested input is
replaced by a point drawn uniformly from the Euclidean ball of ``radius`` around it, in pixel units or in those of the
vectors that texts are read as. Nothing is searched for and nothing more is spent.
"""

from __future__ import annotations

import jax

from unlearn_jax.methods.rurk import in_ball
from unlearn_jax.methods.support.parts import pixels
from unlearn_jax.remedies.common import Remedied, Remedy, RemedyContext, without
from unlearn_jax.types import Method

STREAM = 23  # of the keys that an update derives


def wrap(method: Method, shared, hp) -> Method:
    """The method on perturbed requested examples."""
    del shared

    def update(key, state, batches):
        moved = in_ball(jax.random.fold_in(key, STREAM), pixels(batches.forget.inputs), hp["perturb_radius"])
        return method.update(key, state, batches._replace(forget=batches.forget._replace(inputs=moved)))

    return method._replace(update=update)


def apply(evidence: RemedyContext, settings: dict) -> Remedied:
    """Run the method with the wrap."""
    treat = evidence.plain._replace(wrap=wrap, hp={"perturb_radius": settings["radius"]})
    return Remedied(evidence.run(treat))


REMEDY = Remedy(
    name="perturb",
    paper="Hsu et al. 2026, arXiv 2601.22359 (RURK)",
    rule="the request's inputs are perturbed by noise of a radius at every update",
    apply=apply,
    numeric={"radius": 0.5},
    static={},
    kinds=frozenset({"image", "text"}),
    inputs=frozenset({"images", "vectors"}),
    methods=without("nothing", "protocol", "reference", forget=True),
)
