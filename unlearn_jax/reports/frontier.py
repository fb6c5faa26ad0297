"""The section that weighs influence against price: the frontier in words and a figure, method by remedy in a table."""

from __future__ import annotations

import math
from html import escape

from unlearn_jax.reports.frontier_figure import anchor, frontier_figure, on_frontier, plotted
from unlearn_jax.reports.load import Run
from unlearn_jax.reports.provenance import link
from unlearn_jax.reports.sections import _figure, at, section
from unlearn_jax.reports.summary import Entry, Summary
from unlearn_jax.reports.table import figure_cell, name_cell, share_cell
from unlearn_jax.reports.words import CONTROLS, code, named, plain

MAX_TOLD = 6  # populations in a sentence
GOALS = {"cost": "cost", "distance": "distance", "rest": "price on rest", "test": "price on test"}
HEAD = (
    '<thead><tr><th class="name" rowspan="2" scope="col">Method and remedy</th>'
    '<th class="group" colspan="2" scope="colgroup">Influence left</th>'
    '<th class="group" colspan="3" scope="colgroup">Excess price, points</th>'
    '<th class="first" rowspan="2" scope="col">cost,<br>% of a<br>training</th>'
    "{search}"
    '<th class="first" rowspan="2" scope="col">on the<br>frontier,<br>% of draws</th>'
    '<th class="group" colspan="4" scope="colgroup">Goal met in</th></tr>'
    '<tr><th class="first" scope="col">residual<br>distance</th><th scope="col">signed<br>residual</th>'
    '<th class="first" scope="col">similar</th><th scope="col">rest</th><th scope="col">test</th>'
    "{searched}"
    '<th class="first" scope="col">cost</th><th scope="col">distance</th><th scope="col">rest</th>'
    '<th scope="col">test</th></tr></thead>'
)
SEARCH = '<th class="group" colspan="2" scope="colgroup">Search, %</th>'
SEARCHED = '<th class="first" scope="col">precision</th><th scope="col">recall</th>'


def frontier_section(run: Run) -> str:
    """The whole section; '' where the run has no frontier."""
    summary, level = run.summary, run.summary.levels[-1]
    entries = [e for e in summary.entries(level) if not e.is_reference]
    if not any(math.isfinite(summary.find(level, e, "frontier_share").mean) for e in entries):
        return ""
    told = "".join(f"<p>{named(sentence)}</p>" for sentence in frontier_words(summary, level))
    caption = (
        "Left and low is good. With 95% intervals; above 1 point the vertical axis is logarithmic. Strong, joined: the "
        "frontier among methods of practice. Diamonds: with a remedy. Open: off the frontier, or members diverged. "
        "Shaded: where influence and price meet the goal. Arrows: beyond the axis."
    )
    draw = lambda width: frontier_figure(summary, level, width)
    drawn = _figure(draw, "frontier", "Residual distance against excess price", caption, link(level))
    body = told + drawn + frontier_table(summary, level)
    return section("frontier", f"Who removes the influence{at(level)}, and at what price?", body)


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
    mine = [e for e in mine if missed(summary, level, e) is not None and not summary.wrecked(level, e)]
    met = [e for e in mine if not missed(summary, level, e)]
    if met:
        return f"{goal}. It is met by {', '.join(code(summary, e) for e in met)}."
    if not mine:
        return f"{goal}."
    lacking = ", ".join(missed(summary, level, mine[0]))
    return f"{goal}. No method meets it; the nearest to the oracle, {code(summary, mine[0])}, misses {lacking}."


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


def frontier_table(summary: Summary, level: int) -> str:
    """Every method with its remedies below it, methods by the smallest distance that any of them reaches."""
    groups: dict[str, list[Entry]] = {}
    for entry in summary.entries(level):  # by distance, so that groups are too
        if not entry.is_reference or entry.method == "retrain":
            groups.setdefault(entry.method, []).append(entry)
    search = any(math.isfinite(summary.find(level, e, "found_rows").mean) for group in groups.values() for e in group)
    rows = "".join(
        _row(summary, level, entry, search)
        for group in groups.values()
        for entry in sorted(group, key=lambda e: (e.remedy, e.setting))
    )
    words = (
        "Excess price: accuracy of the oracle less accuracy of the row; the oracle never saw the similar samples, so "
        "on them a negative price says only that the row still knows them. Cost: gradient evaluations of all that is "
        "done, as a share of one training from scratch. On the frontier: in how many of a hundred shared draws."
    )
    if search:
        words += (
            " Search: of the samples that the remedy took for similar ones, how many are (precision), and how many of "
            "those that are it took (recall)."
        )
    head = HEAD.format(search=SEARCH if search else "", searched=SEARCHED if search else "")
    table = f'<div class="scroll"><table>{head}<tbody>{rows}</tbody></table></div>'
    return f'<p class="caption">{escape(words)} {link(level)}</p>{table}'


def _row(summary: Summary, level: int, entry: Entry, search: bool) -> str:
    """One population."""
    find = lambda metric, split=None, reference=None: summary.find(level, entry, metric, split, reference)
    share, cost = find("frontier_share").mean, find("cost_share").mean
    cells = [
        share_cell(summary.distance(level, entry), first=True),
        share_cell(summary.residual(level, entry)),
        *(
            figure_cell(find("price_accuracy", s, "oracle"), 1, first=s == "similar")
            for s in ("similar", "rest", "test")
        ),
        _percent(cost, digits=1),
        *((_percent(find("found_precision").mean), _percent(find("found_recall").mean, edge=False)) if search else ()),
        _percent(share),
        *(_met(find(f"goal_{name}").mean, first=name == "cost") for name in GOALS),
    ]
    kind = ' class="reference"' if anchor(entry) else ""
    return f"<tr{kind}>{name_cell(summary, entry)}{''.join(cells)}</tr>"


def _met(value: float, first: bool) -> str:
    """A criterion of the goal in a cell."""
    edge, word = ' class="first"' if first else "", {1.0: "yes", 0.0: "no"}.get(value, "–")
    return f"<td{edge}>{f'<strong>{word}</strong>' if value == 1 else word}</td>"


def _percent(share: float, digits: int = 0, edge: bool = True) -> str:
    """A share in percent in a cell."""
    first = ' class="first"' if edge else ""
    return f"<td{first}>{100 * share:.{digits}f}</td>" if math.isfinite(share) else f"<td{first}>–</td>"
