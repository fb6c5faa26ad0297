"""Influence against price in words: the frontier, who is on it, and who meets the goal."""

from __future__ import annotations

import math

from unlearn_jax.reports.frontier_figure import anchor, on_frontier, plotted
from unlearn_jax.reports.summary import Entry, Summary
from unlearn_jax.reports.words import CONTROLS, code, plain

MAX_TOLD = 6  # populations in a sentence
GOALS = {"cost": "cost", "distance": "distance", "rest": "price on rest", "test": "price on test"}


def frontier_words(summary: Summary, level: int) -> list[str]:
    """What the frontier is, who is on it, and who meets the goal, in sentences."""
    entries = [e for e in summary.entries(level) if plotted(summary, level, e)]
    best = [e for e in entries if on_frontier(summary, level, e)]
    listed = "; ".join(
        f"{code(summary, e)} at distance {plain(summary.distance(level, e))} for "
        f"{plain(summary.find(level, e, 'largest_price'), 1)} points" + _often(summary, level, e)
        for e in best[:MAX_TOLD]
    ) + (f"; and {len(best) - MAX_TOLD} more" if len(best) > MAX_TOLD else "")
    words = [
        "A method is on the frontier where no other leaves less influence at a price as low: whoever wants less of one "
        f"must pay with more of the other. On it, from the least influence to the lowest price: {listed}."
    ]
    words += [_on_settings()] if _several(summary, level) else []
    if not summary.identifiable(level):
        return [*words, "At this level residuals are not identifiable: read no order from them."]
    return [*words, _on_goal(summary, level, entries)]


def _often(summary: Summary, level: int, entry: Entry) -> str:
    """How often the draws have a population on the frontier."""
    share = summary.find(level, entry, "frontier_share").mean
    return f" (on it in {100 * share:.0f}% of the draws)" if math.isfinite(share) else ""


def _on_goal(summary: Summary, level: int, entries: list[Entry]) -> str:
    """Who meets all of the goal, or what the nearest of practice misses."""
    goal = (
        "The goal is a distance whose interval ends below a fifth of retraining's, prices on rest and test under .3 "
        "points, and a tenth of the cost of one training"
    )
    mine = [e for e in entries if not anchor(e) and not e.kind and e.method not in CONTROLS]
    misses = [(e, missed(summary, level, e)) for e in mine if not summary.wrecked(level, e)]
    known = [(e, missing) for e, missing in misses if missing is not None]
    met = [e for e, missing in known if not missing]
    if met:
        return f"{goal}. It is met by {', '.join(code(summary, e) for e in met)}."
    if not known:
        return f"{goal}."
    nearest, missing = known[0]
    told = f"{code(summary, nearest)}, misses {', '.join(missing)}"
    return f"{goal}. No method meets it; the nearest to the oracle, {told}."


def _several(summary: Summary, level: int) -> bool:
    """Whether some method was run at several settings."""
    pairs = [(e.method, e.remedy) for e in summary.entries(level) if not e.is_reference]
    return len(pairs) > len(set(pairs))


def _on_settings() -> str:
    """A caution: the best of several settings was found by looking."""
    return (
        "Some methods were run at several settings. Their best one here was found by looking at the oracle: choose it "
        "on other targets (unlearn-jax choose), and report that."
    )


def missed(summary: Summary, level: int, entry: Entry) -> list[str] | None:
    """The criteria of the goal that a population misses; None where they were not measured."""
    cells = {name: summary.find(level, entry, f"goal_{name}").mean for name in GOALS}
    if not math.isfinite(cells["cost"] + cells["distance"]):
        return None
    return [GOALS[name] for name, value in cells.items() if value == 0]
