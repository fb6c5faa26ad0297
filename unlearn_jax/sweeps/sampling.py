"""The settings of a sweep: what a hyperparameter may be, and which combinations are tried."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from unlearn_jax.errors import InputError, choose
from unlearn_jax.methods import METHODS, check_setting
from unlearn_jax.population.members import grid, setting_name
from unlearn_jax.remedies import REMEDIES, remedy_settings
from unlearn_jax.studies.hyperparameters import values_of

DRAWS = ("grid", "random", "sobol")
MAX_SETTINGS = 4096  # settings of a sweep
DIGITS = 4  # significant digits of a drawn number, so that a setting can be written down
EXAMPLE = "such as lr=log:1e-4:1e-1:16 or alpha=.1,.5"


class Axis(NamedTuple):
    """One hyperparameter of the sweep: values, or a range without a count, ``values`` = () then, to be drawn from."""

    name: str
    static: bool
    values: tuple = ()
    low: float = math.nan
    high: float = math.nan
    log: bool = False  # whether the range is even in the logarithm
    whole: bool = False


def parse_space(method: str, words: tuple[str, ...], remedy: str = "") -> list[Axis]:
    """The axes of a sweep over a method's hyperparameters, and over the settings of the remedy around it.

    Args:
        method: registry name.
        words: ``NAME=V1,V2``, ``NAME=lin:LOW:HIGH[:COUNT]`` or ``NAME=log:LOW:HIGH[:COUNT]`` each; ``METHOD.NAME`` will
            do. Entries of a setting that is a tuple are joined by ``+``: ``decay=5+8,10+16``. Values of whole numbers
            in a range are rounded and taken once. Settings of the remedy are ``REMEDY.NAME``, in the axes too.
        remedy: registry name; none = the method alone.

    Raises:
        InputError: malformed text, an unknown method or name, a name given twice, a value that the setting cannot have,
            a range that is empty, of a setting without order or, if logarithmic, not above 0.
    """
    METHODS.pick(method)
    if method == "retrain":
        raise InputError("retrain is a reference and has no settings to sweep: give another --method.")
    axes = {}
    for text in words:
        left, equals, values = text.partition("=")
        owner, dot, name = left.rpartition(".")
        if not (equals and values.strip(" ,")) or (dot and owner not in (method, remedy or method)):
            raise InputError(f"--hp '{text}' is not understood: write NAME=VALUES of {method}, {EXAMPLE}.")
        of_remedy = bool(dot) and owner == remedy
        remedy_settings(remedy, {name: values}) if of_remedy else check_setting(method, name)
        called = left if of_remedy else name
        if called in axes:
            raise InputError(f"--hp gives {called} twice: write its values once.")
        axis = _axis(remedy if of_remedy else method, name, values.strip())
        axes[called] = axis._replace(name=called, static=axis.static or of_remedy)
    if not axes:
        raise InputError(f"there is nothing to sweep: give --hp, {EXAMPLE}.")
    return list(axes.values())


def _axis(method: str, name: str, text: str) -> Axis:
    entry = (REMEDIES if method in REMEDIES else METHODS)[method]
    static = name in entry.static
    kind = type(entry.static[name]) if static else float
    scale, colon, rest = text.partition(":")
    if not colon or scale not in ("lin", "log"):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        parts = [part.replace("+", ",") for part in parts] if kind is tuple else parts
        values = dict.fromkeys(v for part in parts for v in values_of(method, name, part))
        return Axis(name, static, tuple(values))
    if kind not in (int, float):
        raise InputError(f"--hp {name}={text}: {method}.{name} has no range; list its values, separated by commas.")
    low, high, count = _range(name, text, scale, rest)
    for end in (low, high):
        values_of(method, name, str(int(end) if kind is int and end == int(end) else end))
    axis = Axis(name, static, (), low, high, scale == "log", kind is int)
    if count is None:
        return axis
    even = np.linspace(0.0, 1.0, count)
    return axis._replace(values=tuple(dict.fromkeys(_between(axis, u) for u in even)))


def _range(name: str, text: str, scale: str, rest: str) -> tuple[float, float, int | None]:
    """Both ends of a range and its count, None where it has none."""
    try:
        low, high, *more = rest.split(":")
        low, high, (count,) = float(low), float(high), [int(x) for x in more] or [None]
    except ValueError:
        raise InputError(
            f"--hp {name}={text} is not understood: write {scale}:LOW:HIGH:COUNT, such as log:1e-4:1e-1:16."
        ) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"--hp {name}={text}: give a range whose first number is below its second.")
    if scale == "log" and low <= 0:
        raise InputError(f"--hp {name}={text}: a logarithmic range must lie above 0; give lin: or another start.")
    if count is not None and not 2 <= count <= MAX_SETTINGS:
        raise InputError(f"--hp {name}={text}: give a count of 2 to {MAX_SETTINGS:,}.")
    return low, high, count


def _between(axis: Axis, u: float) -> float | int:
    """The value at share ``u`` in [0, 1] of a range."""
    if axis.log:
        value = math.exp(math.log(axis.low) + u * (math.log(axis.high) - math.log(axis.low)))
    else:
        value = axis.low + u * (axis.high - axis.low)
    if axis.whole:
        return int(min(max(round(value), math.ceil(axis.low)), math.floor(axis.high)))
    return min(max(float(f"{value:.{DIGITS}g}"), axis.low), axis.high)


def _drawn(axis: Axis, u: float) -> Any:
    """The value of an axis at a draw ``u`` in [0, 1); whole numbers of a linear range are equally likely."""
    if axis.values:
        return axis.values[int(u * len(axis.values))]
    if axis.whole and not axis.log:
        return int(axis.low) + int(u * (axis.high - axis.low + 1))
    return _between(axis, u)


def draw_settings(axes: list[Axis], draw: str = "grid", draws: int = 0, seed: int = 0) -> list[dict[str, Any]]:
    """The settings of a sweep, each once.

    Args:
        axes: hyperparameters.
        draw: ``grid``: every combination, first name slowest; ``random``: independent draws, even in each range and
            over listed values; ``sobol``: the first points of a scrambled Sobol sequence, which fill the space evenly.
        draws: settings drawn; of ``sobol`` a power of two, which it is balanced at. Of ``grid`` 0.
        seed: of the draws.

    Returns:
        At most ``draws`` of them, fewer where draws coincide. Drawn numbers have 4 significant digits.

    Raises:
        InputError: a range without a count in a grid, a number of draws that does not fit, more than 4,096 settings.
    """
    choose("draw", draw, DRAWS)
    if draw == "grid":
        if draws:
            raise InputError("--draws is for random and sobol: leave it out, or give --draw random or sobol.")
        if endless := [axis.name for axis in axes if not axis.values]:
            raise InputError(
                f"the range of {endless[0]} has no count: write LOW:HIGH:COUNT, or give --draw random or sobol."
            )
        if (count := math.prod(len(axis.values) for axis in axes)) > MAX_SETTINGS:
            raise InputError(
                f"the grid has {count:,} settings: give at most {MAX_SETTINGS:,}, or draw from it (--draw sobol)."
            )
        return grid({axis.name: list(axis.values) for axis in axes})
    if not 1 <= draws <= MAX_SETTINGS:
        raise InputError(f"--draws is {draws}: give 1 to {MAX_SETTINGS:,} settings.")
    points = [{axis.name: _drawn(axis, u) for axis, u in zip(axes, row)} for row in _unit(len(axes), draw, draws, seed)]
    return list({setting_name(point): point for point in points}.values())


def _unit(dimensions: int, draw: str, draws: int, seed: int) -> np.ndarray:
    """Draws from the unit cube, (draws, dimensions) in [0, 1)."""
    rng = np.random.default_rng([seed, 11])
    if draw == "random":
        return rng.random((draws, dimensions))
    if draws & (draws - 1):
        below = 1 << (draws.bit_length() - 1)
        raise InputError(f"--draws is {draws}: Sobol draws are balanced at powers of two, give {below} or {2 * below}.")
    from scipy.stats import qmc

    points = qmc.Sobol(dimensions, scramble=True, seed=rng).random_base2(draws.bit_length() - 1)
    return np.minimum(points, np.nextafter(1.0, 0.0))
