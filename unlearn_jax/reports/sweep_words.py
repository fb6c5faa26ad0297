"""What the page of a sweep says in words: its answer, and its terms."""

from __future__ import annotations

import math

from unlearn_jax.reports.sweep_load import Sweep
from unlearn_jax.reports.words import plain

SHARED = (  # with the page of sweeps of several methods
    ("Allowed",
     "No member diverged, and held-out accuracy cannot be told to have fallen by more than .5 points: the lower end of "
     "its interval is at most .5. A setting may so lose more than .5 points and be allowed."),
    ("Request surer than expected",
     "Mean margin of the request above what held-out examples suggest of examples never seen; of hard targets an upper "
     "bound."),
    ("Residual distance",
     "How far the request's margins are from the oracle's: 1 = as far as the original's, 0 = there. No choice without "
     "the oracle looks at it."),
    ("Regret",
     "Residual distance above that of the best allowed setting of the method (of all, where none is allowed). The best "
     "is the smallest of several noisy figures and so a little too small; the regret is a little too large, and its "
     "interval takes the best for known."),
)  # fmt: skip
WORDS = (
    ("Setting", "One value for each hyperparameter swept; all settings of one program train as one population."),
    ("Score", "What the rule wants small among allowed settings; it looks at originals and held-out examples alone."),
    *SHARED,
    ("Attack AUC",
     "How often one threshold on a model's margins puts a requested example above a held-out one; .5 = a guess."),
    ("Halving",
     "At each rung all settings left run from the originals, the whole schedule squeezed into a part of the length; "
     "what is clearly worse is dropped; what is left begins anew."),
)  # fmt: skip
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
