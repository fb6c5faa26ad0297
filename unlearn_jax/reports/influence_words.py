"""What the page of an attribution study says in words."""

from __future__ import annotations

import math

from unlearn_jax.reports.influence_load import Attribution
from unlearn_jax.reports.words import plain

NAMES = {
    "influence": "influence function",
    "newton": "Newton step",
    "ekfac": "EK-FAC",
    "trak": "TRAK",
    "representer": "representer points",
    "gram": "gradient products",
    "cosine": "gradient cosines",
    "datamodel": "datamodels",
    "feldman": "accuracy with less without",
    "gradient": "gradient norms",
    "removal": "removal itself",
}
TRACKS = {"exact": "softmax regression", "network": "networks"}
WORDS = [
    ("score", "For each training example and query, one sign and one unit: score / n is the predicted fall of the "
     "query's margin (log-odds of its true class, nats) when the example is removed and the normaliser n is kept. "
     "Positive = it helped."),
    ("predicted / actual", "Sum of predictions over sum of truths, each removed target asked about itself. 1 = right; "
     "of estimators whose size means nothing (gradient products, cosines, representer points) only order is told."),
    ("Newton step", "One step to where the optimum would lie without the group, with the group's own curvature taken "
     "out; the influence function is the same step with the curvature left in."),
    ("LDS", "Linear datamodelling score: by query, Spearman correlation between summed scores of a random half of the "
     "data and the margin of the model trained on it; mean over queries. Estimators of populations are fitted on other "
     "halves."),
    ("carried by similar", "Of what a cluster says of its target's margin, the share that the similar samples say: "
     "what deleting the target alone leaves. Removal itself: 1 - fall without the target / fall without its cluster."),
    ("similar found", "Share of a target's m similar samples among its m most helpful examples: does influence find "
     "the cluster?"),
    ("memorization", "Share of models right about an example when it was in their half of the data, less the share "
     "when it was not (Feldman and Zhang, arXiv 2008.03703)."),
]  # fmt: skip


def headline(run: Attribution) -> str:
    """What the run shows first of all."""
    track = run.tracks[0]
    one = run.find(track, "target", "influence", "own_ratio")
    many = run.find(track, "cluster", "influence", "own_ratio")
    newton = run.find(track, "cluster", "newton", "own_ratio")
    if math.isnan(many.value) or math.isnan(newton.value):
        return "Influence as gradients predict it, against what removal really does."
    return (
        f"On {TRACKS[track]}, influence functions predict {plain(one)} of what removing a target does to it, and their "
        f"sum {plain(many)} of what removing its whole cluster does. With the cluster's own curvature taken out: "
        f"{plain(newton)}."
    )
