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


def reasons(sweeps: Sweeps) -> list[tuple[bool, str, list[Line]]]:
    """(kept, why, methods), those that leave their defaults first, in the order of `REASONS`."""
    order, groups = list(REASONS), {}
    for line in sweeps.lines:
        groups.setdefault((line.kept, line.why), []).append(line)
    place = lambda key: (key[0], order.index(key[1]) if key[1] in order else len(order))
    return [(*key, groups[key]) for key in sorted(groups, key=place)]


def headline(sweeps: Sweeps) -> str:
    """How many methods leave their defaults, and why; nothing of it looks at the oracle."""
    count, left = len(sweeps.lines), sum(not line.kept for line in sweeps.lines)
    because = lambda kept: _listed(
        [f"for {len(lines)} {REASONS.get(why, why)}" for group, why, lines in reasons(sweeps) if group == kept]
    )
    so_far = " so far" if sweeps.unfinished else ""
    verb = "leaves its" if left == 1 else "leave their"
    sentence = f"{left or 'None'} of {count} methods {verb} defaults{so_far}"
    sentence += f": {because(False)}." if left else f": {because(True)}."
    return sentence + (f" The others keep them: {because(True)}." if 0 < left < count else "")


def chosen_by(sweeps: Sweeps) -> str:
    """What the rule takes."""
    sentence = next(sweep.told["choices"][sweeps.rule]["said"] for sweep in sweeps.sweeps)
    return f"Chosen without the oracle, by the rule {sweeps.rule}: among allowed settings, {sentence}."


def afterwards(sweeps: Sweeps) -> str:
    """What the oracle says of it; '' where it was not looked at."""
    if not sweeps.oracle:
        return ""
    sentences = ["The oracle, asked afterwards:"]
    if sweeps.leaving:
        sentences.append(f"{_leaving(sweeps.leaving)}.")
    if "preset" in sweeps.rules:
        result = sweeps.rules["preset"]
        over = "the one sweep" if result["sweeps"] == 1 else f"mean over {result['sweeps']} sweeps"
        what = "What" if sweeps.leaving else "what"
        sentences.append(
            f"{what} the file says is {plain(result['regret'])} farther than the best allowed setting (regret, "
            f"{over}), and is that very setting for {result['best']:g}."
        )
    first = sweeps.sweeps[0].told  # which has the originals and the oracle of all
    if first.get("identifiable") is False or sweeps.told["asked"]["sweep"]["seeds"] < MIN_SEEDS:
        sentences.append(UNCLEAR)
    return " ".join(sentences)


def _leaving(leaving: dict) -> str:
    """What leaving the defaults did to the residual distance."""
    medians = f"median residual distance {leaving['preset']:.2f}, was {leaving['defaults']:.2f}"
    if not leaving["nearer"] + leaving["farther"] + leaving["neither"]:  # sweeps of earlier versions
        return f"where the file leaves the defaults: {medians}"
    return (
        f"of the {leaving['methods']} that leave their defaults, {leaving['nearer']} are told to be nearer to it and "
        f"{leaving['farther']} to be farther, {leaving['neither']} neither ({medians})"
    )


def progress(sweeps: Sweeps) -> str:
    """How far an unfinished folder is; '' for one that is complete."""
    left = f" To come: {', '.join(sweeps.waiting)}." if sweeps.waiting else ""
    return f"Unfinished: {sweeps.unfinished}; {GOES_ON}.{left}" if sweeps.unfinished else ""


def _listed(parts: list[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))
