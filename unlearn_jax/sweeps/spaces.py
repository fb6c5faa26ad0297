"""What ``--hp auto`` sweeps: for every method the rate, around its own, and the one other number that matters most.

A range is in multiples of the method's own value at the study's scale, even in the logarithm, or between two numbers
where the setting is a share. Settings that fix shapes or code have a list. Of all scales but small the defaults forget
too much rather than too little (docs/methods.md), so ranges go further down than up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from unlearn_jax.errors import InputError
from unlearn_jax.methods import METHODS, settings_at

AUTO = "auto"
COUNTS = (5, 3)  # values on a grid: of the first setting, and of the other
DIGITS = 4


class Span(NamedTuple):
    """What one hyperparameter is swept over."""

    name: str
    low: float = 1 / 30
    high: float = 3.0
    times: bool = True  # whether the ends are multiples of the method's own value
    values: tuple = ()  # in place of a range


RATE = Span("lr")
FORGET = Span("forget_weight", 0.1, 10.0)


def _rate_and(name: str, low: float, high: float, times: bool = True) -> tuple[Span, ...]:
    """The rate and another setting."""
    return (RATE, Span(name, low, high, times))


SPACES: dict[str, tuple[Span, ...]] = {
    "do_nothing": (),
    "retrain": (),  # a reference, by the recipe
    "finetune": (RATE,),
    "gradient_ascent": _rate_and("bound", 0.3, 10.0),
    "neggrad_plus": _rate_and("alpha", 0.5, 0.99, False),
    "random_label": _rate_and("retain_weight", 0.3, 3.0),
    "scrub": _rate_and("alpha", 0.1, 10.0),
    "scrub_r": _rate_and("alpha", 0.1, 10.0),
    "salun": _rate_and("keep", 0.1, 0.9, False),
    "bad_teacher": _rate_and("temperature", 0.5, 4.0),
    "l1_sparse": _rate_and("alpha", 0.1, 10.0),
    "eu_k": (RATE,),
    "cf_k": (RATE,),
    "boundary_shrink": _rate_and("epsilon", 0.3, 3.0),
    "boundary_expand": (RATE,),
    "unsir": _rate_and("penalty", 0.1, 10.0),
    "delete": (RATE,),
    "jit_lipschitz": _rate_and("noise", 0.3, 3.0),
    "l2ul": _rate_and("pull", 0.1, 10.0),
    "mu_mis": _rate_and("recovery", 0.1, 10.0),
    "lotus": _rate_and("alpha", 0.3, 3.0),
    "uam": _rate_and("rho", 0.1, 10.0),
    "ssd": (Span("level", 0.1, 3.0), Span("scale", 0.3, 3.0)),
    "lfssd": (Span("level", 0.1, 10.0), Span("scale", 0.3, 3.0)),
    "fisher": (Span("alpha"),),
    "influence": (Span("rate", 0.1, 3.0), Span("damping", 0.1, 1e3)),
    "woodfisher": (Span("alpha"), Span("damping", 0.1, 100.0)),
    "warnecke_first": (Span("tau"),),
    "warnecke_second": (Span("rate", 0.1, 3.0), Span("damping", 1.0, 30.0)),
    "certified_removal": (Span("l2", 0.1, 100.0), Span("sigma", 0.01, 3.0)),
    "gauss_newton": (Span("kl", 0.1, 30.0), Span("damping", 0.1, 100.0)),
    "certified_finetune": (RATE,),
    "fcs": _rate_and("repel_lr", 0.03, 3.0),
    "msg": _rate_and("share", 0.1, 0.9, False),
    "cfw": _rate_and("noise", 0.1, 2.0),
    "prmq": _rate_and("prune", 0.5, 0.999, False),
    "ct": (RATE,),
    "kde": _rate_and("temperature", 0.3, 3.0),
    "rni": _rate_and("noise", 0.1, 3.0),
    "brief_retrain": (Span("lr", 0.3, 3.0), Span("weight_decay", 0.1, 100.0)),
    "amnesiac": (RATE,),
    "sisa": (Span("shards", values=(2, 8)),),
    "langevin": (Span("noise", values=(0.0001, 0.01)),),
    "duck": _rate_and("forget_weight", 0.1, 3.0),
    "sfron": _rate_and("alpha", 0.01, 3.0),
    "rurk": _rate_and("weight", 0.1, 3.0),
    "rfe": _rate_and("tolerance", 0.1, 10.0),
    "amun": _rate_and("radius", 0.3, 3.0),
    "grad_diff": (RATE, FORGET),
    "kl_retain": (RATE, FORGET),
    "npo": _rate_and("beta", 0.3, 30.0),
    "simnpo": (RATE, FORGET),
    "dpo_idk": _rate_and("beta", 0.3, 30.0),
    "rmu": _rate_and("scale", 0.3, 10.0),
    "undial": _rate_and("beta", 0.1, 3.0),
    "wga": _rate_and("beta", 0.1, 5.0),
    "satimp": (RATE, FORGET),
    "ceu": (RATE,),
    "task_vector": _rate_and("alpha", 0.1, 3.0),
    "pdu": _rate_and("eps", 0.1, 10.0),
    "npo_sam": _rate_and("rho", 0.1, 10.0),
    "gru": _rate_and("beta", 0.3, 30.0),
    "negmerge": _rate_and("alpha", 0.1, 3.0),
    "oracle_matching": (RATE, FORGET),
    "datamodel_matching": (RATE, FORGET),
}


def space_of(method: str) -> tuple[Span, ...]:
    """What a method is swept over; of a method of one's own its ``lr``, else its first number that is not 0."""
    if method in SPACES:
        return SPACES[method]
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
    found = {}
    for span, count in zip(space_of(method), COUNTS):
        if span.values:
            found[span.name] = f"{span.name}={','.join(map(str, span.values))}"
            continue
        usual = _usual(method, scale, span.name) if span.times else 1.0
        low, high = (f"{usual * end:.{DIGITS}g}" for end in (span.low, span.high))
        more = f":{count}" if counted else ""
        found[span.name] = f"{span.name}={'log' if span.times else 'lin'}:{low}:{high}{more}"
    return found


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
    given = tuple(word for word in words if word != AUTO)
    named = {word.partition("=")[0].removeprefix(f"{method}.") for word in given}
    own = tuple(word for name, word in space_words(method, scale, counted).items() if name not in named)
    if not own + given:
        raise InputError(f"'{method}' has no hyperparameter that could be swept: give another --method.")
    return own + given


__all__ = ["AUTO", "SPACES", "Span", "expanded", "space_of", "space_words"]
