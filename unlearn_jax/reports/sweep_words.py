"""What the page of a sweep says in words: its answer, and its terms."""

from __future__ import annotations

import math

from unlearn_jax.reports.sweep_load import Sweep
from unlearn_jax.reports.words import plain

UNCLEAR = (
    "Residuals are not identifiable here (fewer than 8 seeds in a request, or the originals differ from the oracle by "
    "no more than noise): read no order from distances."
)


def headline(sweep: Sweep) -> str:
    """What was chosen without the oracle, what that costs, and whether distances can be read."""
    return _chosen(sweep) + (f" {UNCLEAR}" if sweep.told.get("identifiable") is False else "")


def _chosen(sweep: Sweep) -> str:
    """What was chosen without the oracle, and what that costs."""
    own = sweep.told["choices"][sweep.rule]
    named = own["setting"] or "the defaults"
    said = f"Of {len(sweep.told['settings'])} settings of {sweep.method}, {named} is chosen without the oracle"
    if not own["allowed"]:
        said += ", though none was allowed: it harms held-out accuracy least"
    if "regret" not in own or not math.isfinite(own["regret"]):
        return f"{said}."
    best = own["best"] or "the defaults"
    if own["regret"] == 0:
        return f"{said}, at a residual distance of {own['distance']:.2f}; the oracle would have chosen the same."
    regret = sweep.apart(own["setting"], "regret")
    unsure = f"{plain(regret)}, not told from none" if regret.low <= 0 <= regret.high else plain(regret)
    costs = unsure if math.isfinite(regret.low) else f"{own['regret']:.2f}"
    return (
        f"{said}, at a residual distance of {own['distance']:.2f}. The best allowed one, {best}, is at "
        f"{own['best_distance']:.2f}: not looking costs {costs}."
    )
