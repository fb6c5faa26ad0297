"""Which layers count when influence is a by-product, and the damping then."""

from __future__ import annotations

from unlearn_jax.influence.taps import tappable
from unlearn_jax.types import Batch, Variables

MAX_ROWS = 5000  # rest rows that the curvature is fitted to, a fixed random subset
SMALL = 300_000  # weights up to which every layer counts; of larger networks the last alone
DAMPING = 0.1  # share of each layer's mean eigenvalue (Grosse et al. 2023)


def last_layer(model, variables: Variables, batch: Batch):
    """Predicate of the last layer that can be tapped: the head or, where that is the embedding, the one before."""
    layers = tappable(model, variables, batch)
    return (lambda name: name == layers[-1]) if layers else None
