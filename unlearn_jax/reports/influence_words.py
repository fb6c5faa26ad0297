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
