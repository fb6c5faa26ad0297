"""What the page of several sweeps says in words: its answer without the oracle and then with it, and its terms."""

from __future__ import annotations

from unlearn_jax.reports.overview_load import GOES_ON, Line, Sweeps
from unlearn_jax.reports.sweep_load import UNCLEAR
from unlearn_jax.reports.words import plain

UNITS = {"margins": "nats", "request": "nats", "heldout": "nats", "attack": "AUC", "retain": "points"}
MIN_SEEDS = 8  # seeds, for a distance to be identifiable
REASONS = {  # why -> what holds of such methods
    "clearly better": "a setting is clearly better",
    "the defaults are not allowed": "the defaults are not allowed, another setting is",
    "the defaults were dropped, or not tried": "the defaults were dropped, or not tried",
    "none is better than the defaults": "no allowed setting has a smaller score",
    "not told to be better than the defaults": "no setting is told to be better",
    "no setting is allowed": "no setting is allowed",
    "nothing to sweep": "there is nothing to sweep",
}


def reasons(told: Sweeps) -> list[tuple[bool, str, list[Line]]]:
    """(kept, why, methods), those that leave their defaults first, in the order of `REASONS`."""
    order, groups = list(REASONS), {}
    for line in told.lines:
        groups.setdefault((line.kept, line.why), []).append(line)
    place = lambda key: (key[0], order.index(key[1]) if key[1] in order else len(order))
    return [(*key, groups[key]) for key in sorted(groups, key=place)]


def headline(told: Sweeps) -> str:
    """How many methods leave their defaults, and why; nothing of it looks at the oracle."""
    count, left = len(told.lines), sum(not line.kept for line in told.lines)
    because = lambda kept: _listed(
        [f"for {len(lines)} {REASONS.get(why, why)}" for own, why, lines in reasons(told) if own == kept]
    )
    so_far = " so far" if told.unfinished else ""
    verb = "leaves its" if left == 1 else "leave their"
    said = f"{left or 'None'} of {count} methods {verb} defaults{so_far}"
    said += f": {because(False)}." if left else f": {because(True)}."
    return said + (f" The others keep them: {because(True)}." if 0 < left < count else "")


def chosen_by(told: Sweeps) -> str:
    """What the rule takes."""
    said = next(sweep.told["choices"][told.rule]["said"] for sweep in told.sweeps)
    return f"Chosen without the oracle, by the rule {told.rule}: among allowed settings, {said}."


def afterwards(told: Sweeps) -> str:
    """What the oracle says of it; '' where it was not looked at."""
    if not told.oracle:
        return ""
    said = ["The oracle, asked afterwards:"]
    if told.leaving:
        said.append(f"{_leaving(told.leaving)}.")
    if "preset" in told.rules:
        own = told.rules["preset"]
        sweeps = "the one sweep" if own["sweeps"] == 1 else f"mean over {own['sweeps']} sweeps"
        what = "What" if told.leaving else "what"
        said.append(
            f"{what} the file says is {plain(own['regret'])} farther than the best allowed setting (regret, "
            f"{sweeps}), and is that very setting for {own['best']:g}."
        )
    first = told.sweeps[0].told  # which has the originals and the oracle of all
    if first.get("identifiable") is False or told.told["asked"]["sweep"]["seeds"] < MIN_SEEDS:
        said.append(UNCLEAR)
    return " ".join(said)


def _leaving(own: dict) -> str:
    """What leaving the defaults did to the residual distance."""
    medians = f"median residual distance {own['preset']:.2f}, was {own['defaults']:.2f}"
    if not own["nearer"] + own["farther"] + own["neither"]:  # sweeps of earlier versions
        return f"where the file leaves the defaults: {medians}"
    return (
        f"of the {own['methods']} that leave their defaults, {own['nearer']} are told to be nearer to it and "
        f"{own['farther']} to be farther, {own['neither']} neither ({medians})"
    )


def progress(told: Sweeps) -> str:
    """How far an unfinished folder is; '' for one that is complete."""
    left = f" To come: {', '.join(told.waiting)}." if told.waiting else ""
    return f"Unfinished: {told.unfinished}; {GOES_ON}.{left}" if told.unfinished else ""


def _listed(parts: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
