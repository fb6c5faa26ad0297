"""What ``--hp auto`` sweeps: for every method the rate, around its own, and the one other number that matters most.

A range is in multiples of the method's own value at the study's scale, even in the logarithm, or between two numbers
where the setting is a share. Settings that fix shapes or code have a list. Of all scales but small the defaults forget
too much rather than too little (docs/methods.md), so ranges go further down than up.
"""

from __future__ import annotations

import math

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, settings_at
from unlearn_jax.methods.support.common import Span

AUTO = "auto"
COUNTS = (5, 3)  # values on a grid: of the first setting, and of the other
DIGITS = 4


def space_of(method: str) -> tuple[Span, ...]:
    """What a method is swept over; of a method of the user's own its ``lr``, else its first number that is not 0."""
    if METHODS[method].space is not None:
        return METHODS[method].space
    numeric = METHODS[method].numeric
    names = ["lr"] * ("lr" in numeric) + [name for name, value in numeric.items() if 0 < value < math.inf]
    return (Span(names[0]),) if names else ()


def space_words(method: str, scale: str, counted: bool) -> dict[str, str]:
    """A method's space as words of ``--hp``, by name of the hyperparameter.

    Args:
        method: registry name.
        scale: whose defaults ranges are multiples of.
        counted: give ranges a count, for a grid.

    Example:
        >>> space_words("scrub", "small", False)
        {'lr': 'lr=log:0.0001333:0.012', 'alpha': 'alpha=log:0.05:5'}
    """
    words = {}
    for span, count in zip(space_of(method), COUNTS):
        if span.values:
            words[span.name] = f"{span.name}={','.join(map(str, span.values))}"
            continue
        usual = _usual(method, scale, span.name) if span.times else 1.0
        low, high = (f"{usual * end:.{DIGITS}g}" for end in (span.low, span.high))
        more = f":{count}" if counted else ""
        words[span.name] = f"{span.name}={'log' if span.times else 'lin'}:{low}:{high}{more}"
    return words


def _usual(method: str, scale: str, name: str) -> float:
    """A method's own value at a scale; at the scale small where it is 0 or infinite, such as a bound that is none."""
    value = settings_at(METHODS[method], scale)[1][name]
    return value if 0 < value < math.inf else METHODS[method].numeric[name]


def expanded(method: str, words: tuple[str, ...], scale: str, counted: bool) -> tuple[str, ...]:
    """Words of ``--hp`` with ``auto`` replaced by the method's space; what other words name is left to them.

    Raises:
        InputError: there is nothing to sweep.
    """
    if AUTO not in words:
        return words
    named_words = tuple(word for word in words if word != AUTO)
    named = {word.partition("=")[0].removeprefix(f"{method}.") for word in named_words}
    space = tuple(word for name, word in space_words(method, scale, counted).items() if name not in named)
    if not space + named_words:
        raise InputError(f"'{method}' has no hyperparameter that could be swept: give another --method.")
    return space + named_words


__all__ = ["AUTO", "Span", "expanded", "space_of", "space_words"]
