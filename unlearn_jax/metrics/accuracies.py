"""Accuracies of populations by split, checked."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from unlearn_jax.errors import InputError

SPLITS = ("forget", "retain", "test", "mia")


def accuracies_of(values: Mapping, name: str, ndim: int = 1) -> dict[str, np.ndarray]:
    """Accuracies by split, with NaN throughout for a member that diverged in any of them; `InputError` if odd."""
    out = {split: np.asarray(v, np.float64) for split, v in values.items()}
    if not out or any(v.ndim != ndim or not v.size for v in out.values()):
        shape = "one accuracy a member" if ndim == 1 else "correctness (members, examples)"
        raise InputError(f"{name} is { ({s: v.shape for s, v in out.items()}) }: give {shape} for each split.")
    if len({len(v) for v in out.values()}) > 1:
        raise InputError(f"splits of {name} have other members: evaluate every member on all splits.")
    if any((v < 0).any() or (v > 1).any() for v in out.values()):
        raise InputError(f"{name} has values outside [0, 1]: give shares, not points.")
    finite = np.all([np.isfinite(v).reshape(len(v), -1).all(axis=1) for v in out.values()], axis=0)
    mask = finite if ndim == 1 else finite[:, None]
    return {split: np.where(mask, v, np.nan) for split, v in out.items()}


def both_accuracies(unlearned: Mapping, reference: Mapping, names=None, ndim: int = 1) -> tuple[dict, dict]:
    """Both populations' accuracies on the named splits."""
    splits = tuple(unlearned) if names is None else names
    unknown = [n for n in splits if n not in SPLITS]
    if unknown:
        raise InputError(f"unknown splits {', '.join(unknown)}: name them {', '.join(SPLITS)}.")
    missing = [n for n in splits if n not in unlearned or n not in reference]
    if missing or (names is None and set(unlearned) != set(reference)):
        named = f"{', '.join(unlearned)} and {', '.join(reference)}"
        raise InputError(f"splits are {named}: give both populations {', '.join(names or ('the same',))}.")
    part = lambda p, name: accuracies_of({n: p[n] for n in splits}, name, ndim)
    return part(unlearned, "unlearned"), part(reference, "reference")
